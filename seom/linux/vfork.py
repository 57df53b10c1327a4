"""vfork(2) for Python: a child that borrows its parent's memory until it executes a program.

A child of fork(2) has its own copy of the memory, made page by page with a fault for each one that
either side writes, and Python writes wherever it looks. The set-up of a container costs more in such
faults than in system calls. Here the child runs Python in the parent's memory, while the parent is
suspended inside clone3(2), and nothing is copied:

    parent                                     child
    ------                                     -----
    put the address of a C-callable Python
    function on top of a new stack
    clone3(CLONE_VM | CLONE_VFORK, stack) --> the C library's syscall() returns, and its return
    suspended                                  address is what lies on the new stack: the function
                                               ... Python ...
    goes on <--------------------------------- execve, or exit
    puts its thread state back

The child has its own descriptors, credentials, signal actions, working directory and namespaces; what
it changes in Python objects, the parent sees. The parent's C stack is untouched. What the child leaves
wrong is the interpreter's thread state (its frames were entered and never left), so those bytes are
saved before and put back after.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

from seom.linux.libc import check
from seom.linux.namespaces import CLONE_VFORK, CLONE_VM, Clone3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# Where a C function's return address is on the stack, and the layout of the thread state is known.
SUPPORTED = (
    os.uname().machine == "x86_64"
    and sys.implementation.name == "cpython"
    and (3, 11) <= sys.version_info[:2] <= (3, 13)
)

_STACK_BYTES = 512 * 1024
# Recursion depth, current frame, exception and GIL counters: all that comes before "on_delete_data".
_THREAD_STATE_BYTES = 200

_stack: list[mmap.mmap] = []  # used again by the next child, when the last one has executed

_Entry = ctypes.CFUNCTYPE(None)
_current_thread_state = ctypes.pythonapi.PyThreadState_Get
_current_thread_state.argtypes = ()
_current_thread_state.restype = ctypes.c_void_p


def vfork3(flags: int, cgroup_fd: int | None, function: Callable[[], NoReturn]) -> tuple[int, int]:
    """Run function in a child as described above; returns (pid, pidfd) once it has executed or ended.

    What the function's frames refer to at its end is never freed. Only for a process with one
    thread. The function ends in process.execve or os._exit, which keep
    the interpreter's lock for the parent, and lets no exception out. flags as for clone3.
    """
    entry = _Entry(function)
    if not _stack:
        _stack.append(mmap.mmap(-1, _STACK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    base = ctypes.addressof(ctypes.c_char.from_buffer(_stack[0]))
    # A function expects the stack 8 bytes off a multiple of 16 when it is entered.
    top = (base + _STACK_BYTES - 64) & ~15
    ctypes.c_void_p.from_address(top).value = ctypes.cast(entry, ctypes.c_void_p).value
    state = _current_thread_state()
    assert state is not None
    saved = ctypes.create_string_buffer(_THREAD_STATE_BYTES)
    call = Clone3(flags | CLONE_VM | CLONE_VFORK, cgroup_fd, base, top - base)
    ctypes.memmove(saved, state, _THREAD_STATE_BYTES)
    result = call()
    ctypes.memmove(state, saved, _THREAD_STATE_BYTES)
    pid = check(result, "clone3")
    return pid, call.pidfd
