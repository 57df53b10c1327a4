"""events: what happens in the daemon, as it happens."""

from __future__ import annotations

from seom.cli import formats, jsontext, output, timestamps
from seom.cli.commands import Command, Invocation
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _events(invocation: Invocation) -> int:
    options = invocation.options
    parameters: dict[str, object] = {
        "since": timestamps.to_api(options.text("since")),
        "until": timestamps.to_api(options.text("until")),
        "filters": encode_filters(options.each("filter")),
    }
    text = options.text("format")
    template = formats.DocumentTemplate(text) if text not in ("", "json") else None
    for event in invocation.client.call("GET", "/events", parameters).documents():
        actor = event.get("Actor") or {}
        actor["Attributes"] = dict(sorted((actor.get("Attributes") or {}).items()))
        if template is not None:
            output.line(template.render(event))
        else:
            output.line(jsontext.encode(event) if text else _text(event))
    return 0


def _text(event: dict[str, Any]) -> str:
    """ "2024-05-01T12:20:30.123456789+02:00 container start ID (image=debian, name=web)"."""
    nanoseconds = int(event.get("timeNano") or 0)
    seconds = int(event.get("time") or nanoseconds // 1_000_000_000)
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    words = [
        timestamps.rfc3339(seconds, nanoseconds % 1_000_000_000),
        str(event.get("Type", "")),
        str(event.get("Action", "")),
        str(actor.get("ID", "")),
    ]
    if attributes:
        words.append("(" + ", ".join(f"{name}={attributes[name]}" for name in attributes) + ")")
    return " ".join(words)


EVENTS = Command(
    _events,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("filter", "filter", "Filter output based on conditions provided", short="f"),
        Flag(
            "format",
            "string",
            "Format output using a custom template: 'json' or a Go template",
            complete="json",
        ),
        Flag("since", "string", "Show all events created since timestamp"),
        Flag("until", "string", "Stream events until this timestamp"),
    ),
)
