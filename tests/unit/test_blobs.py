import hashlib
import os
from pathlib import Path

import pytest

from seom.errors import InvalidParameter, NotFound, SystemFailure
from seom.storage.blobs import BlobStore, DigestMismatch
from seom.storage.leases import Leases


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def ingested(blobs: BlobStore) -> list[Path]:
    return list((blobs.root / "ingest").iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_found_under_its_digest(blobs: BlobStore, algorithm: str) -> None:
    digest = f"{algorithm}:{hashlib.new(algorithm, b'onetwo').hexdigest()}"
    with blobs.writer(digest, 6) as writer:
        writer.write(b"one")
        assert not blobs.exists(digest)
        writer.write(memoryview(b"two"))
        assert writer.commit() == digest
    assert blobs.read(digest, 100) == b"onetwo"
    assert b"".join(blobs.verified(digest)) == b"onetwo"
    assert list(blobs.digests()) == [digest]
    assert blobs.size(digest) == 6
    assert not ingested(blobs)


def test_content_with_another_digest_is_never_stored(blobs: BlobStore) -> None:
    expected = "sha256:" + hashlib.sha256(b"right").hexdigest()
    with pytest.raises(DigestMismatch, match="expected"):
        blobs.add(b"wrong", expected)
    with pytest.raises(DigestMismatch, match="longer"), blobs.writer(expected, 2) as writer:
        writer.write(b"right")
    with pytest.raises(DigestMismatch, match="were declared"), blobs.writer("", 9) as writer:
        writer.write(b"right")
        writer.commit()
    assert list(blobs.digests()) == []
    assert not ingested(blobs)


def test_a_writer_can_start_over(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"half of so")
        writer.restart()
        writer.write(b"whole")
        digest = writer.commit()
    assert blobs.read(digest, 10) == b"whole"


def test_damage_on_disk_is_noticed_and_repaired_by_storing_again(blobs: BlobStore) -> None:
    digest = blobs.add(b"content")
    os.truncate(blobs.path(digest), 3)
    with pytest.raises(SystemFailure, match="damaged"):
        blobs.read(digest, 100)
    with pytest.raises(SystemFailure, match="damaged"):
        list(blobs.verified(digest))
    assert blobs.add(b"content") == digest
    assert blobs.read(digest, 100) == b"content"


def test_leftovers_of_a_crash_are_removed(blobs: BlobStore) -> None:
    writer = blobs.writer()
    writer.write(b"never finished")
    assert ingested(blobs)
    blobs.remove_leftovers()
    assert not ingested(blobs)
    writer.discard()


def test_a_missing_blob_and_a_bad_digest_are_told_apart(blobs: BlobStore) -> None:
    with pytest.raises(NotFound):
        blobs.open("sha256:" + "0" * 64)
    with pytest.raises(InvalidParameter):
        blobs.open("sha256:../../etc/passwd")
    with pytest.raises(InvalidParameter, match="larger"):
        blobs.read(blobs.add(b"12345"), 4)


def test_a_sweep_spares_what_was_leased_at_any_moment_of_it() -> None:
    leases = Leases()
    removed: list[str] = []
    with leases.lease() as early, leases.sweep() as discard:
        early.hold("a")
        early.end()
        assert not discard("a", lambda: removed.append("a"))
        assert discard("b", lambda: removed.append("b"))
    assert removed == ["b"]
    assert leases.held() == set()


def test_content_held_twice_is_protected_until_both_leases_end() -> None:
    leases = Leases()
    first, second = leases.lease(), leases.lease()
    first.hold("a")
    first.hold("a", "b")
    second.hold("a")
    first.end()
    first.end()
    assert leases.held() == {"a"}
    second.end()
    assert leases.held() == set()
