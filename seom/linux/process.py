"""Processes: pidfds, exit statuses, prctl and what is inherited over execve."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from ctypes import c_char_p, c_int, c_uint, c_ulong

from seom.linux import signals as signal
from seom.linux.libc import check, function, libc, system_call

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PDEATHSIG = 1

PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
CLOSE_RANGE_CLOEXEC = 4
KEYCTL_JOIN_SESSION_KEYRING = 1

PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT_CODE_OFFSET = 60
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO_SIZE << 16) | (0xFF << 8) | 11

_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_name = function("prctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_personality = function("personality", c_ulong)
_close_range = system_call("close_range", c_uint, c_uint, c_uint)
_keyctl = system_call("keyctl", c_int, c_char_p)
_execve = function("execve", c_char_p, ctypes.c_void_p, ctypes.c_void_p, keep_gil=True)
_signal = libc["signal"]
_signal.argtypes = (c_int, ctypes.c_void_p)
_signal.restype = ctypes.c_void_p
_SIG_DFL = None
_sethostname = function("sethostname", c_char_p, ctypes.c_size_t)
_setdomainname = function("setdomainname", c_char_p, ctypes.c_size_t)


def prctl(option: int, argument: int = 0) -> None:
    """prctl(2) with one number as its argument."""
    check(_prctl(option, argument, 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Set the thread's name as ps shows it (15 bytes)."""
    check(_prctl_name(PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")


def personality(persona: int) -> None:
    """personality(2)."""
    check(_personality(persona), "personality")


def replace_command_line(name: str) -> None:
    """Show `name` in /proc/PID/cmdline and nothing in environ, where the program's start was to be seen.

    The memory is overwritten in place; moving it (PR_SET_MM) needs CAP_SYS_RESOURCE. The environment of
    Python and of programs it starts is untouched. Addresses are in proc(5), stat, fields 48 to 51.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        line = file.read(4096)
    fields = line[line.rindex(b")") + 2 :].split()
    arguments, arguments_end, environment, environment_end = map(int, fields[45:49])
    shown = name.encode()
    for start, end, text in (
        (arguments, arguments_end, shown),
        (environment, environment_end, b""),
    ):
        if start and end > start:
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, min(len(text), end - start - 1))


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2)."""
    check(_close_range(first, last, flags), "close_range")


def join_session_keyring(name: str) -> None:
    """keyctl(2): enter a session keyring of one's own."""
    check(_keyctl(KEYCTL_JOIN_SESSION_KEYRING, name.encode()), "keyctl", name)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    data = name.encode()
    check(_sethostname(data, len(data)), "sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    data = name.encode()
    check(_setdomainname(data, len(data)), "setdomainname", name)


def execve(path: str, arguments: list[str], environment: list[str]) -> None:
    """execve(2); the environment is passed on as it is, duplicates and all. Returns only by raising."""
    argv = [os.fsencode(argument) for argument in arguments]
    envp = [os.fsencode(variable) for variable in environment]
    check(
        _execve(os.fsencode(path), (c_char_p * (len(argv) + 1))(*argv), (c_char_p * (len(envp) + 1))(*envp)),
        "execve",
        path,
    )


def reset_signals() -> None:
    """Give every signal its default action and unblock all: what a new program expects.

    Python ignores SIGPIPE and SIGXFSZ, and execve(2) would keep that. Python itself is not told: it
    may be the parent's (see vfork).
    """
    for number in range(1, signal.NSIG):
        _signal(number, _SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def exit_code(wait_status: int) -> int:
    """The shell's exit code of a wait status: 128 + n for a process killed by signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


def exit_status(pidfd: int) -> int | None:
    """The wait status of an ended process that need not be one's child, even after it was reaped.

    None while it runs, and on a kernel before 6.15. See PIDFD_GET_INFO in linux/pidfd.h.
    """
    buffer = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", buffer, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask = struct.unpack_from("=Q", buffer)[0]
    if not mask & PIDFD_INFO_EXIT:
        return None
    return int(struct.unpack_from("=i", buffer, _PIDFD_INFO_EXIT_CODE_OFFSET)[0])


def start_time(pid: int) -> int:
    """The process's start time in clock ticks since boot: with the pid it identifies a process.

    Raises OSError when there is no such process. See proc(5), stat, field 22.
    """
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        line = file.read(4096)
    return int(line[line.rindex(b")") + 2 :].split()[19])
