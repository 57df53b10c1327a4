"""Upper directories that become layers: the same layer as its compressed form gives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from seom.storage.adoption import adopt_upper
from seom.storage.blobs import BlobStore
from seom.storage.layers import Layer, LayerStore
from seom.storage.leases import Leases
from seom.storage.unpack import OPAQUE_ATTRIBUTE, is_whiteout


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path / "data", BlobStore(tmp_path / "data"))


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    upper = tmp_path / "data/upper"
    (upper / "folder/deep").mkdir(parents=True)
    (upper / "folder/file").write_text("12345")
    os.link(upper / "folder/file", upper / "folder/deep/again")
    (upper / "link").symlink_to("folder")
    (upper / "mount-point").mkdir()
    os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(upper / "folder", OPAQUE_ATTRIBUTE, b"y")
    return upper


def adopt(store: LayerStore, upper: Path, latest_mtime: int | None = None) -> Layer | None:
    with Leases().lease() as lease:
        return adopt_upper(store, upper, lease, {b"mount-point", b"missing"}, latest_mtime)


def test_the_files_are_moved_and_the_blob_gives_the_same_layer(store: LayerStore, upper: Path) -> None:
    inode = (upper / "folder/file").stat().st_ino
    layer = adopt(store, upper)
    assert layer is not None
    assert layer.size_bytes == len("12345") + len("folder")
    files = store.path(layer.diff_id)
    assert (files / "folder/file").stat().st_ino == inode
    assert not upper.exists()
    assert not (files / "mount-point").exists()
    store.remove(layer.diff_id)
    again = store.unpack_blob(layer.blob, layer.diff_id)
    assert (again.size_bytes, again.tar_bytes) == (layer.size_bytes, layer.tar_bytes)
    assert is_whiteout((files / "gone").lstat())
    assert os.getxattr(files / "folder", OPAQUE_ATTRIBUTE) == b"y"


def test_nothing_changed_is_no_layer(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "data/upper/mount-point").mkdir(parents=True)
    assert adopt(store, tmp_path / "data/upper") is None
    assert list(store.diff_ids()) == []


def test_equal_files_of_other_times_are_one_layer_when_times_are_limited(
    store: LayerStore, tmp_path: Path
) -> None:
    made = []
    for number in range(2):
        upper = tmp_path / f"data/upper{number}"
        (upper / "folder").mkdir(parents=True)
        (upper / "folder/file").write_text("same")
        os.utime(upper / "folder/file", (2_000_000_000 + number,) * 2)
        made.append(adopt(store, upper, latest_mtime=1_000_000_000))
    first, second = made
    assert first is not None
    assert first == second
    assert (store.path(first.diff_id) / "folder/file").stat().st_mtime == 1_000_000_000


def test_deleting_mount_points_does_not_follow_links(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "host/mount-point").mkdir(parents=True)
    upper = tmp_path / "data/upper"
    upper.mkdir()
    (upper / "folder").symlink_to(tmp_path / "host")
    (upper / "mount-point").symlink_to(tmp_path / "host/mount-point")
    with Leases().lease() as lease:
        adopt_upper(store, upper, lease, {b"folder/mount-point", b"mount-point"})
    assert (tmp_path / "host/mount-point").exists()
