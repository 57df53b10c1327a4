"""From a create request to a container's definition: the image's defaults, Docker's, and validation."""

from __future__ import annotations

from seom.containers.config import (
    Config,
    CreateRequest,
    EndpointConfig,
    HealthConfig,
    HostConfig,
    LogConfig,
    RestartPolicy,
)
from seom.engine.signals import parse_signal
from seom.errors import InvalidParameter
from seom.oci.image_config import ExecutionConfig

MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

DEFAULT_SHM_BYTES = 64 * 1024 * 1024
DEFAULT_STOP_TIMEOUT_S = 10
LOG_DRIVERS = ("json-file", "local", "none")
RESTART_POLICIES = ("no", "always", "on-failure", "unless-stopped")
MINIMUM_INTERVAL_NS = 1_000_000


def words(value: list[str] | str | None) -> list[str]:
    """A command given as a list or, by old clients, as one string."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def merge_image_defaults(config: Config, image: ExecutionConfig) -> None:
    """Fill what the request left open from the image's configuration, in place.

    An entrypoint in the request drops the image's command; environment and labels merge by key.
    """
    config.user = config.user or image.user
    config.working_dir = config.working_dir or image.working_dir
    config.stop_signal = config.stop_signal or image.stop_signal
    config.shell = config.shell or image.shell
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    config.exposed_ports = {**(image.exposed_ports or {}), **(config.exposed_ports or {})} or None
    config.volumes = {**(image.volumes or {}), **(config.volumes or {})} or None
    config.env = _merge_env(image.env or [], config.env or [])
    _merge_command(config, image)
    _merge_health(config, image)


def _merge_env(defaults: list[str], wanted: list[str]) -> list[str]:
    merged: dict[str, str] = {}
    for entry in (*defaults, *wanted):
        merged[entry.partition("=")[0]] = entry
    # "-e NAME" without a value removes what the image set.
    return [entry for entry in merged.values() if "=" in entry]


def _merge_command(config: Config, image: ExecutionConfig) -> None:
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = image.cmd
        if config.entrypoint is None:
            config.entrypoint = image.entrypoint
    if words(config.entrypoint) == [""]:
        config.entrypoint = None


def _merge_health(config: Config, image: ExecutionConfig) -> None:
    default, wanted = image.healthcheck, config.healthcheck
    if default is None or wanted is None:
        config.healthcheck = wanted or default
        return
    config.healthcheck = HealthConfig(
        test=wanted.test or default.test,
        interval=wanted.interval or default.interval,
        timeout=wanted.timeout or default.timeout,
        retries=wanted.retries or default.retries,
        start_period=wanted.start_period or default.start_period,
        start_interval=wanted.start_interval or default.start_interval,
    )


def command_line(config: Config) -> list[str]:
    """Entrypoint and command as one argument vector; raises InvalidParameter when both are empty."""
    argv = [*words(config.entrypoint), *words(config.cmd)]
    if not argv or not argv[0]:
        raise InvalidParameter("no command specified")
    return argv


def split_request(request: CreateRequest) -> tuple[Config, HostConfig]:
    """The two halves of a create request."""
    config = Config(**{field: getattr(request, field) for field in Config.__struct_fields__})
    return config, request.host_config or HostConfig()


def endpoint_requests(request: CreateRequest) -> dict[str, EndpointConfig | None]:
    """The wishes for networks by name; "default" is another name of bridge."""
    networking = request.networking_config
    wishes = (networking.endpoints_config if networking else None) or {}
    return {"bridge" if name == "default" else name: wish for name, wish in wishes.items()}


def fill_host_defaults(host: HostConfig) -> None:
    """What Docker shows in HostConfig for options that were not given, in place."""
    host.network_mode = "bridge" if host.network_mode in ("", "default") else host.network_mode
    host.ipc_mode = host.ipc_mode or "private"
    host.cgroupns_mode = host.cgroupns_mode or "private"
    host.shm_size = host.shm_size or DEFAULT_SHM_BYTES
    host.log_config = host.log_config or LogConfig()
    host.log_config.type = host.log_config.type or "json-file"
    host.log_config.config = host.log_config.config or {}
    host.restart_policy = host.restart_policy or RestartPolicy()
    host.restart_policy.name = host.restart_policy.name or "no"
    host.runtime = host.runtime or "seom"
    host.port_bindings = host.port_bindings or {}
    if host.privileged:
        host.masked_paths, host.readonly_paths = [], []
    if host.masked_paths is None:
        host.masked_paths = list(MASKED_PATHS)
    if host.readonly_paths is None:
        host.readonly_paths = list(READONLY_PATHS)
    if host.memory and not host.memory_swap:
        host.memory_swap = 2 * host.memory


def check(config: Config, host: HostConfig) -> None:
    """Refuse what cannot work; raises InvalidParameter with Docker's words where it has some."""
    _check_restart_policy(host)
    _check_log(host.log_config or LogConfig())
    _check_health(config.healthcheck)
    if host.runtime not in (None, "", "seom", "runc", "io.containerd.runc.v2"):
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    if host.isolation not in ("", "default", "container"):
        raise InvalidParameter(
            f'invalid isolation "{host.isolation}": this version runs containers; leave --isolation out'
        )
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    for entry in config.env or []:
        if entry.startswith("=") or not entry:
            raise InvalidParameter(f"invalid environment variable: {entry}")


def _check_restart_policy(host: HostConfig) -> None:
    policy = host.restart_policy or RestartPolicy()
    name = policy.name or "no"
    if name not in RESTART_POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if host.auto_remove and name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def _check_log(log: LogConfig) -> None:
    if log.type not in LOG_DRIVERS:
        raise InvalidParameter(
            f"logger: no log driver named '{log.type}' is registered; choose one of {', '.join(LOG_DRIVERS)}"
        )
    known = {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    for option, value in (log.config or {}).items():
        if log.type == "none" or option not in known:
            raise InvalidParameter(f"unknown log opt '{option}' for {log.type} log driver")
        if option == "max-file" and (not value.isdecimal() or int(value) < 1):
            raise InvalidParameter(f"max-file cannot be less than 1: {value}")
        if option == "max-size":
            parse_size(value)


def _check_health(health: HealthConfig | None) -> None:
    if health is None:
        return
    durations = {
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
    }
    for name, value in durations.items():
        if value and value < MINIMUM_INTERVAL_NS:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def parse_size(text: str) -> int:
    """Bytes of a size such as 10m, 1.5g or 4096; raises InvalidParameter. -1 means no limit."""
    if text == "-1":
        return -1
    number, unit = text.lower().removesuffix("ib").removesuffix("b"), 1
    for power, suffix in enumerate("kmgt", start=1):
        if number.endswith(suffix):
            number, unit = number[:-1], 1024**power
    try:
        size = int(float(number) * unit)
    except ValueError as error:
        raise InvalidParameter(f"invalid size: '{text}'") from error
    if size < 0:
        raise InvalidParameter(f"invalid size: '{text}'")
    return size
