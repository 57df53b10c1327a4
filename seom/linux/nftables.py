"""Nftables through libnftables: a text of commands is one transaction.

A call costs about 0.2-0.4 ms where the nft program costs 5-15 ms. See libnftables(3) and nft(8).
"""

from __future__ import annotations

import ctypes
import errno
import threading
from functools import cache

_NO_OUTPUT_FLAGS = 0


@cache
def _library() -> ctypes.CDLL:
    """Load libnftables once; raises OSError when it is not installed."""
    library = ctypes.CDLL("libnftables.so.1", use_errno=True)
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", context, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [context]),
        ("nft_ctx_buffer_output", ctypes.c_int, [context]),
        ("nft_ctx_buffer_error", ctypes.c_int, [context]),
        ("nft_ctx_get_output_buffer", text, [context]),
        ("nft_ctx_get_error_buffer", text, [context]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [context, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Nftables:
    """A connection to the ruleset of the network namespace of the thread that opens it.

    Calls may come from any thread, one at a time.
    """

    def __init__(self) -> None:
        self._context: int | None = _library().nft_ctx_new(_NO_OUTPUT_FLAGS)
        if self._context is None:
            raise OSError(errno.ENOMEM, "cannot open a connection to nftables")
        _library().nft_ctx_buffer_output(self._context)
        _library().nft_ctx_buffer_error(self._context)
        self._lock = threading.Lock()

    def run(self, commands: str) -> str:
        """Carry out commands in nft's language as one transaction and return what they print.

        Raises OSError with the library's explanation; then nothing was changed. ENOENT and EEXIST
        are told from other failures (EINVAL) by that explanation.
        """
        with self._lock:
            failed = _library().nft_run_cmd_from_buffer(self._context, commands.encode())
            output: bytes = _library().nft_ctx_get_output_buffer(self._context)
            error: bytes = _library().nft_ctx_get_error_buffer(self._context)
        if failed:
            raise _refusal(error.decode(errors="replace"))
        return output.decode()

    def close(self) -> None:
        """Free the connection."""
        context, self._context = self._context, None
        if context is not None:
            _library().nft_ctx_free(context)


def _refusal(explanation: str) -> OSError:
    first = explanation.strip().partition("\n")[0]
    for code, words in (
        (errno.ENOENT, "No such file or directory"),
        (errno.EEXIST, "File exists"),
        (errno.EPERM, "Operation not permitted"),
    ):
        if words in first:
            return OSError(code, f"nftables: {first}")
    return OSError(errno.EINVAL, f"nftables: {explanation.strip()}")
