"""pull and push."""

from __future__ import annotations

from seom.cli import credentials, output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from seom.cli.client import Client


def split_reference(reference: str) -> tuple[str, str]:
    """("name", "tag or sha256:digest") of "name[:tag][@digest]"; "" when there is neither."""
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if digest:
        return name, digest
    if colon and "/" not in tag:
        return repository, tag
    return name, ""


def with_default_tag(reference: str) -> str:
    """name:latest for a name without tag and digest."""
    return reference if split_reference(reference)[1] else f"{reference}:latest"


def full_name(reference: str) -> str:
    """With registry and library: docker.io/library/debian:latest."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"


def platform_document(text: str) -> dict[str, str]:
    """The API's platform of "os[/arch[/variant]]"; {} for "". Raises CommandError."""
    if not text:
        return {}
    parts = text.split("/")
    if len(parts) > 3 or not all(parts):
        raise CommandError(f'invalid platform "{text}": it is written os[/arch[/variant]], as in linux/amd64')
    names = dict(zip(("os", "architecture", "variant"), parts, strict=False))
    return dict(sorted(names.items()))


def pull(
    client: Client, reference: str, platform: str, descriptor: int, quiet: bool, every_tag: bool = False
) -> None:
    """Pull an image and show the progress on a descriptor. Raises CommandError."""
    from seom.cli.progress import Display

    name, tag = split_reference(reference)
    parameters: dict[str, object] = {
        "fromImage": name,
        "tag": tag if every_tag else tag or "latest",
        "platform": platform,
    }
    headers = credentials.auth_header(reference)
    response = client.call("POST", "/images/create", parameters, headers=headers)
    messages: Iterable[dict[str, Any]] = response.documents()
    if quiet:
        messages = (message for message in messages if "error" in message or "errorDetail" in message)
    Display(descriptor).show(messages)


def _pull(invocation: Invocation) -> int:
    options = invocation.options
    reference = invocation.arguments[0]
    every_tag = options.on("all-tags")
    if every_tag and split_reference(reference)[1]:
        raise CommandError("tag can't be used with --all-tags/-a")
    tagged = reference if every_tag else with_default_tag(reference)
    if tagged != reference and not options.on("quiet"):
        output.line("Using default tag: latest")
    pull(invocation.client, tagged, options.text("platform"), 1, options.on("quiet"), every_tag)
    output.line(full_name(tagged))
    return 0


def _push(invocation: Invocation) -> int:
    from seom.cli.progress import Display

    options = invocation.options
    reference = invocation.arguments[0]
    name, tag = split_reference(reference)
    if options.on("all-tags"):
        if tag:
            raise CommandError("tag can't be used with --all-tags/-a")
    elif not tag:
        tag = "latest"
        if not options.on("quiet"):
            output.line(f"Using default tag: {tag}")
    headers = credentials.auth_header(reference) or {"X-Registry-Auth": credentials.encode_auth({})}
    parameters: dict[str, object] = {
        "tag": tag,
        "platform": platform_document(options.text("platform")),
    }
    response = invocation.client.call("POST", f"/images/{name}/push", parameters, headers=headers)
    messages: Iterable[dict[str, Any]] = response.documents()
    if options.on("quiet"):
        messages = (message for message in messages if "error" in message or "errorDetail" in message)
    Display(1).show(messages)
    if options.on("quiet"):
        output.line(full_name(f"{name}:{tag}" if tag else name))
    return 0


PULL = Command(
    _pull,
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    (1, 1),
    (
        Flag("all-tags", "bool", "Download all tagged images in the repository", short="a"),
        Flag("disable-content-trust", "bool", "Skip image verification", default=True, hidden=True),
        Flag("platform", "string", "Set platform if server is multi-platform capable"),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
    completes="images",
)

PUSH = Command(
    _push,
    "[OPTIONS] NAME[:TAG]",
    (1, 1),
    (
        Flag("all-tags", "bool", "Push all tags of an image to the repository", short="a"),
        Flag("disable-content-trust", "bool", "Skip image signing", default=True, hidden=True),
        Flag("platform", "string", "Push a platform-specific manifest as a single-platform image"),
        Flag("quiet", "bool", "Suppress verbose output", short="q"),
    ),
    completes="images",
)
