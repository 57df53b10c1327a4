"""Compiled seccomp filters on disk: a file for each different profile, named by its digest."""

from __future__ import annotations

import os
from _blake2 import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


# Changes whenever the compiler makes something else of the same profile.
COMPILER = b"seom-2"


def cached_program(profile: bytes, folder: str | None, build: Callable[[], bytes]) -> bytes:
    """The program in the folder for these bytes of a profile, or else built now and left there."""
    if folder is None:
        return build()
    path = f"{folder}/{blake2b(profile, digest_size=32, person=COMPILER).hexdigest()}.bpf"
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        program = build()
        _store(path, program)
        return program


def _store(path: str, program: bytes) -> None:
    """Write beside and rename, so that a reader never sees half a program."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(program)
    os.rename(temporary, path)
