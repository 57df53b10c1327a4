"""The flags of `run` and `create`, and of `update`, which shares the limits."""

from __future__ import annotations

from seom.cli.flags import Flag
from seom.cli.port_syntax import check_port
from seom.cli.request_syntax import (
    check_env,
    check_extra_host,
    check_label,
    check_mount,
    check_stream,
    check_sysctl,
    check_throttle,
    check_ulimit,
    check_weight_device,
)

RESTART_WORDS = "no on-failure always unless-stopped"

LIMITS = (
    Flag("blkio-weight", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period, in microseconds"),
    Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds"),
    Flag("cpu-rt-period", "int", "Limit CPU real-time period in microseconds"),
    Flag("cpu-rt-runtime", "int", "Limit CPU real-time runtime in microseconds"),
    Flag("cpu-shares", "int", "CPU shares (relative weight)", short="c"),
    Flag("cpus", "decimal", "Number of CPUs"),
    Flag("cpuset-cpus", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("memory", "bytes", "Memory limit", short="m"),
    Flag("memory-reservation", "bytes", "Memory soft limit"),
    Flag("memory-swap", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
)

UPDATE_FLAGS = (
    *LIMITS,
    Flag("restart", "string", "Restart policy to apply when a container exits", complete=RESTART_WORDS),
    Flag("kernel-memory", "bytes", "Kernel memory limit (deprecated)", hidden=True),
)

_PROCESS = (
    Flag(
        "attach",
        "list",
        "Attach to STDIN, STDOUT or STDERR",
        short="a",
        complete="stdin stdout stderr",
        check=check_stream,
    ),
    Flag("detach-keys", "string", "Override the key sequence for detaching a container"),
    Flag("entrypoint", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "list", "Set environment variables", short="e", check=check_env),
    Flag("env-file", "list", "Read in a file of environment variables", complete="files"),
    Flag("init", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "bool", "Keep STDIN open even if not attached", short="i"),
    Flag("tty", "bool", "Allocate a pseudo-TTY", short="t"),
    Flag("user", "string", "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
    Flag("group-add", "list", "Add additional groups to join"),
    Flag("workdir", "string", "Working directory inside the container", short="w"),
    Flag("stop-signal", "string", "Signal to stop the container"),
    Flag("stop-timeout", "int", "Timeout (in seconds) to stop a container"),
    Flag("ulimit", "ulimit", "Ulimit options (name=soft[:hard])", check=check_ulimit),
    Flag("health-cmd", "string", "Command to run to check health"),
    Flag("health-interval", "duration", "Time between running the check (ms|s|m|h)"),
    Flag("health-retries", "int", "Consecutive failures needed to report unhealthy"),
    Flag(
        "health-start-interval",
        "duration",
        "Time between running the check during the start period (ms|s|m|h)",
    ),
    Flag(
        "health-start-period",
        "duration",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)",
    ),
    Flag("health-timeout", "duration", "Maximum time to allow one check to run (ms|s|m|h)"),
    Flag("no-healthcheck", "bool", "Disable any container-specified HEALTHCHECK"),
)

_NETWORK = (
    Flag("add-host", "list", "Add a custom host-to-IP mapping (host:ip)", check=check_extra_host),
    Flag("dns", "list", "Set custom DNS servers"),
    Flag("dns-option", "list", "Set DNS options"),
    Flag("dns-opt", "list", "Set DNS options", hidden=True),
    Flag("dns-search", "list", "Set custom DNS search domains"),
    Flag("domainname", "string", "Container NIS domain name"),
    Flag("expose", "list", "Expose a port or a range of ports"),
    Flag("hostname", "string", "Container host name", short="h"),
    Flag("ip", "string", "IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", "string", "IPv6 address (e.g., 2001:db8::33)"),
    Flag("link", "list", "Add link to another container", complete="containers"),
    Flag("link-local-ip", "list", "Container IPv4/IPv6 link-local addresses"),
    Flag("mac-address", "string", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("network", "network", "Connect a container to a network", complete="networks"),
    Flag("net", "network", "Connect a container to a network", hidden=True),
    Flag("network-alias", "list", "Add network-scoped alias for the container"),
    Flag("net-alias", "list", "Add network-scoped alias for the container", hidden=True),
    Flag("publish", "list", "Publish a container's port(s) to the host", short="p", check=check_port),
    Flag("publish-all", "bool", "Publish all exposed ports to random ports", short="P"),
)

_FILES = (
    Flag("mount", "mount", "Attach a filesystem mount to the container", check=check_mount),
    Flag("read-only", "bool", "Mount the container's root filesystem as read only"),
    Flag("shm-size", "bytes", "Size of /dev/shm"),
    Flag("storage-opt", "list", "Storage driver options for the container"),
    Flag("tmpfs", "list", "Mount a tmpfs directory"),
    Flag("volume", "list", "Bind mount a volume", short="v", complete="volumes"),
    Flag("volume-driver", "string", "Optional volume driver for the container"),
    Flag("volumes-from", "list", "Mount volumes from the specified container(s)", complete="containers"),
)

_ISOLATION = (
    Flag("cap-add", "list", "Add Linux capabilities"),
    Flag("cap-drop", "list", "Drop Linux capabilities"),
    Flag("cgroup-parent", "string", "Optional parent cgroup for the container"),
    Flag("cgroupns", "string", "Cgroup namespace to use (host|private)", complete="host private"),
    Flag("device", "list", "Add a host device to the container", complete="files"),
    Flag("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list"),
    Flag("gpus", "gpu-request", "GPU devices to add to the container ('all' to pass all GPUs)"),
    Flag("ipc", "string", "IPC mode to use", complete="host private shareable none"),
    Flag("isolation", "string", "Container isolation technology", complete="default process container vm"),
    Flag("oom-kill-disable", "bool", "Disable OOM Killer"),
    Flag("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", "string", "PID namespace to use", complete="host"),
    Flag("privileged", "bool", "Give extended privileges to this container"),
    Flag("runtime", "string", "Runtime to use for this container"),
    Flag("security-opt", "list", "Security Options"),
    Flag("sysctl", "map", "Sysctl options", check=check_sysctl),
    Flag("userns", "string", "User namespace to use", complete="host"),
    Flag("uts", "string", "UTS namespace to use", complete="host"),
)

_MORE_LIMITS = (
    Flag(
        "blkio-weight-device", "list", "Block IO weight (relative device weight)", check=check_weight_device
    ),
    Flag(
        "device-read-bps",
        "list",
        "Limit read rate (bytes per second) from a device",
        check=check_throttle,
    ),
    Flag("device-read-iops", "list", "Limit read rate (IO per second) from a device", check=check_throttle),
    Flag(
        "device-write-bps",
        "list",
        "Limit write rate (bytes per second) to a device",
        check=check_throttle,
    ),
    Flag("device-write-iops", "list", "Limit write rate (IO per second) to a device", check=check_throttle),
    Flag("kernel-memory", "bytes", "Kernel memory limit", hidden=True),
    Flag("memory-swappiness", "int", "Tune container memory swappiness (0 to 100)", default=-1),
)

_KEEPING = (
    Flag("annotation", "map", "Add an annotation to the container (passed through to the OCI runtime)"),
    Flag("cidfile", "string", "Write the container ID to the file", complete="files"),
    Flag("disable-content-trust", "bool", "Skip image verification", default=True, hidden=True),
    Flag("label", "list", "Set meta data on a container", short="l", check=check_label),
    Flag("label-file", "list", "Read in a line delimited file of labels", complete="files"),
    Flag("log-driver", "string", "Logging driver for the container", complete="json-file local none"),
    Flag("log-opt", "list", "Log driver options"),
    Flag("name", "string", "Assign a name to the container"),
    Flag("platform", "string", "Set platform if server is multi-platform capable"),
    Flag(
        "pull",
        "string",
        'Pull image before running ("always", "missing", "never")',
        default="missing",
        complete="always missing never",
    ),
    Flag("quiet", "bool", "Suppress the pull output", short="q"),
    Flag(
        "restart",
        "string",
        "Restart policy to apply when a container exits",
        default="no",
        complete=RESTART_WORDS,
    ),
    Flag("rm", "bool", "Automatically remove the container and its anonymous volumes when it exits"),
)

CREATE_FLAGS = (*_PROCESS, *_NETWORK, *_FILES, *_ISOLATION, *LIMITS, *_MORE_LIMITS, *_KEEPING)

RUN_FLAGS = (
    *CREATE_FLAGS,
    Flag("detach", "bool", "Run container in background and print container ID", short="d"),
    Flag("sig-proxy", "bool", "Proxy received signals to the process", default=True),
)
