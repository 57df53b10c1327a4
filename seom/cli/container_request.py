"""From the options of `run` and `create` to the body of POST /containers/create."""

from __future__ import annotations

import os

from seom.cli import jsontext, port_syntax, request_syntax
from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.flags import Options


_PREDEFINED = frozenset(("default", "bridge", "host", "none"))


def build_request(options: Options, image: str, command: list[str], detach: bool) -> dict[str, Any]:
    """The create request. Raises CommandError (status 125) for what contradicts itself."""
    try:
        config = _config(options, image, command, detach)
        host = _host_config(options)
        endpoints = _endpoints(options, host)
        _publish(options, config, host)
        _mount(options, config, host)
    except ValueError as error:
        raise CommandError(str(error), 125) from None
    except OSError as error:
        raise CommandError(f"open {error.filename}: {(error.strerror or '').lower()}", 125) from None
    config["HostConfig"] = host
    config["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return config


def _config(options: Options, image: str, command: list[str], detach: bool) -> dict[str, Any]:
    attach = {name.lower() for name in options.each("attach")}
    if not attach and not detach:
        attach = {"stdout", "stderr"} | ({"stdin"} if options.on("interactive") else set())
    env = [variable for path in options.each("env-file") for variable in request_syntax.read_env_file(path)]
    labels = [label for path in options.each("label-file") for label in request_syntax.read_label_file(path)]
    config: dict[str, Any] = {
        "Hostname": options.text("hostname"),
        "Domainname": options.text("domainname"),
        "User": options.text("user"),
        "AttachStdin": "stdin" in attach,
        "AttachStdout": "stdout" in attach,
        "AttachStderr": "stderr" in attach,
        "Tty": options.on("tty"),
        "OpenStdin": options.on("interactive"),
        "StdinOnce": options.on("interactive") and "stdin" in attach,
        "Env": env + request_syntax.resolve_env(options.each("env")),
        "Cmd": command or None,
        "Image": image,
        "Volumes": {},
        "WorkingDir": options.text("workdir"),
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": request_syntax.to_map(labels + options.each("label")),
    }
    if "entrypoint" in options.changed:
        config["Entrypoint"] = [options.text("entrypoint")]
    if options.text("stop-signal"):
        config["StopSignal"] = options.text("stop-signal")
    if "stop-timeout" in options.changed:
        config["StopTimeout"] = options.number("stop-timeout")
    if health := _healthcheck(options):
        config["Healthcheck"] = health
    return config


def _healthcheck(options: Options) -> dict[str, Any]:
    names = ("interval", "timeout", "start-period", "start-interval", "retries")
    given = [name for name in ("cmd", *names) if f"health-{name}" in options.changed]
    if options.on("no-healthcheck"):
        if given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    health: dict[str, Any] = {}
    if options.text("health-cmd"):
        health["Test"] = ["CMD-SHELL", options.text("health-cmd")]
    for name in given:
        if name != "cmd":
            value = options.number(f"health-{name}")
            if value < 0:
                raise ValueError(f"--health-{name} cannot be negative")
            health["".join(word.capitalize() for word in name.split("-"))] = value
    return health


def limits(options: Options) -> dict[str, Any]:
    """The resources that `update` can change too; only what was given."""
    names = {
        "blkio-weight": "BlkioWeight",
        "cpu-period": "CpuPeriod",
        "cpu-quota": "CpuQuota",
        "cpu-rt-period": "CpuRealtimePeriod",
        "cpu-rt-runtime": "CpuRealtimeRuntime",
        "cpu-shares": "CpuShares",
        "cpus": "NanoCpus",
        "cpuset-cpus": "CpusetCpus",
        "cpuset-mems": "CpusetMems",
        "kernel-memory": "KernelMemory",
        "memory": "Memory",
        "memory-reservation": "MemoryReservation",
        "memory-swap": "MemorySwap",
        "pids-limit": "PidsLimit",
    }
    return {names[flag]: options.values[flag] for flag in names if flag in options.changed}


def _host_config(options: Options) -> dict[str, Any]:
    restart = request_syntax.parse_restart(options.text("restart"))
    if options.on("rm") and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    swappiness = options.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    host: dict[str, Any] = {
        "ContainerIDFile": options.text("cidfile"),
        "NetworkMode": "default",
        "RestartPolicy": restart,
        "AutoRemove": options.on("rm"),
        "VolumeDriver": options.text("volume-driver"),
        "VolumesFrom": options.each("volumes-from") or None,
        "LogConfig": {
            "Type": options.text("log-driver"),
            "Config": request_syntax.to_map(options.each("log-opt")),
        },
        "Dns": options.each("dns"),
        "DnsOptions": options.each("dns-option") + options.each("dns-opt"),
        "DnsSearch": options.each("dns-search"),
        "ExtraHosts": [request_syntax.parse_extra_host(item) for item in options.each("add-host")],
        "PublishAllPorts": options.on("publish-all"),
        "Links": options.each("link"),
        **_isolation(options),
        **limits(options),
        **_devices(options),
    }
    if "memory-swappiness" in options.changed:
        host["MemorySwappiness"] = swappiness
    return host


def _isolation(options: Options) -> dict[str, Any]:
    security = [_security_option(item) for item in options.each("security-opt")]
    host: dict[str, Any] = {
        "CapAdd": request_syntax.capability_names(options.each("cap-add")),
        "CapDrop": request_syntax.capability_names(options.each("cap-drop")),
        "GroupAdd": options.each("group-add"),
        "CgroupParent": options.text("cgroup-parent"),
        "CgroupnsMode": options.text("cgroupns"),
        "IpcMode": options.text("ipc"),
        "PidMode": options.text("pid"),
        "UTSMode": options.text("uts"),
        "UsernsMode": options.text("userns"),
        "Privileged": options.on("privileged"),
        "ReadonlyRootfs": options.on("read-only"),
        "SecurityOpt": [item for item in security if item != "systempaths=unconfined"],
        "OomScoreAdj": options.number("oom-score-adj"),
        "ShmSize": options.number("shm-size"),
        "Runtime": options.text("runtime"),
        "Isolation": options.text("isolation"),
        "Sysctls": request_syntax.to_map(options.each("sysctl")),
        "StorageOpt": request_syntax.to_map(options.each("storage-opt")),
        "Annotations": request_syntax.to_map(options.each("annotation")),
    }
    if "systempaths=unconfined" in security:
        host["MaskedPaths"] = host["ReadonlyPaths"] = []
    if "init" in options.changed:
        host["Init"] = options.on("init")
    if "oom-kill-disable" in options.changed:
        host["OomKillDisable"] = options.on("oom-kill-disable")
    return host


def _security_option(text: str) -> str:
    """A seccomp profile is read here: the daemon gets its content, not a path on this machine."""
    separator = "=" if "=" in text else ":"
    name, found, value = text.partition(separator)
    if not found and name != "no-new-privileges":
        raise ValueError(f'Invalid --security-opt: "{text}"')
    if name == "seccomp" and value not in ("unconfined", "builtin"):
        try:
            with open(value, encoding="utf-8") as file:
                profile = jsontext.decode(file.read())
        except OSError as error:
            reason = f"open {value}: {(error.strerror or '').lower()}"
            raise ValueError(f"opening seccomp profile ({value}) failed: {reason}") from None
        except ValueError as error:
            raise ValueError(f"compacting json for seccomp profile ({value}) failed: {error}") from None
        return f"seccomp={jsontext.encode(profile)}"
    return text


def _devices(options: Options) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Devices": [request_syntax.parse_device(item) for item in options.each("device")],
        "DeviceCgroupRules": options.each("device-cgroup-rule"),
        "Ulimits": [request_syntax.parse_ulimit(item) for item in options.each("ulimit")],
        "BlkioWeightDevice": [
            request_syntax.parse_weight_device(item) for item in options.each("blkio-weight-device")
        ],
    }
    for direction in ("read", "write"):
        for unit, name in (("bps", "Bps"), ("iops", "IOps")):
            items = options.each(f"device-{direction}-{unit}")
            key = f"BlkioDevice{direction.capitalize()}{name}"
            host[key] = [request_syntax.parse_throttle(item) for item in items]
    for request in options.each("gpus"):
        count = -1 if request == "all" else int(request) if request.isdigit() else 0
        host.setdefault("DeviceRequests", []).append({"Count": count, "Capabilities": [["gpu"]]})
    return host


def _endpoints(options: Options, host: dict[str, Any]) -> dict[str, Any]:
    requests = [request_syntax.parse_network(text) for text in options.each("network") + options.each("net")]
    if any(not name for name, _ in requests):
        raise ValueError("no name set for network")
    endpoints = dict(requests)
    if requests:
        host["NetworkMode"] = requests[0][0]
    main = endpoints.setdefault(host["NetworkMode"], {})
    if aliases := options.each("network-alias") + options.each("net-alias"):
        main["Aliases"] = [*main.get("Aliases", []), *aliases]
    if (links := options.each("link")) and host["NetworkMode"] not in _PREDEFINED:
        main["Links"] = links
    addresses = main.get("IPAMConfig", {})
    for flag, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if options.text(flag):
            addresses[key] = options.text(flag)
    if options.each("link-local-ip"):
        addresses["LinkLocalIPs"] = options.each("link-local-ip")
    if addresses:
        main["IPAMConfig"] = addresses
    if options.text("mac-address"):
        main["MacAddress"] = options.text("mac-address")
    return {name: settings for name, settings in endpoints.items() if settings or len(requests) > 1}


def _publish(options: Options, config: dict[str, Any], host: dict[str, Any]) -> None:
    bindings: dict[str, list[dict[str, str]]] = {}
    exposed: dict[str, dict[str, str]] = {}
    for text in options.each("publish"):
        for port, places in port_syntax.parse_published(text).items():
            bindings.setdefault(port, []).extend(places)
            exposed[port] = {}
    for text in options.each("expose"):
        exposed.update(port_syntax.parse_exposed(text))
    host["PortBindings"] = bindings
    if exposed:
        config["ExposedPorts"] = exposed


def _mount(options: Options, config: dict[str, Any], host: dict[str, Any]) -> None:
    binds = []
    for text in options.each("volume"):
        source, colon, rest = text.partition(":")
        if not colon:
            config["Volumes"][text] = {}
            continue
        if source.startswith("."):
            source = os.path.abspath(source)
        binds.append(f"{source}:{rest}")
    host["Binds"] = binds or None
    host["Mounts"] = [request_syntax.parse_mount(text) for text in options.each("mount")]
    host["Tmpfs"] = {path: rest for path, _, rest in (item.partition(":") for item in options.each("tmpfs"))}
