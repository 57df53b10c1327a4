"""How published ports are shown in a list of containers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe_ports(ports: list[dict[str, Any]]) -> str:
    """ "0.0.0.0:8000-8001->80-81/tcp, 443/tcp" of the API's ports: neighbours become ranges."""
    groups: dict[str, tuple[int, int, int]] = {}
    parts: list[str] = []
    fixed: list[str] = []
    for port in sorted(ports, key=_order):
        private, public = int(port["PrivatePort"]), int(port.get("PublicPort") or 0)
        address, protocol = port.get("IP") or "", port.get("Type", "tcp")
        if address and public != private:
            fixed.append(f"{_bracket(address)}:{public}->{private}/{protocol}")
            continue
        key = f"{address}/{protocol}"
        if key in groups and groups[key][1] == private - 1:
            groups[key] = (groups[key][0], private, 0)
            continue
        if key in groups:
            parts.append(_form_group(key, *groups[key][:2]))
        groups[key] = (private, private, 0)
    parts.extend(_form_group(key, first, last) for key, (first, last, _) in groups.items())
    return ", ".join(parts + fixed)


def _order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return (
        int(port["PrivatePort"]),
        port.get("IP") or "",
        int(port.get("PublicPort") or 0),
        port.get("Type", "tcp"),
    )


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _form_group(key: str, first: int, last: int) -> str:
    address, _, protocol = key.partition("/")
    numbers = str(first) if first == last else f"{first}-{last}"
    if address:
        return f"{_bracket(address)}:{numbers}->{numbers}/{protocol}"
    return f"{numbers}/{protocol}"
