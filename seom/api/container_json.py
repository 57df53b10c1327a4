"""Containers as the Engine API shows them: the full document of inspect and the row of a list."""

from __future__ import annotations

from typing import Any

import msgspec

from seom.api.durations import ago
from seom.containers.config import Config, HostConfig
from seom.containers.security import apparmor_of, parse_security_options
from seom.engine.container import Container, Health, Status, rfc3339
from seom.engine.engine import Engine

Json = dict[str, Any]

# Docker leaves these members out when they say nothing; all others are shown as null.
LEFT_OUT_WHEN_EMPTY = (
    *("Annotations", "ArgsEscaped", "ExposedPorts", "Healthcheck", "Init", "MacAddress", "Mounts"),
    *("NetworkDisabled", "Shell", "StopSignal", "StopTimeout", "StorageOpt", "Sysctls", "Tmpfs"),
)


def inspect_document(engine: Engine, container: Container, size: tuple[int, int] | None = None) -> Json:
    """The answer to GET /containers/{id}/json; size is (SizeRw, SizeRootFs) when asked for."""
    definition = container.definition
    directory = container.directory
    log = str(container.log_path) if _logs_to_file(container.host) else ""
    document: Json = {
        "Id": container.id,
        "Created": rfc3339(container.created_ns),
        "Path": definition.path,
        "Args": definition.args,
        "State": _state(container),
        "Image": definition.image_id,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": log,
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": apparmor_of(
            parse_security_options(container.host.security_opt), container.host.privileged
        ),
        "ExecIDs": sorted(container.exec_ids) or None,
        "HostConfig": _without_empty(container.host),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "LowerDir": ":".join(engine.images.layer_paths_of(definition.diff_ids)),
                "MergedDir": f"/proc/{container.state.pid}/root" if container.running else "",
                "UpperDir": str(directory / "upper"),
                "WorkDir": str(directory / "work"),
            },
        },
        "Mounts": [mount.inspect() for mount in definition.mounts if mount.listed],
        "Config": _without_empty(container.config),
        "NetworkSettings": engine.networks.settings(container.member()),
    }
    if size is not None:
        document["SizeRw"], document["SizeRootFs"] = size
    return document


def _without_empty(config: Config | HostConfig) -> Json:
    members: Json = msgspec.to_builtins(config)
    for name in LEFT_OUT_WHEN_EMPTY:
        value = members.get(name)
        if value in (None, "", [], {}) or (name == "ArgsEscaped" and not value):
            members.pop(name, None)
    return members


def _logs_to_file(host: HostConfig) -> bool:
    return host.log_config is not None and host.log_config.type != "none"


def _state(container: Container) -> Json:
    state = container.state
    document: Json = {
        "Status": state.status,
        "Running": container.running or state.status == Status.RESTARTING,
        "Paused": container.paused,
        "Restarting": state.status == Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_at_ns),
        "FinishedAt": rfc3339(state.finished_at_ns),
    }
    if state.health is not None:
        document["Health"] = _health(state.health)
    return document


def _health(health: Health) -> Json:
    return {"Status": health.status, "FailingStreak": health.failing_streak, "Log": health.log}


def list_row(engine: Engine, container: Container, size: tuple[int, int] | None = None) -> Json:
    """One row of GET /containers/json."""
    definition = container.definition
    member = container.member()
    row: Json = {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": _shown_image(engine, container),
        "ImageID": definition.image_id,
        "Command": _command(container),
        "Created": container.created_ns // 1_000_000_000,
        "Ports": engine.networks.ports(member),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host.network_mode},
        "Health": {
            "Status": container.state.health.status if container.state.health else "none",
            "FailingStreak": container.state.health.failing_streak if container.state.health else 0,
        },
        "NetworkSettings": {"Networks": engine.networks.settings(member).networks},
        "Mounts": [mount.inspect() for mount in definition.mounts if mount.listed],
    }
    if size is not None:
        row["SizeRw"], row["SizeRootFs"] = size
    return row


def _shown_image(engine: Engine, container: Container) -> str:
    """The name the container was made with, or the id once the name means another image."""
    name = container.config.image
    return (
        name if engine.images.id_of(name) == container.definition.image_id else container.definition.image_id
    )


def _command(container: Container) -> str:
    parts = [container.definition.path, *container.definition.args]
    return " ".join(_quoted(part) for part in parts)


def _quoted(part: str) -> str:
    return f"'{part}'" if " " in part else part


def status_text(container: Container) -> str:
    """The STATUS column: Up 3 minutes (healthy), Exited (0) 2 hours ago, Created ..."""
    state = container.state
    match state.status:
        case Status.RUNNING | Status.PAUSED:
            text = f"Up {ago(state.started_at_ns)}"
            if container.paused:
                return f"{text} (Paused)"
            if state.health is not None:
                shown = "health: starting" if state.health.status == "starting" else state.health.status
                return f"{text} ({shown})"
            return text
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {ago(state.finished_at_ns)} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {ago(state.finished_at_ns)} ago"
