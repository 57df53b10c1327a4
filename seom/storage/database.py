"""The one SQLite database: facts that must survive a crash, in short transactions.

Called directly from the event loop (a commit costs about 20 microseconds with
synchronous=NORMAL in WAL mode), never from worker threads. Each package keeps its own SQL;
the schema grows by the numbered files in ``migrations/``, each applied once, in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from seom.errors import SystemFailure


class Database:
    """An open database; rows come back as sqlite3.Row."""

    def __init__(self, path: Path) -> None:
        """Open or create the database and bring its schema up to date.

        Raises SystemFailure when the file is damaged or from a newer Seom.
        """
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            damage = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage)
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise SystemFailure(
                f"the database {path} cannot be used: {error}; restore it from a backup, or move it away "
                "to start with an empty one (images and volumes on disk are kept)"
            ) from error

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """Run one statement; outside transaction() it commits by itself."""
        return self._connection.execute(sql, parameters)

    def row(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        found: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
        return found

    def rows(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[None]:
        """All statements inside take effect together or not at all; transactions do not nest.

        durable waits for the disk: for facts a user was told are stored and that exist only here.
        Nothing may be awaited inside.
        """
        if durable:
            self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        else:
            self._connection.execute("COMMIT")
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close; SQLite folds the write-ahead log into the file."""
        self._connection.close()

    def _migrate(self) -> None:
        scripts = sorted(
            (
                entry
                for entry in resources.files("seom.storage").joinpath("migrations").iterdir()
                if entry.name.endswith(".sql")
            ),
            key=lambda entry: entry.name,
        )
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(scripts):
            raise SystemFailure(f"the database {self.path} was made by a newer Seom; install that version")
        for number, script in enumerate(scripts[version:], start=version + 1):
            self._connection.executescript(
                f"BEGIN;\n{script.read_text()}\nPRAGMA user_version={number};\nCOMMIT;"
            )
