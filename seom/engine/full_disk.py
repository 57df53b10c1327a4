"""What a full disk means for the user, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seom.errors import SystemFailure


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Raise SystemFailure for an OSError that says the disk below folder has no room left."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise SystemFailure(
            f"no space left on device: {folder} is full; remove what is not needed (docker system prune), "
            "then try again"
        ) from error
