"""Where a file system puts directories."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from seom.linux.inode_flags import FS_TOPDIR_FL, get_inode_flags, set_inode_flags


def spread_subfolders(folder: Path) -> None:
    """Let ext4 place each directory made in folder somewhere else on the disk, not beside the last one.

    ext4 does not use an inode again for a minute after its deletion, and looks at every such inode
    of a block group whenever it makes a file there. Where trees of thousands of files come and go
    (layers, containers), making a file took 200-500 us instead of 15. Each tree in a group of its
    own avoids that, and keeps the tree together. See chattr(1), attribute T. Other file systems
    have no such flag, and no such problem.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            set_inode_flags(descriptor, get_inode_flags(descriptor) | FS_TOPDIR_FL)
    finally:
        os.close(descriptor)
