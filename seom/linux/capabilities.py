"""Capabilities: names, and the five sets of the calling thread.

See capabilities(7), capget(2) and prctl(2). Names are the kernel's, in capitals with CAP_ in front.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

# What Docker gives to every container: enough for distribution images to work as their own root.
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_Words = ctypes.c_uint32 * 6
_Header = ctypes.c_uint32 * 2


_bounding: list[int] = []


def bounding_bits() -> int:
    """This process's own bounding set, looked up once: nobody below it can get more."""
    if not _bounding:
        with open("/proc/self/status") as file:
            _bounding.extend(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))
    return _bounding[0]


def bounding_set() -> frozenset[str]:
    """The names in this process's own bounding set."""
    return frozenset(names(bounding_bits()))


def mask(capabilities: Iterable[str]) -> int:
    """Names to a bit mask. Names that no kernel knows raise KeyError."""
    bits = 0
    for name in capabilities:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """A bit mask to names, lowest number first; bits without a name are left out."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def drop_bounding(keep: Collection[str]) -> None:
    """Drop everything but `keep` from the bounding set, also what has no name here yet.

    Needs CAP_SETPCAP: call it before capset.
    """
    dropped = bounding_bits() & ~mask(keep)
    for number in range(dropped.bit_length()):
        if dropped >> number & 1:
            _prctl(PR_CAPBSET_DROP, number)


def keep_over_setuid() -> None:
    """Keep the permitted set when the user id changes from 0, until execve (PR_SET_KEEPCAPS)."""
    _prctl(PR_SET_KEEPCAPS, 1)


def capset(effective: Iterable[str], permitted: Iterable[str], inheritable: Iterable[str]) -> None:
    """capset(2) on the calling thread. EPERM when a set is larger than the rules allow."""
    header = _Header(LINUX_CAPABILITY_VERSION_3, 0)
    sets = [mask(effective), mask(permitted), mask(inheritable)]
    words = _Words(*[bits & 0xFFFFFFFF for bits in sets], *[bits >> 32 for bits in sets])
    if _libc.capset(header, words):
        raise _error("capset")


def set_ambient(capabilities: Iterable[str]) -> None:
    """Make the ambient set exactly this; each name must be permitted and inheritable already."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for name in capabilities:
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, NUMBERS[name])


def available(wanted: Iterable[str]) -> list[str]:
    """Those of the wanted capabilities that this kernel knows and this process may hand on.

    A runtime inside a restricted machine cannot give what it does not have; Docker's own
    runtime drops such names with a warning, too.
    """
    limit = bounding_set()
    return [name for name in wanted if name in limit]


def _prctl(option: int, *arguments: int) -> None:
    if _libc.prctl(option, *arguments, *[0] * (4 - len(arguments))):
        raise _error("prctl")


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
