"""Reading and writing the control files of cgroups."""

from __future__ import annotations

import errno
import os


def write_control(path: str, value: str) -> None:
    """Write one value. The OSError names the file and the value."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {value!r}: {os.strerror(error.errno or 0)}", path
        ) from error
    finally:
        os.close(fd)


def read_control(path: str, missing: str | None = None) -> str:
    """Read a file; `missing` takes the place of one that is not there (or whose group is gone)."""
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        if missing is not None and error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return missing
        raise


def read_flat(path: str) -> dict[str, int]:
    """Read a flat keyed file; empty when it does not exist."""
    return parse_flat(read_control(path, missing=""))


def parse_flat(text: str) -> dict[str, int]:
    """The kernel's "flat keyed" format: one name and number a line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}
