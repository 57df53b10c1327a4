"""Devices of a container: nodes to make, rules to set."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from seom.containers.config import DeviceMapping, DeviceRequest, HostConfig
from seom.errors import InvalidParameter, NotSupported
from seom.oci.runtime_spec import Device, DeviceRule

# Folders and nodes of /dev that a container has of its own, and those of other container systems.
OWN_FOLDERS = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
OWN_NODES = {"/dev/console", "/dev/ptmx", "/dev/null", "/dev/zero", "/dev/full", "/dev/random"}
OWN_NODES |= {"/dev/urandom", "/dev/tty"}

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


def devices_of(host: HostConfig) -> tuple[list[Device], list[DeviceRule]]:
    """The nodes and rules for what a user asked for; a privileged container gets all of the host's.

    Raises InvalidParameter for a path that is no device, NotSupported for device requests (GPUs).
    """
    check_device_requests(host.device_requests)
    devices: list[Device] = []
    rules: list[DeviceRule] = []
    if host.privileged:
        devices = list(host_devices())
        rules = [DeviceRule(allow=True)]
    for mapping in host.devices or []:
        added = list(_mapped(mapping))
        paths = {device.path for device in added}
        devices = [device for device in devices if device.path not in paths] + added
        if not host.privileged:
            rules += [_rule_for(device, mapping.cgroup_permissions) for device in added]
    if not host.privileged:
        rules += [parse_rule(text) for text in host.device_cgroup_rules or []]
        rules.insert(0, DeviceRule(allow=False))
    return devices, rules


def check_device_requests(requests: list[DeviceRequest] | None) -> None:
    """Refuse --gpus and its like: no driver here can fulfil them."""
    for request in requests or []:
        capabilities = [list(names) for names in request.capabilities or []]
        shown = " ".join(f"[{' '.join(names)}]" for names in capabilities)
        raise NotSupported(f'could not select device driver "{request.driver}" with capabilities: [{shown}]')


def parse_rule(text: str) -> DeviceRule:
    """Read a --device-cgroup-rule such as "c 13:* rwm"."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    numbers = [None if number == "*" else int(number) for number in (major, minor)]
    return DeviceRule(True, kind, numbers[0], numbers[1], access)


def host_devices() -> Iterator[Device]:
    """Every device node below /dev, except for those that a container has of its own."""
    for folder, folders, files in os.walk("/dev"):
        if folder == "/dev":
            folders[:] = [name for name in folders if name not in OWN_FOLDERS]
        for name in files:
            path = f"{folder}/{name}"
            if path not in OWN_NODES:
                device = _node(path, path)
                if device is not None:
                    yield device


def _mapped(mapping: DeviceMapping) -> Iterator[Device]:
    """One --device: a node, or a folder with all nodes below it."""
    source = os.path.realpath(mapping.path_on_host)
    target = mapping.path_in_container or mapping.path_on_host
    failure = f"error gathering device information while adding custom device {_quoted(mapping.path_on_host)}"
    try:
        status = os.stat(source)
    except OSError as error:
        raise InvalidParameter(f"{failure}: {(error.strerror or '').lower()}") from error
    device = _node(source, target)
    if device is not None:
        yield device
    elif stat.S_ISDIR(status.st_mode):
        for folder, _, files in os.walk(source):
            for name in files:
                inside = f"{folder}/{name}"
                below = _node(inside, target + inside.removeprefix(source))
                if below is not None:
                    yield below
    else:
        raise InvalidParameter(f"{failure}: not a device node")


def _node(path: str, target: str) -> Device | None:
    """Describe a device node; None for any other kind of file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else None
    if kind is None:
        return None
    return Device(
        target,
        kind,
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _rule_for(device: Device, access: str) -> DeviceRule:
    return DeviceRule(True, device.type, device.major, device.minor, access or "rwm")


def _quoted(text: str) -> str:
    return f'"{text}"'
