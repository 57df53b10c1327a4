"""Layers, friendly and hostile, on a real file system."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from seom.errors import InvalidParameter
from seom.storage.blobs import BlobStore, DigestMismatch
from seom.storage.layers import LayerStore
from seom.storage.unpack import Limits, unpack
from tests.kernel.tars import Tar, capability

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers keep owners and devices: needs root")


@pytest.fixture
def extract(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    (tmp_path / "outside").write_text("untouched")
    root = tmp_path / "layer"
    root.mkdir()

    def run(tar: Tar | bytes, limits: Limits | None = None) -> Path:
        content = tar if isinstance(tar, bytes) else tar.content()
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            unpack(io.BytesIO(content), directory, limits)
        finally:
            os.close(directory)
        return root

    yield run
    assert (tmp_path / "outside").read_text() == "untouched"
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "layer"}


Extract = Callable[..., Path]


def test_every_kind_of_file_keeps_its_metadata(extract: Extract) -> None:
    tar = (
        Tar()
        .folder("d", mode=0o1777, mtime=1000)
        .file("d/f", b"content", mode=0o4755, uid=1234, gid=70000, mtime=1234567890)
        .symlink("d/s", "../anywhere")
        .hard_link("d/h", "d/f")
        .node("d/c", tarfile.CHRTYPE, 1, 3)
        .node("d/b", tarfile.BLKTYPE, 7, 300)
        .node("d/p", tarfile.FIFOTYPE)
    )
    root = extract(tar)
    file = (root / "d/f").stat()
    assert (root / "d/f").read_bytes() == b"content"
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) == (0o4755, 1234, 70000)
    assert (file.st_mtime, file.st_nlink) == (1234567890, 2)
    assert os.readlink(root / "d/s") == "../anywhere"
    assert (root / "d/h").stat().st_ino == file.st_ino
    assert (root / "d/c").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((root / "d/b").stat().st_mode)
    assert (root / "d/b").stat().st_rdev == os.makedev(7, 300)
    assert stat.S_ISFIFO((root / "d/p").stat().st_mode)
    folder = (root / "d").stat()
    assert (stat.S_IMODE(folder.st_mode), folder.st_mtime) == (0o1777, 1000)


def test_long_and_odd_names_survive(extract: Extract) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        long = "deep/" * 40 + "x" * 200
        root = extract(Tar(form).file(long, b"1").file("ünï\udcff", b"2").symlink("l", "t" * 300))
        assert (root / long).read_bytes() == b"1"
        assert (root / "ünï\udcff").read_bytes() == b"2"
        assert os.readlink(root / "l") == "t" * 300


def test_whiteouts_become_what_overlayfs_takes(extract: Extract) -> None:
    root = extract(
        Tar()
        .folder("etc")
        .file("etc/.wh.gone", b"")
        .folder("opt")
        .file("opt/new", b"")
        .file("opt/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"")
    )
    status = (root / "etc/gone").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(root / "opt", "trusted.overlay.opaque") == b"y"
    assert not list(root.rglob(".wh.*"))


@pytest.mark.parametrize("first", ["whiteout", "content"])
def test_a_whiteout_hides_only_what_is_below(extract: Extract, first: str) -> None:
    tar = Tar()
    for kind in (first, "content" if first == "whiteout" else "whiteout"):
        if kind == "whiteout":
            tar.file(".wh.d", b"").file(".wh.f", b"")
        else:
            tar.folder("d").file("d/x", b"x").file("f", b"new")
    root = extract(tar)
    assert (root / "d/x").read_bytes() == b"x"
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert (root / "f").read_bytes() == b"new"


def test_a_file_below_a_whiteout_brings_an_opaque_folder_back(extract: Extract) -> None:
    root = extract(Tar().file(".wh.d", b"").file("d/x", b"x"))
    assert (root / "d/x").read_bytes() == b"x"
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"


def test_extended_attributes_and_capabilities_are_kept(extract: Extract) -> None:
    value = capability(1 << 10)
    tar = Tar().file("f", b"", xattrs={"security.capability": value, "user.\u00e9": b"a\n=\xff\0"}, uid=5)
    root = extract(tar)
    assert os.getxattr(root / "f", "security.capability") == value
    assert os.getxattr(root / "f", "user.\u00e9") == b"a\n=\xff\0"


def test_an_archive_cannot_speak_to_overlayfs(extract: Extract) -> None:
    xattrs = {"trusted.overlay.redirect": b"/secret", "trusted.overlay.metacopy": b"", "trusted.x": b"1"}
    root = extract(Tar().folder("d", xattrs=xattrs))
    assert os.listxattr(root / "d") == ["trusted.x"]


def test_every_form_of_sparse_file_is_read(extract: Extract, tmp_path: Path) -> None:
    source = tmp_path / "layer" / "source"
    with source.open("wb") as file:
        file.truncate(40 << 20)
        for offset in range(1 << 20, 40 << 20, 1 << 20):
            file.seek(offset)
            file.write(b"data%d" % offset)
    expected = hashlib.sha256(source.read_bytes()).digest()
    forms = (["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")))
    archives = [
        subprocess.run(
            ["tar", "-C", source.parent, "-cSf", "-", *form, "source"], check=True, capture_output=True
        ).stdout
        for form in forms
    ]
    source.unlink()
    for archive in archives:
        assert len(archive) < 2 << 20
        root = extract(archive)
        assert hashlib.sha256((root / "source").read_bytes()).digest() == expected
        assert (root / "source").stat().st_blocks * 512 < 8 << 20
        (root / "source").unlink()


def test_later_entries_replace_earlier_ones(extract: Extract) -> None:
    root = extract(
        Tar()
        .file("f", b"old")
        .file("f", b"new")
        .folder("d")
        .file("d/x", b"")
        .file("d", b"file")
        .symlink("s", "d")
        .folder("s")
        .file("s/in", b"")
        .folder("kept")
        .file("kept/x", b"")
        .folder("kept", mode=0o700)
    )
    assert (root / "f").read_bytes() == b"new"
    assert (root / "d").read_bytes() == b"file"
    assert (root / "s/in").exists()
    assert not (root / "s").is_symlink()
    assert (root / "kept/x").exists()
    assert stat.S_IMODE((root / "kept").stat().st_mode) == 0o700


def test_a_link_replaced_under_a_cached_folder_is_followed_anew(extract: Extract) -> None:
    root = extract(
        Tar().folder("a").folder("b").symlink("l", "a").file("l/1", b"").symlink("l", "b").file("l/2", b"")
    )
    assert (root / "a/1").exists()
    assert (root / "b/2").exists()


HOSTILE_PATHS = ["../outside", "../../../../outside", "/../outside", "a/../../outside", "./../outside"]


@pytest.mark.parametrize("path", [*HOSTILE_PATHS, "/absolute"])
def test_no_name_leads_out(extract: Extract, path: str) -> None:
    root = extract(Tar().file(path, b"evil"))
    assert [found.read_bytes() for found in root.rglob("*") if found.is_file()] == [b"evil"]


@pytest.mark.parametrize("target", ["../", "/", "../../", "..", "/tmp/..", "/proc/self/root", "loop"])
def test_no_symbolic_link_leads_out(extract: Extract, target: str) -> None:
    tar = Tar().symlink("loop", "loop").symlink("l", target).file("l/outside", b"evil").file("l/x/y", b"e")
    try:
        root = extract(tar)
    except InvalidParameter:
        return
    assert (root / "outside").exists() or any(found.name == "outside" for found in root.rglob("*"))


def test_a_dangling_link_to_a_folder_gets_it_made_inside(extract: Extract) -> None:
    root = extract(
        Tar()
        .symlink("var/run", "/run")
        .file("var/run/x/pid", b"1")
        .symlink("lib", "usr/lib")
        .file("lib/a", b"")
    )
    assert (root / "run/x/pid").read_bytes() == b"1"
    assert (root / "usr/lib/a").exists()


@pytest.mark.parametrize("target", ["../outside", "/outside", "l/outside", "missing", "/", "..", "d"])
def test_no_hard_link_leads_out(extract: Extract, target: str) -> None:
    with pytest.raises(InvalidParameter):
        extract(Tar().folder("d").symlink("l", "..").hard_link("h", target).file("h", b"evil"))


def test_a_hard_link_to_a_symbolic_link_links_the_link(extract: Extract) -> None:
    root = extract(Tar().symlink("l", "../outside").hard_link("h", "l").file("h", b"evil"))
    assert (root / "h").read_bytes() == b"evil"


def test_a_hard_link_to_itself_keeps_the_file(extract: Extract) -> None:
    root = extract(Tar().file("f", b"content").hard_link("f", "./f"))
    assert (root / "f").read_bytes() == b"content"


def test_a_device_and_a_pipe_are_replaced_not_opened(extract: Extract) -> None:
    root = extract(
        Tar().node("p", tarfile.FIFOTYPE).file("p", b"x").node("n", tarfile.CHRTYPE, 1, 3).file("n", b"y")
    )
    assert (root / "p").read_bytes() == b"x"
    assert (root / "n").read_bytes() == b"y"
    assert (root / "n").is_file()


def header(**changes: bytes) -> bytes:
    """A header with raw fields replaced and the checksum made right."""
    raw = bytearray(tarfile.TarInfo("name").tobuf(tarfile.USTAR_FORMAT))
    fields = {"name": 0, "mode": 100, "uid": 108, "size": 124, "mtime": 136, "type": 156, "link": 157}
    for field, value in changes.items():
        if field == "name":
            raw[:100] = bytes(100)
        raw[fields[field] : fields[field] + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def pax(content: bytes) -> bytes:
    return header(type=b"x", size=b"%011o" % len(content)) + content + bytes(-len(content) % 512) + header()


@pytest.mark.parametrize(
    "archive",
    [
        b"x" * 512,
        header() + header()[:300],
        header(size=b"00000010000") + b"short",
        header(size=b"\xff" * 12),
        header(size=b"not octal "),
        header(type=b"Z"),
        header(uid=b"\x80\0\0\1\0\0\0\0"),
        header(type=b"x", size=b"77777777777"),
        header(type=b"L", size=b"77777777777"),
        header(name=b".wh."),
        header(name=b".wh..."),
        header(name=b"/"),
        pax(b"8 path=x\n"),
        pax(b"-1 path=x\n"),
        pax(b"1000 path=x\n"),
        (header(type=b"L", size=b"00000200000") + bytes(0o200000)) * 20,
        pax(b"9 path=x\n" + b"y" * 30),
        pax(b"9 path=x\n" + b"0 a=b\n"),
        pax(b"9" * 1000),
        pax(b"12 path=a\0b\n"),
        pax(b"13 size=-100\n"),
        pax(b"15 mtime=1e999\n"),
        pax(b"13 mtime=nan\n"),
        pax(b"24 uid=99999999999999999\n"),
        pax(b"22 GNU.sparse.major=1\n25 GNU.sparse.realsize=5\n"),
        pax(b"25 GNU.sparse.realsize=5\n24 GNU.sparse.map=0,9,2\n24 GNU.sparse.map=4,2,0,9"),
        header(type=b"5", name=b"d") + header(name=b"f") + header(name=b"f/x"),
        header(name=b"x" * 100) + pax(b"273 path=" + b"y" * 263 + b"\n"),
    ],
)
def test_a_damaged_archive_is_refused(extract: Extract, archive: bytes) -> None:
    with pytest.raises(InvalidParameter):
        extract(archive)


def test_an_empty_archive_is_an_empty_layer(extract: Extract) -> None:
    assert list(extract(b"").iterdir()) == []
    assert list(extract(bytes(1024)).iterdir()) == []


def test_limits_stop_what_would_fill_the_disk(extract: Extract) -> None:
    with pytest.raises(InvalidParameter, match="larger than"):
        extract(Tar().file("f", bytes(2000)), Limits(largest_layer_bytes=1000))
    with pytest.raises(InvalidParameter, match="more than 3 entries"):
        extract(Tar().folder("a").folder("b").folder("c").folder("d"), Limits(most_entries=3))


# The pipeline around it


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def layers(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path, BlobStore(tmp_path))


def is_clean(layers: LayerStore) -> bool:
    return not [*(layers.root / "ingest").iterdir(), *(layers.blobs.root / "ingest").iterdir()]


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip members": lambda content: gzip.compress(content[:700]) + gzip.compress(content[700:]) + bytes(99),
    "zstd": lambda content: zstandard.compress(content[:99]) + zstandard.compress(content[99:]),
    "zstd:chunked": lambda content: b"\x50\x2a\x4d\x18\x04\0\0\0junk" + zstandard.compress(content),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "plain": bytes,
}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_layer_is_unpacked_whatever_it_is_packed_with(layers: LayerStore, kind: str) -> None:
    tar = Tar().file("f", os.urandom(3 << 20)).file("g", bytes(5 << 20)).content()
    packed = COMPRESSORS[kind](tar)
    layer = layers.add(io.BytesIO(packed), sha256(tar))
    assert layer.diff_id == sha256(tar)
    assert (layer.size_bytes, layer.tar_bytes) == (8 << 20, len(tar))
    assert (layers.path(layer.diff_id) / "g").stat().st_size == 5 << 20
    assert layers.blobs.size(layer.blob) == layer.blob_bytes
    if kind.startswith(("gzip", "zstd")):
        assert layer.blob == sha256(packed)
    layers.remove(layer.diff_id)
    assert layers.unpack_blob(layer.blob, layer.diff_id).diff_id == layer.diff_id
    assert is_clean(layers)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_truncated_layer_leaves_nothing(layers: LayerStore, kind: str) -> None:
    tar = Tar().file("f", os.urandom(3 << 20)).content()
    packed = COMPRESSORS[kind](tar)
    with pytest.raises(InvalidParameter):
        layers.add(io.BytesIO(packed[: len(packed) // 2]), sha256(tar))
    assert is_clean(layers)
    assert list(layers.diff_ids()) == []


def test_a_layer_with_another_digest_is_never_visible(layers: LayerStore) -> None:
    tar = Tar().file("f", b"x").content()
    for diff_id, blob in ((sha256(b"other"), ""), ("", sha256(b"other"))):
        with pytest.raises(DigestMismatch):
            layers.add(io.BytesIO(gzip.compress(tar)), diff_id, blob)
    assert list(layers.diff_ids()) == []
    assert is_clean(layers)


def test_a_hostile_layer_is_given_up_without_reading_all_of_it(layers: LayerStore) -> None:
    with pytest.raises(InvalidParameter, match="No such file"), layers.writer() as writer:
        writer.write(Tar().hard_link("h", "missing").content())
        for _ in range(1000):
            writer.write(bytes(1 << 20))
        writer.commit()
    assert is_clean(layers)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_decompression_bomb_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    limits = Limits(ratio_from_bytes=8 << 20, largest_ratio=50)
    layers = LayerStore(tmp_path, BlobStore(tmp_path), limits)
    with pytest.raises(InvalidParameter, match="bomb"):
        layers.add(io.BytesIO(compress(Tar().file("zeros", bytes(64 << 20)).content())))
    assert is_clean(layers)


def test_a_writer_that_is_left_takes_everything_back(layers: LayerStore) -> None:
    with layers.writer() as writer:
        writer.write(Tar().file("f", bytes(9 << 20)).content())
    with layers.writer():
        pass
    assert is_clean(layers)


def test_the_same_layer_twice_is_one(layers: LayerStore) -> None:
    tar = Tar().file("f", b"x").content()
    first = layers.add(io.BytesIO(tar))
    inode = layers.path(first.diff_id).stat().st_ino
    assert layers.add(io.BytesIO(tar)) == first
    assert layers.path(first.diff_id).stat().st_ino == inode
    assert is_clean(layers)


def test_leftovers_of_a_crash_are_removed(layers: LayerStore) -> None:
    folder = layers.new_folder()
    (folder / "diff" / "x").mkdir()
    layers.remove_leftovers()
    assert is_clean(layers)
