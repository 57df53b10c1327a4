"""What a process may still do when the program starts: limits, user, capabilities, seccomp."""

from __future__ import annotations

import errno
import os
import resource

from seom.linux import capabilities, process, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from seom.oci.runtime_spec import Process, Rlimit

_UNNAMED = {"RLIMIT_LOCKS": 10}  # Python's module has no name for it
_LAST_DESCRIPTOR = 0xFFFFFFFF


def set_rlimits(limits: Sequence[Rlimit]) -> None:
    """Set resource limits; a hard limit the caller may not raise stays at the host's.

    Raises OSError (EINVAL) for a name the kernel does not know. See getrlimit(2).
    """
    for limit in limits:
        number = getattr(resource, limit.type, _UNNAMED.get(limit.type))
        if not isinstance(number, int):
            raise OSError(errno.EINVAL, "unknown resource limit", limit.type)
        soft, hard = _signed(limit.soft), _signed(limit.hard)
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, PermissionError):
            highest = resource.getrlimit(number)[1]
            resource.setrlimit(number, (_lower(soft, highest), _lower(hard, highest)))


def _signed(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 1 << 63 or value < 0 else value


def _lower(value: int, highest: int) -> int:
    if highest == resource.RLIM_INFINITY:
        return value
    return highest if value == resource.RLIM_INFINITY else min(value, highest)


def close_descriptors_except(*kept: int | None) -> None:
    """Close everything above the standard streams but the descriptors in kept."""
    first = 3
    for descriptor in sorted(one for one in kept if one is not None):
        if descriptor > first:
            process.close_range(first, descriptor - 1)
        first = descriptor + 1
    process.close_range(first, _LAST_DESCRIPTOR)


def drop(wanted: Process, program: bytes) -> None:
    """Become the user, with the capabilities and the working directory that the process asks for.

    Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is installed before that is given up.
    """
    if wanted.no_new_privileges:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    else:
        install_seccomp(program)
    sets = wanted.capabilities
    bounding = capabilities.available(sets.bounding) if sets else []
    capabilities.drop_bounding(bounding)
    capabilities.keep_over_setuid()
    entered = _change_directory(wanted.cwd, last_chance=False)
    become(wanted.user.uid, wanted.user.gid, wanted.user.additional_gids)
    if not entered:
        _change_directory(wanted.cwd, last_chance=True)
    if sets is None:
        capabilities.capset([], [], [])
    else:
        keep = capabilities.available
        capabilities.capset(keep(sets.effective), keep(sets.permitted), keep(sets.inheritable))
        # The kernel refuses ambient capabilities that are not inheritable; runc leaves them out, too.
        ambient = [name for name in sets.ambient if name in sets.inheritable]
        if ambient:
            capabilities.set_ambient(keep(ambient))
    os.umask(0o022 if wanted.user.umask is None else wanted.user.umask)


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Change to a user, a group and supplementary groups, for good."""
    try:
        os.setgroups(groups)
    except PermissionError:
        if groups:  # setgroups may be denied in a user namespace, where there are none to drop
            raise
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _change_directory(cwd: str, last_chance: bool) -> bool:
    """Enter the working directory: root may be kept out of it, the user may not be able to reach it."""
    try:
        os.chdir(cwd or "/")
    except OSError as error:
        if isinstance(error, PermissionError) and not last_chance:
            return False
        raise OSError(
            error.errno, f'chdir to cwd ("{cwd}") set in config.json failed: {_lower_case(error)}'
        ) from error
    return True


def _lower_case(error: OSError) -> str:
    text = error.strerror or ""
    return text[:1].lower() + text[1:]


def install_seccomp(program: bytes) -> None:
    """Install a compiled filter, if there is one."""
    if program:
        seccomp.install(program)
