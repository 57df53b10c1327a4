"""Which namespaces a container has of its own, shares with the host, or joins; and its sysctls."""

from __future__ import annotations

from dataclasses import dataclass

from seom.containers.config import HostConfig
from seom.errors import InvalidParameter
from seom.oci.runtime_spec import Namespace

# Kernel parameters that belong to the IPC namespace; those below fs.mqueue. and net. are namespaced, too.
IPC_SYSCTLS = {
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
}


@dataclass(frozen=True, slots=True)
class JoinedNamespaces:
    """Paths (/proc/PID/ns/...) for the modes container:NAME; empty where nothing is joined."""

    pid: str = ""
    ipc: str = ""
    network: str = ""
    uts: str = ""


def check_modes(host: HostConfig) -> None:
    """Refuse namespace modes that do not exist, in Docker's words."""
    _check(host.pid_mode, "PID", {"", "host"}, joins=True)
    _check(host.ipc_mode, "IPC", {"", "none", "private", "shareable", "host"}, joins=True)
    _check(host.uts_mode, "UTS", {"", "host"})
    _check(host.userns_mode, "USER", {"", "host"})
    _check(host.cgroupns_mode, "CGROUP", {"", "private", "host"})


def namespaces_of(host: HostConfig, joined: JoinedNamespaces) -> list[Namespace]:
    """The namespaces of the specification: a new one, one with a path, or left out for the host's."""
    found = [Namespace("mount")]
    for kind, mode, path in (
        ("network", host.network_mode, joined.network),
        ("uts", host.uts_mode, joined.uts),
        ("pid", host.pid_mode, joined.pid),
        ("ipc", host.ipc_mode, joined.ipc),
        ("cgroup", host.cgroupns_mode, ""),
    ):
        if mode != "host":
            found.append(Namespace(kind, path))
    return found


def sysctls_of(host: HostConfig) -> dict[str, str]:
    """The sysctls to set: Docker's two for a network of its own, and those asked for."""
    private_network = host.network_mode != "host" and not host.network_mode.startswith("container:")
    defaults = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    return {**(defaults if private_network else {}), **(host.sysctls or {})}


def check_sysctls(host: HostConfig) -> None:
    """Refuse sysctls that would change the host."""
    for name in host.sysctls or {}:
        key = name.replace("/", ".")
        if ".." in key or key != key.strip("."):
            raise InvalidParameter(f"sysctl '{name}' is not allowed")
        if key in IPC_SYSCTLS or key.startswith("fs.mqueue."):
            if host.ipc_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" not allowed in host ipc namespace')
        elif key.startswith("net."):
            if host.network_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" not allowed in host network namespace')
        elif key == "kernel.domainname" and host.uts_mode != "host":
            continue
        else:
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')


def _check(mode: str, kind: str, known: set[str], joins: bool = False) -> None:
    if mode in known or (joins and mode.startswith("container:") and mode != "container:"):
        return
    noun = {"CGROUP": "cgroup namespace", "USER": "userns"}.get(kind, kind)
    raise InvalidParameter(f"invalid {noun} mode: {mode}")
