"""The names of images: tags, digests by which registries know them, and what tags meant before."""

from __future__ import annotations

import time

from seom.errors import InvalidParameter
from seom.oci.reference import Reference, parse_reference
from seom.storage.database import Database


class Names:
    """Rows of names; changes happen in the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(self, reference: Reference) -> str | None:
        """The id of the image with this tag or digest, if there is one."""
        if reference.digest:
            row = self._db.row(
                "SELECT image_id FROM repository_digest WHERE repository=? AND digest=?",
                reference.repository,
                reference.digest,
            )
        else:
            row = self._db.row(
                "SELECT image_id FROM tag WHERE repository=? AND tag=?", reference.repository, reference.tag
            )
        return row[0] if row else None

    def of_image(self, image_id: str) -> list[Reference]:
        """Every name of an image: tags, then digests."""
        tags = self._db.rows(
            "SELECT repository, tag FROM tag WHERE image_id=? ORDER BY repository, tag", image_id
        )
        digests = self._db.rows(
            "SELECT repository, digest FROM repository_digest WHERE image_id=? ORDER BY repository, digest",
            image_id,
        )
        return [_reference(row[0], tag=row[1]) for row in tags] + [
            _reference(row[0], digest=row[1]) for row in digests
        ]

    def by_image(self) -> dict[str, list[Reference]]:
        """Every name of every image."""
        found: dict[str, list[Reference]] = {}
        for row in self._db.rows("SELECT image_id, repository, tag FROM tag ORDER BY repository, tag"):
            found.setdefault(row[0], []).append(_reference(row[1], tag=row[2]))
        digests = self._db.rows(
            "SELECT image_id, repository, digest FROM repository_digest ORDER BY repository, digest"
        )
        for row in digests:
            found.setdefault(row[0], []).append(_reference(row[1], digest=row[2]))
        return found

    def tags_of_repository(self, name: str) -> list[tuple[Reference, str]]:
        """Every tag of a repository named without tag or digest, with the image id; empty otherwise."""
        try:
            wanted = parse_reference(name)
        except InvalidParameter:
            return []
        if wanted.tag or wanted.digest:
            return []
        rows = self._db.rows(
            "SELECT tag, image_id FROM tag WHERE repository=? ORDER BY tag", wanted.repository
        )
        return [(wanted.with_tag(row[0]), row[1]) for row in rows]

    def tag_history(self, reference: Reference) -> list[tuple[str, int]]:
        """What a tag meant: (image id, since when in ns), oldest first."""
        rows = self._db.rows(
            "SELECT image_id, tagged_ns FROM tag_history WHERE repository=? AND tag=? ORDER BY rowid",
            reference.repository,
            reference.tag,
        )
        return [(row[0], row[1]) for row in rows]

    def set_tag(self, reference: Reference, image_id: str) -> str | None:
        """Let a tag mean this image; returns the id it meant before, if another."""
        before = self.find(reference)
        self._db.execute(
            "INSERT OR REPLACE INTO tag VALUES (?,?,?)", reference.repository, reference.tag, image_id
        )
        if before == image_id:
            return None
        self._db.execute(
            "INSERT INTO tag_history VALUES (?,?,?,?)",
            reference.repository,
            reference.tag,
            image_id,
            time.time_ns(),
        )
        return before

    def set_digest(self, reference: Reference, image_id: str) -> None:
        """Let a digest of a repository mean this image."""
        self._db.execute(
            "INSERT OR REPLACE INTO repository_digest VALUES (?,?,?)",
            reference.repository,
            reference.digest,
            image_id,
        )

    def untag(self, reference: Reference) -> None:
        """Forget a tag or a digest; nothing happens if it is unknown."""
        if reference.digest:
            self._db.execute(
                "DELETE FROM repository_digest WHERE repository=? AND digest=?",
                reference.repository,
                reference.digest,
            )
        else:
            self._db.execute(
                "DELETE FROM tag WHERE repository=? AND tag=?", reference.repository, reference.tag
            )

    def forget(self, image_id: str) -> None:
        """Forget every name of an image."""
        self._db.execute("DELETE FROM tag WHERE image_id=?", image_id)
        self._db.execute("DELETE FROM repository_digest WHERE image_id=?", image_id)


def _reference(repository: str, tag: str = "", digest: str = "") -> Reference:
    domain, _, path = repository.partition("/")
    return Reference(domain, path, tag, digest)
