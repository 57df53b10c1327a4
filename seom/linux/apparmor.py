"""AppArmor: whether the host has it, and which profile the next execve takes on.

See apparmor(7) and the kernel's admin-guide/LSM/apparmor. Every function is safe to call on a host
without AppArmor.
"""

from __future__ import annotations

import errno
import os

ENABLED = "/sys/module/apparmor/parameters/enabled"
LOADED = "/sys/kernel/security/apparmor/profiles"
PARSERS = ("/sbin/apparmor_parser", "/usr/sbin/apparmor_parser")


def enabled() -> bool:
    """Does the kernel enforce AppArmor, and is its parser there to load a profile?"""
    try:
        with open(ENABLED) as file:
            return file.read(1) == "Y" and parser() is not None
    except OSError:
        return False


def parser() -> str | None:
    """The program that loads profiles into the kernel."""
    return next((path for path in PARSERS if os.access(path, os.X_OK)), None)


def loaded(profile: str) -> bool:
    """Is a profile of this name in the kernel?"""
    try:
        with open(LOADED) as file:
            return any(line.rpartition(" (")[0] == profile for line in file)
    except OSError:
        return False


def set_exec_profile(profile: str) -> None:
    """Take on a profile at this thread's next execve.

    Raises OSError: ENOENT when no such profile is loaded, EINVAL when the host has no AppArmor.
    """
    request = f"exec {profile}".encode()
    for path in ("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.write(fd, request)
            return
        except OSError as error:
            reason = f"cannot change to AppArmor profile {profile!r}: {os.strerror(error.errno or 0)}"
            raise OSError(error.errno, reason) from error
        finally:
            os.close(fd)
    raise OSError(errno.EINVAL, "the kernel has no AppArmor")
