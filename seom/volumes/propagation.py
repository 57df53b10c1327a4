"""Whether the host's mounts allow a bind to propagate; see mount_namespaces(7)."""

from __future__ import annotations

import os
from collections.abc import Iterable

_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


def refusal(source: str, propagation: str) -> str:
    """Why a bind of source cannot propagate as asked for, in Docker's words; empty when it can.

    Reads /proc/self/mountinfo only for shared and slave mounts.
    """
    kind = propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return ""
    with open("/proc/self/mountinfo") as table:
        mount_point, options = source_mount(os.path.realpath(source), table)
    if any(option.startswith("shared:") for option in options):
        return ""
    if kind == "slave" and any(option.startswith("master:") for option in options):
        return ""
    wanted = "shared" if kind == "shared" else "shared or slave"
    return f"path {source} is mounted on {mount_point} but it is not a {wanted} mount"


def source_mount(path: str, table: Iterable[str]) -> tuple[str, list[str]]:
    """The mount point that holds path, and its optional fields, from lines of mountinfo.

    The last one counts where several are stacked. See proc_pid_mountinfo(5).
    """
    found: tuple[str, list[str]] = ("/", [])
    for line in table:
        fields = line.split(" - ")[0].split()
        mount_point = fields[4]
        for escape, character in _ESCAPES.items():
            mount_point = mount_point.replace(escape, character)
        inside = f"{path}/".startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(found[0]):
            found = (mount_point, fields[6:])
    return found
