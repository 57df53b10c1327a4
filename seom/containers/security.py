"""What a container may do: capabilities, --security-opt, and the paths hidden from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seom.containers.apparmor_profile import DEFAULT_PROFILE
from seom.containers.config import HostConfig
from seom.containers.seccomp_profile import default_profile, parse_profile
from seom.errors import InvalidParameter
from seom.linux import apparmor
from seom.linux.capabilities import DEFAULT, NAMES, NUMBERS, bounding_set
from seom.oci.runtime_spec import Seccomp

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

UNCONFINED = "unconfined"
TRUE, FALSE = {"1", "t", "true"}, {"0", "f", "false"}


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """The --security-opt values; None where nothing was said."""

    no_new_privileges: bool = False
    seccomp: str | None = None
    apparmor: str | None = None
    writable_cgroups: bool | None = None


def parse_security_options(options: Iterable[str] | None) -> SecurityOptions:
    """Read --security-opt in its forms KEY=VALUE, KEY:VALUE and no-new-privileges.

    SELinux labels are accepted and mean nothing on hosts without it.
    Raises InvalidParameter in Docker's words.
    """
    found: dict[str, str] = {}
    privileges = False
    for option in options or ():
        if option == "no-new-privileges":
            privileges = True
            continue
        key, separator, value = option.partition("=" if "=" in option else ":")
        if option == "disable":
            key = "label"
        elif not separator:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "no-new-privileges":
            privileges = _boolean(value, option)
        elif key in ("seccomp", "apparmor", "writable-cgroups"):
            found[key] = value
        elif key != "label":
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    writable = found.get("writable-cgroups")
    return SecurityOptions(
        no_new_privileges=privileges,
        seccomp=found.get("seccomp"),
        apparmor=found.get("apparmor"),
        writable_cgroups=None if writable is None else _boolean(writable, f"writable-cgroups={writable}"),
    )


def capabilities_of(host: HostConfig) -> list[str]:
    """The capabilities of a container after --cap-add, --cap-drop and --privileged, in kernel order.

    Raises InvalidParameter for names that do not exist or that this host cannot give.
    """
    available = bounding_set()
    added = _normalized("CapAdd", host.cap_add)
    dropped = _normalized("CapDrop", host.cap_drop)
    if host.privileged:
        chosen = set(available)
    elif "ALL" in added:
        chosen = set(available) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = (set(DEFAULT) & available) - dropped | added
    return sorted(chosen - {"ALL"}, key=NUMBERS.__getitem__)


def seccomp_of(options: SecurityOptions, capabilities: list[str], privileged: bool = False) -> Seccomp | None:
    """The filter of a container: its own profile, the default one, or None for unconfined."""
    if options.seccomp == UNCONFINED or (privileged and options.seccomp is None):
        return None
    if options.seccomp in (None, "", "builtin", "default"):
        return default_profile(capabilities)
    return parse_profile(options.seccomp or "", capabilities)


def apparmor_of(options: SecurityOptions, privileged: bool = False) -> str:
    """The AppArmor profile of a container: the default one, its own, or "" for none.

    On a host without AppArmor the option means nothing, as with Docker.
    """
    if not apparmor.enabled() or options.apparmor == UNCONFINED:
        return ""
    if options.apparmor in (None, "", "docker-default"):
        return "" if privileged else DEFAULT_PROFILE
    return options.apparmor or ""


def hidden_paths(host: HostConfig) -> tuple[list[str], list[str]]:
    """(masked, read-only) paths: none for a privileged container, else Docker's unless overridden."""
    masked = list(MASKED_PATHS) if host.masked_paths is None else host.masked_paths
    readonly = list(READONLY_PATHS) if host.readonly_paths is None else host.readonly_paths
    return ([], []) if host.privileged else (masked, readonly)


def _normalized(option: str, names: list[str] | None) -> set[str]:
    found = set()
    for name in names or ():
        upper = name.upper()
        upper = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if upper != "ALL" and upper not in NAMES:
            raise InvalidParameter(f'invalid {option}: unknown capability: "{upper}"')
        if upper != "ALL" and upper not in bounding_set():
            raise InvalidParameter(
                f"invalid {option}: capability not supported by your kernel or not available in the current"
                f' environment: "{upper}"'
            )
        found.add(upper)
    return found


def _boolean(value: str, option: str) -> bool:
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
