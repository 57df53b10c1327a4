"""JSON for a process that lives a few milliseconds: the specification without its full types.

Loading the typed structures of seom.oci.runtime_spec costs more time than starting a container
does. A Record offers the same attributes on the decoded JSON; a test holds the two together.
"""

from __future__ import annotations

import _json
from _json import encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Members that are something other than None when a specification leaves them out.
_LISTS = """
    additional_gids ambient args architectures bounding create_container create_runtime devices effective
    env flags gid_mappings hugepage_limits inheritable masked_paths mounts namespaces options permitted
    poststart poststop prestart readonly_paths rlimits start_container syscalls throttle_read_bps_device
    throttle_read_iops_device throttle_write_bps_device throttle_write_iops_device uid_mappings weight_device
    """
_TEXTS = """
    apparmor_profile cgroups_path cpus domainname hostname mems mount_label path rootfs_propagation
    selinux_label source type
    """
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_LISTS.split(), ()),
    **dict.fromkeys(_TEXTS.split(), ""),
    **{name: {} for name in ("annotations", "sysctl", "unified")},
    **dict.fromkeys(["allow", "no_new_privileges", "readonly", "terminal"], False),
    **dict.fromkeys(["gid", "height", "uid", "value_two", "width"], 0),
}
_NAMES = {
    "block_io": "blockIO",
    "container_id": "containerID",
    "disable_oom_killer": "disableOOMKiller",
    "host_id": "hostID",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
}
_RECORDS_IN = {"user", "capabilities", "process", "root", "linux", "hooks", "resources", "seccomp"}
_RECORDS_IN |= {"memory", "cpu", "pids", "block_io", "personality", "console_size"}


class Record:
    """A JSON object: members are attributes in snake case, absent ones are what the types say."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members

    def __getattr__(self, name: str) -> Any:
        value = self.members.get(json_name(name))
        if value is None:
            value = Record({}) if name == "user" else _DEFAULTS.get(name)
        elif isinstance(value, dict) and name in _RECORDS_IN:
            value = Record(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            value = [Record(one) for one in value]
        self.__dict__[name] = value
        return value


def json_name(name: str) -> str:
    """The member of the JSON object for an attribute."""
    if name in _NAMES:
        return _NAMES[name]
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class _Strict:
    """What the interpreter's JSON scanner wants to be told."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan: Any = _json.make_scanner(_Strict())  # type: ignore[arg-type]


def decode(text: str | bytes) -> Any:
    """Read JSON without loading the json package; raises ValueError."""
    text = text.decode() if isinstance(text, bytes) else text
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = _scan(text, start)
    except StopIteration as error:
        raise ValueError(f"invalid JSON at character {error.value}") from None
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"invalid JSON: something follows at character {end}")
    return value


def encode(value: Any) -> str:
    """Write JSON (None, booleans, whole numbers, strings, lists and objects)."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        members = (f"{encode_basestring_ascii(key)}:{encode(one)}" for key, one in value.items())
        return "{" + ",".join(members) + "}"
    return "[" + ",".join(encode(one) for one in value) + "]"
