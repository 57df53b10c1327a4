"""From a container's definition to the OCI runtime specification that the sandbox carries out."""

from __future__ import annotations

import posixpath
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seom.containers.apparmor_profile import DEFAULT_PROFILE, ensure_loaded
from seom.containers.config import Config, HostConfig
from seom.containers.devices import check_device_requests, devices_of, parse_rule
from seom.containers.namespaces import JoinedNamespaces, check_modes, check_sysctls, namespaces_of, sysctls_of
from seom.containers.resources import check_resources, resources_of
from seom.containers.security import (
    SecurityOptions,
    apparmor_of,
    capabilities_of,
    hidden_paths,
    parse_security_options,
    seccomp_of,
)
from seom.containers.user import ContainerUser
from seom.errors import InvalidParameter
from seom.linux.capabilities import bounding_set
from seom.oci.runtime_spec import (
    OCI_VERSION,
    Box,
    Capabilities,
    Linux,
    Mount,
    Process,
    Rlimit,
    Root,
    RuntimeSpec,
)

__all__ = ["JoinedNamespaces", "SpecPaths", "build_spec", "check_host_config", "exec_process", "resources_of"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_BYTES = 64 << 20
RLIMITS = {
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc"),
    *("rss", "rtprio", "rttime", "sigpending", "stack"),
}


@dataclass(frozen=True, slots=True)
class SpecPaths:
    """Host files to bind into the container; empty for none.

    shm is bound at /dev/shm: the host's for --ipc host, /proc/PID/root/dev/shm for --ipc container:NAME.
    """

    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""
    shm: str = ""


def check_host_config(config: Config, host: HostConfig, update: bool = False) -> list[str]:
    """Refuse what cannot work, and drop, in place, limits that this host lacks.

    Returns the warnings for the client. Raises InvalidParameter (NotSupported for device requests).
    """
    warnings = check_resources(host, update)
    if update:
        return warnings
    check_modes(host)
    check_sysctls(host)
    check_device_requests(host.device_requests)
    capabilities = capabilities_of(host)
    options = parse_security_options(host.security_opt)
    seccomp_of(options, capabilities, host.privileged)
    for rule in host.device_cgroup_rules or []:
        parse_rule(rule)
    warnings += _unreachable_limits(_rlimits(host))
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return warnings


def build_spec(
    container_id: str,
    config: Config,
    host: HostConfig,
    paths: SpecPaths,
    mounts: Sequence[Mount],
    user: ContainerUser,
    joined: JoinedNamespaces = JoinedNamespaces(),  # noqa: B008 (immutable)
    cgroup: str = "",
    root: str = "rootfs",
    rootfs_propagation: str = "",
) -> RuntimeSpec:
    """The specification of one start.

    config is merged with the image's, host is checked; mounts are the volumes, binds and tmpfs,
    parents first. cgroup is relative to the hierarchies' roots, for example "seom/ID".
    """
    devices, rules = devices_of(host)
    resources = resources_of(host)
    resources.devices = rules
    options = parse_security_options(host.security_opt)
    capabilities = capabilities_of(host)
    masked, readonly = hidden_paths(host)
    own_names = host.uts_mode != "host"
    return RuntimeSpec(
        oci_version=OCI_VERSION,
        process=_process(container_id, config, host, user),
        root=Root(root, host.readonly_rootfs),
        hostname=(config.hostname or container_id[:12]) if own_names else "",
        domainname=config.domainname if own_names else "",
        mounts=_mounts(host, paths, mounts, bool(options.writable_cgroups)),
        annotations=host.annotations or {},
        linux=Linux(
            sysctl=sysctls_of(host),
            resources=resources,
            cgroups_path=f"/{cgroup}" if cgroup else "",
            namespaces=namespaces_of(host, joined),
            devices=devices,
            seccomp=seccomp_of(options, capabilities, host.privileged),
            rootfs_propagation=rootfs_propagation,
            masked_paths=masked,
            readonly_paths=readonly,
        ),
    )


def exec_process(
    config: Config,
    host: HostConfig,
    user: ContainerUser,
    args: Sequence[str],
    env: Sequence[str] = (),
    cwd: str = "",
    tty: bool = False,
    privileged: bool = False,
) -> Process:
    """One more process for a running container; privileged gives it every capability."""
    if cwd and not cwd.startswith("/"):
        raise InvalidParameter(f"the working directory '{cwd}' is invalid, it needs to be an absolute path")
    wanted = HostConfig(privileged=True) if privileged else host
    options = parse_security_options(host.security_opt)
    return Process(
        cwd=posixpath.normpath(cwd or config.working_dir or "/"),
        args=list(args),
        env=environment("", config, tty, user, env),
        terminal=tty,
        user=user.user,
        capabilities=_capabilities(capabilities_of(wanted), user),
        rlimits=_rlimits(host),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile=_apparmor(options, privileged or host.privileged),
        oom_score_adj=host.oom_score_adj,
    )


def environment(
    container_id: str, config: Config, tty: bool, user: ContainerUser, further: Iterable[str] = ()
) -> list[str]:
    """PATH, HOSTNAME and TERM by default, then the definition's, then further ones; HOME if unset.

    A later NAME=VALUE replaces an earlier one in its place; NAME alone removes it.
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": config.hostname or container_id[:12]}
    if not values["HOSTNAME"]:
        del values["HOSTNAME"]
    if tty:
        values["TERM"] = "xterm"
    for entry in [*(config.env or []), *further]:
        name, separator, value = entry.partition("=")
        if separator:
            values[name] = value
        else:
            values.pop(name, None)
    values.setdefault("HOME", user.home)
    return [f"{name}={value}" for name, value in values.items()]


def _process(container_id: str, config: Config, host: HostConfig, user: ContainerUser) -> Process:
    arguments = [*_words(config.entrypoint), *_words(config.cmd)]
    if not arguments or not arguments[0]:
        raise InvalidParameter("no command specified")
    options = parse_security_options(host.security_opt)
    size = host.console_size
    return Process(
        cwd=posixpath.normpath(config.working_dir or "/"),
        args=arguments,
        env=environment(container_id, config, config.tty, user),
        terminal=config.tty,
        console_size=Box(size[0], size[1]) if size and len(size) == 2 and any(size) else None,
        user=user.user,
        capabilities=_capabilities(capabilities_of(host), user),
        rlimits=_rlimits(host),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile=_apparmor(options, host.privileged),
        oom_score_adj=host.oom_score_adj,
    )


def _apparmor(options: SecurityOptions, privileged: bool) -> str:
    """The profile to take on; the default one is loaded into the kernel when it is not there."""
    profile = apparmor_of(options, privileged)
    if profile == DEFAULT_PROFILE:
        ensure_loaded()
    return profile


def _capabilities(names: list[str], user: ContainerUser) -> Capabilities:
    """Root gets them all; for anybody else they only bound what set-user-id programs can gain."""
    if user.user.uid != 0:
        return Capabilities(bounding=names)
    return Capabilities(bounding=names, effective=names, permitted=names)


def _rlimits(host: HostConfig) -> list[Rlimit]:
    found = []
    for ulimit in host.ulimits or []:
        name = ulimit.name.lower()
        if name not in RLIMITS:
            raise InvalidParameter(f"invalid ulimit type: {ulimit.name}")
        soft, hard = (value if value >= 0 else (1 << 64) - 1 for value in (ulimit.soft, ulimit.hard))
        if soft > hard:
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}"
            )
        found.append(Rlimit(f"RLIMIT_{name.upper()}", soft, hard))
    return found


def _unreachable_limits(limits: list[Rlimit]) -> list[str]:
    """Only a process with CAP_SYS_RESOURCE can raise a hard limit: say which stay at the host's."""
    if "CAP_SYS_RESOURCE" in bounding_set():
        return []
    found = []
    for limit in limits:
        number = getattr(resource, limit.type, None)
        highest = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[1]
        if highest != resource.RLIM_INFINITY and limit.hard > highest:
            name = limit.type.removeprefix("RLIMIT_").lower()
            found.append(
                f"This host does not let Seom raise the limit of {name} above {highest}. Limited to that."
            )
    return found


def _words(value: list[str] | str | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


# -- mounts


def _mounts(
    host: HostConfig, paths: SpecPaths, volumes: Sequence[Mount], writable_cgroups: bool
) -> list[Mount]:
    """The standard mounts and files, with those of the user in place of them where they coincide."""
    taken = {posixpath.normpath(mount.destination) for mount in volumes}
    standard = [*_kernel_mounts(host, paths, writable_cgroups), *_files(host, paths)]
    if "/dev" in taken:
        standard = [mount for mount in standard if not mount.destination.startswith("/dev/")]
    kept = [mount for mount in standard if mount.destination not in taken]
    return sorted([*kept, *volumes], key=lambda mount: posixpath.normpath(mount.destination).count("/"))


def _kernel_mounts(host: HostConfig, paths: SpecPaths, writable_cgroups: bool) -> list[Mount]:
    strict = ["nosuid", "noexec", "nodev"]
    sys_mode = [] if host.privileged else ["ro"]
    cgroup_mode = [] if host.privileged or writable_cgroups else ["ro"]
    mounts = [
        Mount("/proc", "proc", "proc", strict),
        Mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Mount("/sys", "sysfs", "sysfs", [*strict, *sys_mode]),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", [*strict, *cgroup_mode]),
        Mount("/dev/mqueue", "mqueue", "mqueue", strict),
    ]
    if host.ipc_mode == "host" or paths.shm:
        mounts.append(Mount("/dev/shm", "bind", paths.shm or "/dev/shm", ["rbind", "rprivate", *strict]))
    elif host.ipc_mode != "none":
        size = f"size={host.shm_size or DEFAULT_SHM_BYTES}"
        mounts.append(Mount("/dev/shm", "tmpfs", "shm", [*strict, "mode=1777", size]))
    return mounts


def _files(host: HostConfig, paths: SpecPaths) -> list[Mount]:
    mode = ["rbind", "rprivate", *(["ro"] if host.readonly_rootfs else [])]
    return [
        Mount(destination, "bind", source, mode)
        for destination, source in (
            ("/etc/resolv.conf", paths.resolv_conf),
            ("/etc/hostname", paths.hostname),
            ("/etc/hosts", paths.hosts),
        )
        if source
    ]
