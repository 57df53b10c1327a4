"""--filter key=value as the API takes it."""

from __future__ import annotations

from seom.cli import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def encode_filters(items: Iterable[str], extra: dict[str, str] | None = None) -> str:
    """JSON of {"key": {"value": true}} from "key=value" items; "" without filters."""
    filters: dict[str, dict[str, bool]] = {}
    for item in items:
        name, _, value = item.partition("=")
        filters.setdefault(name.strip().lower(), {})[value.strip()] = True
    for name, value in (extra or {}).items():
        filters.setdefault(name, {})[value] = True
    return jsontext.encode(filters, sort_keys=True) if filters else ""
