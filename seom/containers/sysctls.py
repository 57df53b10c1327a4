"""Kernel parameters of a container: only those that a namespace of its own confines."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_OF_IPC = {
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
}


def _namespace_of(name: str) -> str | None:
    if name in _OF_IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    if name in ("kernel.domainname", "kernel.hostname"):
        return "uts"
    return None


def write_sysctls(settings: Mapping[str, str], kinds: Collection[str]) -> None:
    """Write parameters through the host's /proc, which shows the caller's own namespaces.

    kinds are the namespaces that the container does not share with the host. Raises OSError:
    EPERM for a parameter that would change the host, ENOENT for an unknown one.
    """
    for key, value in settings.items():
        name = _with_dots(key)
        if _namespace_of(name) not in kinds:
            raise OSError(errno.EPERM, f'sysctl "{key}" is not in a separate kernel namespace')
        parts = [part.replace("/", ".") for part in name.split(".")]
        if not all(part.strip(".") for part in parts):
            raise OSError(errno.EINVAL, f'sysctl "{key}" is no valid name')
        path = "/proc/sys/" + "/".join(parts)
        with open(path, "wb", buffering=0) as file:
            file.write(value.encode())


def _with_dots(key: str) -> str:
    """sysctl(8)'s rule: whichever of "." and "/" comes first separates; the other stands for it."""
    slash, dot = key.find("/"), key.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return key.translate(str.maketrans("./", "/."))
    return key
