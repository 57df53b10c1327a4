"""Hints to the file system."""

from __future__ import annotations

import os
from pathlib import Path

from seom.linux.inode_flags import FS_TOPDIR_FL, get_inode_flags
from seom.storage.placement import spread_subfolders


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next((line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == wanted), "")


def test_trees_are_spread_where_the_file_system_can(tmp_path: Path) -> None:
    spread_subfolders(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert file_system(tmp_path) != "ext4" or get_inode_flags(descriptor) & FS_TOPDIR_FL
    finally:
        os.close(descriptor)


def test_other_file_systems_are_left_as_they_are() -> None:
    spread_subfolders(Path("/proc/self/fd"))
