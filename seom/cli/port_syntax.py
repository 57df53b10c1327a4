"""The syntax of published and exposed ports: [[IP:][HOST]:]CONTAINER[/PROTOCOL], with ranges."""

from __future__ import annotations

from seom.cli.errors import CommandError
from seom.cli.request_syntax import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bindings = dict[str, list[dict[str, str]]]

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_range(text: str) -> tuple[int, int]:
    """(first, last) of "80" or "80-90". Raises ValueError."""
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last.isdigit() if dash else True)):
        raise ValueError(f"invalid port range: {text}")
    start = int(first)
    end = int(last) if dash else start
    if start > end or end > 65535:
        raise ValueError(f"invalid port range: {text}")
    return start, end


def _split(text: str) -> tuple[str, str, str]:
    """IP (without brackets), host part and container part."""
    rest, _, container = text.rpartition(":")
    address, _, host = rest.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return address, host, container


def check_port(text: str) -> None:
    """Refuse what cannot be a port at all; parse_published reports the rest."""
    if not text:
        raise ValueError("no port specified: <empty>")


def parse_published(text: str) -> Bindings:
    """{"80/tcp": [{"HostIp": ..., "HostPort": ...}]} of one -p value. Raises CommandError."""
    if "=" in text:
        text = _from_long_form(text)
    address, host, rest = _split(text)
    container, _, protocol = rest.partition("/")
    protocol = (protocol or "tcp").lower()
    if not container:
        raise CommandError(f"no port specified: {text}<empty>", 125)
    if protocol not in PROTOCOLS:
        raise CommandError(f"invalid proto: {protocol}", 125)
    if address and not is_address(address):
        raise CommandError(f"invalid IP address: {address}", 125)
    start, end = _range_or_fail(container, "containerPort")
    host_start, host_end = _range_or_fail(host, "hostPort") if host else (0, 0)
    if host and end - start != host_end - host_start and start != end:
        raise CommandError(
            f"invalid ranges specified for container and host Ports: {container} and {host}", 125
        )
    bindings: Bindings = {}
    for offset in range(end - start + 1):
        port = str(host_start + offset) if host else ""
        if start == end and host_start != host_end:
            port = f"{host_start}-{host_end}"
        bindings[f"{start + offset}/{protocol}"] = [{"HostIp": address, "HostPort": port}]
    return bindings


def _range_or_fail(text: str, what: str) -> tuple[int, int]:
    try:
        return parse_range(text)
    except ValueError:
        raise CommandError(f"invalid {what}: {text}", 125) from None


def _from_long_form(text: str) -> str:
    fields: dict[str, str] = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not equals or name not in ("target", "published", "protocol", "mode"):
            raise CommandError(f"invalid field {name} in port specification {text}", 125)
        fields[name] = value
    return f"{fields.get('published', '')}:{fields.get('target', '')}/{fields.get('protocol', 'tcp')}"


def parse_exposed(text: str) -> dict[str, dict[str, str]]:
    """{"80/tcp": {}} of one --expose value. Raises CommandError."""
    port, _, protocol = text.partition("/")
    if ":" in text:
        raise CommandError(f"invalid port format for --expose: {text}", 125)
    try:
        start, end = parse_range(port)
    except ValueError:
        raise CommandError(f"invalid range format for --expose: {text}, error: invalid port", 125) from None
    return {f"{number}/{(protocol or 'tcp').lower()}": {} for number in range(start, end + 1)}
