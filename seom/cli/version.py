"""version: of this client and of the daemon."""

from __future__ import annotations

import os
import sys

from seom import __version__
from seom.cli import formats, output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API_VERSION = "1.50"


def _client() -> dict[str, Any]:
    machine = os.uname().machine
    return {
        "Platform": {"Name": "Seom"},
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": sys.version.split()[0],
        "Os": sys.platform,
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "Context": "default",
    }


def _version(invocation: Invocation) -> int:
    template = formats.document_template(invocation.options)
    server: dict[str, Any] | None = None
    problem: CommandError | None = None
    try:
        server = invocation.client.get("/version")
    except CommandError as error:
        problem = error
    data = {"Client": _client(), "Server": server}
    if template is not None:
        output.line(template.render(data))
    else:
        output.write(_text(data["Client"] or {}, server))
    if problem is not None:
        raise problem
    return 0


def _text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    lines = [
        "Client: Seom",
        f" Version:           {client['Version']}",
        f" API version:       {client['ApiVersion']}",
        f" Python version:    {client['PythonVersion']}",
        f" OS/Arch:           {client['Os']}/{client['Arch']}",
    ]
    if server:
        lines += ["", f"Server: {(server.get('Platform') or {}).get('Name', '')}".rstrip()]
        for part in server.get("Components") or [_as_component(server)]:
            lines += _component(part)
    return "\n".join(lines) + "\n"


def _as_component(server: dict[str, Any]) -> dict[str, Any]:
    names = (
        "ApiVersion",
        "MinAPIVersion",
        "GitCommit",
        "BuildTime",
        "Os",
        "Arch",
        "GoVersion",
        "PythonVersion",
    )
    details = {name: server[name] for name in names if server.get(name)}
    return {"Name": "Engine", "Version": server.get("Version", ""), "Details": details}


def _component(part: dict[str, Any]) -> list[str]:
    details = part.get("Details") or {}
    lines = [f" {part['Name']}:", f"  Version:          {part['Version']}"]
    if details.get("ApiVersion"):
        minimum = details.get("MinAPIVersion", "?")
        lines.append(f"  API version:      {details['ApiVersion']} (minimum version {minimum})")
    for key, label in (
        ("GoVersion", "Go version:"),
        ("PythonVersion", "Python version:"),
        ("GitCommit", "Git commit:"),
        ("BuildTime", "Built:"),
    ):
        if details.get(key):
            lines.append(f"  {label:<17} {details[key]}")
    if details.get("Os"):
        lines.append(f"  OS/Arch:          {details['Os']}/{details.get('Arch', '')}")
    if details.get("KernelVersion"):
        lines.append(f"  Kernel version:   {details['KernelVersion']}")
    return lines


VERSION = Command(_version, "[OPTIONS]", (0, 0), (formats.DOCUMENT_FORMAT,))
