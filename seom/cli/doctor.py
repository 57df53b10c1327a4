"""doctor: what this machine has and lacks for Seom, why it matters and how to get it."""

from __future__ import annotations

import os

from seom.cli import doctor_probes as probes
from seom.cli import formats, jsontext, output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from seom.cli.doctor_probes import Finding

_MARKS = {"ok": "[ ok ]", "warn": "[warn]", "missing": "[MISS]"}
_COLOURS = {"ok": "\x1b[32m", "warn": "\x1b[33m", "missing": "\x1b[31m"}


def _doctor(invocation: Invocation) -> int:
    text = invocation.options.text("format")
    findings = [*probes.examine(invocation.options.text("data-root")), _daemon(invocation)]
    missing = [finding for finding in findings if finding.state == "missing"]
    if text == "json":
        output.line(jsontext.encode([_document(finding) for finding in findings], indent=2))
    elif text:
        template = formats.DocumentTemplate(text)
        for finding in findings:
            output.line(template.render(_document(finding)))
    else:
        output.write(_report(findings))
    return 1 if missing else 0


def _daemon(invocation: Invocation) -> Finding:
    address = invocation.client.address
    why = "every command but this one talks to it"
    try:
        version = invocation.client.get("/version")
    except CommandError as error:
        return probes.Finding(
            "daemon", "warn", error.message.split(";")[0], why, "start it with `seomd` as root"
        )
    name = (version.get("Platform") or {}).get("Name") or "an engine"
    return probes.Finding("daemon", "ok", f"{name} {version.get('Version', '')} at {address}", why, "")


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "Name": finding.name,
        "State": finding.state,
        "Found": finding.found,
        "Why": finding.why,
        "Remedy": finding.remedy,
    }


def _report(findings: list[Finding]) -> str:
    coloured = os.isatty(1) and not os.environ.get("NO_COLOR")
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        mark = _MARKS[finding.state]
        if coloured:
            mark = f"{_COLOURS[finding.state]}{mark}\x1b[0m"
        lines.append(f"{mark} {finding.name:{width}}  {finding.found}")
        if finding.state != "ok":
            indent = " " * (9 + width)
            lines.append(f"{indent}why: {finding.why}")
            if finding.remedy:
                lines.append(f"{indent}how: {finding.remedy}")
    counts = {state: sum(finding.state == state for finding in findings) for state in _MARKS}
    lines.append(f"\n{counts['ok']} ok, {counts['warn']} to look at, {counts['missing']} missing")
    return "\n".join(lines) + "\n"


DOCTOR = Command(
    _doctor,
    "[OPTIONS]",
    (0, 0),
    (
        Flag(
            "data-root",
            "string",
            "Where the daemon keeps its data",
            default="/var/lib/seom",
            complete="files",
        ),
        Flag("format", "string", "Format output: 'json' or a Go template", short="f", complete="json"),
    ),
    details="The exit status is 1 when something is missing without which containers do not run.",
)
