"""The little languages inside flags: mounts, ulimits, devices, environment files, networks ...

Each function turns one flag's value into the API's own structure. Those named check_ are used
while parsing, so that a wrong value is reported together with its flag; all raise ValueError.
"""

from __future__ import annotations

import os

from seom.cli import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_SWITCHES = ("readonly", "bind-nonrecursive", "volume-nocopy", "bind-create-src")


def split_fields(text: str) -> list[str]:
    """Split at commas, as one line of CSV: a field in double quotes keeps its commas."""
    fields, field, quoted, index = [], "", False, 0
    while index < len(text):
        character = text[index]
        if character == '"' and (quoted or not field):
            if quoted and text[index + 1 : index + 2] == '"':
                field += '"'
                index += 1
            else:
                quoted = not quoted
        elif character == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += character
        index += 1
    return [*fields, field]


def check_env(text: str) -> None:
    """A variable has a name."""
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")


def check_label(text: str) -> None:
    """A label has a name."""
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label '{text}': empty name")


def check_stream(text: str) -> None:
    """A stream is one of the three."""
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    import _socket

    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    try:
        _socket.inet_pton(family, text.partition("%")[0])
    except OSError:
        return False
    return True


def check_sysctl(text: str) -> None:
    """A setting has a value."""
    if "=" not in text:
        raise ValueError(f"sysctl '{text}' is not allowed")


def check_extra_host(text: str) -> None:
    """A host has a name and an address."""
    parse_extra_host(text)


def parse_extra_host(text: str) -> str:
    """ "name:address" of "name:address", "name=address" or "name=[v6 address]"."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def check_ulimit(text: str) -> None:
    """A limit has a name and a number."""
    parse_ulimit(text)


def parse_ulimit(text: str) -> dict[str, Any]:
    """{"Name", "Soft", "Hard"} of name=soft[:hard]; -1 is unlimited."""
    name, equals, value = text.partition("=")
    soft, _, hard = value.partition(":")
    if not equals or not value:
        raise ValueError(f"invalid ulimit argument: {text}")
    try:
        low = int(soft)
        high = int(hard) if hard else low
    except ValueError:
        raise ValueError(f"invalid ulimit argument: {text}") from None
    if high >= 0 and (low > high or low == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return {"Name": name, "Soft": low, "Hard": high}


def check_throttle(text: str) -> None:
    """A device limit is PATH:RATE."""
    parse_throttle(text)


def parse_throttle(text: str) -> dict[str, Any]:
    """{"Path", "Rate"} of /dev/sda:1mb or /dev/sda:1000."""
    path, colon, rate = text.partition(":")
    if not colon:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    try:
        return {"Path": path, "Rate": units.parse_bytes(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]"
        ) from None


def check_weight_device(text: str) -> None:
    """A device weight is PATH:WEIGHT."""
    parse_weight_device(text)


def parse_weight_device(text: str) -> dict[str, Any]:
    """{"Path", "Weight"} of /dev/sda:500."""
    path, colon, weight = text.partition(":")
    if not colon:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    if not weight.isdigit() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def parse_device(text: str) -> dict[str, str]:
    """{"PathOnHost", ...} of HOST[:CONTAINER][:rwm]."""
    source, _, rest = text.partition(":")
    if not source.startswith("/"):
        raise ValueError(f"{source} is not an absolute path")
    target, _, permissions = rest.partition(":")
    if target and _is_permissions(target) and not permissions:
        target, permissions = "", target
    if permissions and not _is_permissions(permissions):
        raise ValueError(f"invalid device specification: {text}")
    return {
        "PathOnHost": source,
        "PathInContainer": target or source,
        "CgroupPermissions": permissions or "rwm",
    }


def _is_permissions(text: str) -> bool:
    return set(text) <= set("rwm") and len(set(text)) == len(text)


def check_mount(text: str) -> None:
    """A mount is readable and has a target."""
    parse_mount(text)


def parse_mount(text: str) -> dict[str, Any]:
    """The API's Mount of --mount type=bind,source=/a,target=/b,readonly ..."""
    mount: dict[str, Any] = {"Type": "volume"}
    for field in split_fields(text):
        name, equals, value = field.partition("=")
        name = _SYNONYMS.get(name.lower(), name.lower())
        if not equals and name not in _SWITCHES:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        _apply_mount_field(mount, name, value, equals, field)
    if mount["Type"] == "":
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    for prefix, options in (("bind", "BindOptions"), ("volume", "VolumeOptions"), ("tmpfs", "TmpfsOptions")):
        if options in mount and mount["Type"] != prefix:
            raise ValueError(f"cannot mix '{prefix}-*' options with mount type '{mount['Type']}'")
    if mount["Type"] == "bind" and mount.get("Source", "").startswith("."):
        mount["Source"] = os.path.abspath(mount["Source"])
    return mount


def _apply_mount_field(mount: dict[str, Any], name: str, value: str, equals: str, field: str) -> None:
    if name == "type":
        mount["Type"] = value.lower()
    elif name in ("source", "target", "consistency"):
        mount[name.capitalize()] = value
    elif name == "readonly":
        mount["ReadOnly"] = _switch(name, value, equals)
    elif name == "bind-propagation":
        mount.setdefault("BindOptions", {})["Propagation"] = value.lower()
    elif name == "bind-nonrecursive":
        mount.setdefault("BindOptions", {})["NonRecursive"] = _switch(name, value, equals)
    elif name == "bind-create-src":
        mount.setdefault("BindOptions", {})["CreateMountpoint"] = _switch(name, value, equals)
    elif name == "bind-recursive":
        _apply_recursion(mount.setdefault("BindOptions", {}), value)
    elif name == "volume-nocopy":
        mount.setdefault("VolumeOptions", {})["NoCopy"] = _switch(name, value, equals)
    elif name == "volume-subpath":
        mount.setdefault("VolumeOptions", {})["Subpath"] = value
    elif name == "volume-label":
        key, _, label = value.partition("=")
        mount.setdefault("VolumeOptions", {}).setdefault("Labels", {})[key] = label
    elif name == "volume-driver":
        mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value
    elif name == "volume-opt":
        key, _, option = value.partition("=")
        driver = mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
        driver.setdefault("Options", {})[key] = option
    elif name == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = value
    elif name == "tmpfs-size":
        mount.setdefault("TmpfsOptions", {})["SizeBytes"] = units.parse_bytes(value)
    elif name == "tmpfs-mode":
        mount.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
    else:
        raise ValueError(f"unexpected key '{name}' in '{field}'")


def _apply_recursion(options: dict[str, Any], value: str) -> None:
    settings: dict[str, dict[str, bool]] = {
        "enabled": {},
        "disabled": {"NonRecursive": True},
        "writable": {"ReadOnlyNonRecursive": True},
        "readonly": {"ReadOnlyForceRecursive": True},
    }
    if value not in settings:
        raise ValueError(
            f"invalid value for bind-recursive: {value} "
            '(must be "enabled", "disabled", "writable", or "readonly")'
        )
    options.update(settings[value])


def _switch(name: str, value: str, equals: str) -> bool:
    if not equals or value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise ValueError(f"invalid value for {name}: {value}")


def read_env_file(path: str) -> list[str]:
    """The variables of a file: NAME=value lines, NAME alone takes this environment's value."""
    with open(path, encoding="utf-8-sig") as file:
        lines = file.read().splitlines()
    found = []
    for line in lines:
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name:
            raise ValueError(f"invalid env file ({path}): no variable name on line '{line}'")
        if " " in name or "\t" in name:
            raise ValueError(f"invalid env file ({path}): variable '{name}' contains whitespaces")
        found.extend([line] if "=" in line else resolve_env([name]))
    return found


def resolve_env(variables: list[str]) -> list[str]:
    """NAME=value as it is; NAME takes this environment's value, and is left out when there is none."""
    resolved = []
    for variable in variables:
        if "=" in variable:
            resolved.append(variable)
        elif variable in os.environ:
            resolved.append(f"{variable}={os.environ[variable]}")
    return resolved


def read_label_file(path: str) -> list[str]:
    """The labels of a file, one NAME=value a line."""
    with open(path, encoding="utf-8-sig") as file:
        return [line.strip() for line in file.read().splitlines() if line.strip() and line.lstrip()[0] != "#"]


def to_map(items: list[str]) -> dict[str, str]:
    """{"a": "1", "b": ""} of ["a=1", "b"]."""
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def parse_network(text: str) -> tuple[str, dict[str, Any]]:
    """Network name and EndpointSettings of NAME or name=NAME,alias=A,ip=... ."""
    if "=" not in text:
        return text, {}
    name = ""
    settings: dict[str, Any] = {}
    addresses: dict[str, Any] = {}
    for field in split_fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise ValueError(f"invalid key/value pair format in network options: {field}")
        if key == "name":
            name = value
        elif key == "alias":
            settings.setdefault("Aliases", []).append(value)
        elif key in ("ip", "ip6"):
            addresses["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "link-local-ip":
            addresses.setdefault("LinkLocalIPs", []).append(value)
        elif key == "mac-address":
            settings["MacAddress"] = value
        elif key == "gw-priority":
            settings["GwPriority"] = int(value)
        elif key == "driver-opt":
            option, _, setting = value.partition("=")
            settings.setdefault("DriverOpts", {})[option.lower()] = setting
        else:
            raise ValueError(f"invalid field key {key}")
    if addresses:
        settings["IPAMConfig"] = addresses
    return name, settings


def capability_names(names: list[str]) -> list[str]:
    """Sorted, in capitals, with the prefix CAP_; ALL stays."""
    capitals = {name.strip().upper() for name in names}
    return sorted(name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in capitals)


def parse_restart(text: str) -> dict[str, Any]:
    """{"Name", "MaximumRetryCount"} of no, always, unless-stopped, on-failure[:N]."""
    name, colon, count = text.partition(":")
    if text and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    if colon and not count.isdigit():
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}
