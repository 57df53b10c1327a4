"""malloc_trim(3): giving freed memory back to the kernel."""

from __future__ import annotations

import ctypes

_libc = ctypes.CDLL(None)
_malloc_trim = getattr(_libc, "malloc_trim", None)


def malloc_trim(pad: int = 0) -> None:
    """malloc_trim(3); does nothing where the C library has none (it is glibc's)."""
    if _malloc_trim is not None:
        _malloc_trim(ctypes.c_size_t(pad))
