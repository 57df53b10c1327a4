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
from seom.storage.reserve import Reserve

# SQLite reports a full disk by the first, and where it maps or creates files by the others.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class Database:
    """An open database; rows come back as sqlite3.Row."""

    def __init__(self, path: Path) -> None:
        """Open or create the database and bring its schema up to date.

        Raises SystemFailure when the file is damaged or from a newer Seom.
        """
        self.path = path
        self._reserve = Reserve(path.with_suffix(".reserve"))
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._run("PRAGMA journal_mode=WAL")
            self._run("PRAGMA synchronous=NORMAL")
            self._run("PRAGMA foreign_keys=ON")
            damage = self._run("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage)
            self._migrate()
            self._reserve.fill()
        except sqlite3.DatabaseError as error:
            raise SystemFailure(
                f"the database {path} cannot be used: {error}; restore it from a backup, or move it away "
                "to start with an empty one (images and volumes on disk are kept)"
            ) from error

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        """Run one statement; outside transaction() it commits by itself.

        Raises SystemFailure when the disk is full and the reserve is used up.
        """
        return self._run(sql, parameters)

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
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close; SQLite folds the write-ahead log into the file."""
        self._connection.close()

    def _run(self, sql: str, parameters: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Execute; when the disk is full, once more without the reserve."""
        before = self._connection.in_transaction
        try:
            cursor = self._connection.execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _FULL:
                raise
            # SQLite may have rolled the transaction back: then one statement of it must not run alone.
            if self._connection.in_transaction != before or not self._reserve.release():
                raise SystemFailure(
                    f"the database {self.path} could not be written: {error}; if there is no space left on "
                    "device, remove containers or images that are not needed"
                ) from error
            return self._connection.execute(sql, parameters)
        self._reserve.fill()
        return cursor

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
