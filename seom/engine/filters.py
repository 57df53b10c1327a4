"""The ``filters`` query parameter of list, prune and events requests.

Two shapes are on the wire: ``{"key": ["value", ...]}`` and, from older clients,
``{"key": {"value": true, ...}}``. Clients match on the texts of the errors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from seom.errors import InvalidParameter

_TRUE = frozenset({"1", "true"})
_FALSE = frozenset({"0", "false"})


class Filters:
    """Values asked for by key; a key that was not asked for matches everything."""

    def __init__(self, values: Mapping[str, Collection[str]] | None = None) -> None:
        self._values = {key: tuple(found) for key, found in (values or {}).items()}

    def __bool__(self) -> bool:
        return any(self._values.values())

    def __contains__(self, key: str) -> bool:
        return bool(self._values.get(key))

    def values(self, key: str) -> tuple[str, ...]:
        """All values asked for under key."""
        return self._values.get(key, ())

    def one(self, key: str) -> str | None:
        """The only value of key, or None; raises InvalidParameter for several."""
        found = self.values(key)
        if len(found) > 1:
            raise invalid_filter(key, found)
        return found[0] if found else None

    def flag(self, key: str, default: bool) -> bool:
        """A true/false key; raises InvalidParameter for anything else."""
        found = self.values(key)
        if not found:
            return default
        asked = {value.lower() for value in found}
        if asked <= _TRUE:
            return True
        if asked <= _FALSE:
            return False
        raise invalid_filter(key, found)

    def check(self, accepted: Collection[str]) -> None:
        """Raise InvalidParameter when a key is not one of accepted."""
        for key in self._values:
            if key not in accepted:
                raise InvalidParameter(f"invalid filter '{key}'")

    def matches(self, key: str, value: str) -> bool:
        """Whether value is one of those asked for."""
        return key not in self or value in self.values(key)

    def matches_prefix(self, key: str, *candidates: str) -> bool:
        """Whether a candidate begins with a value asked for."""
        return key not in self or any(
            candidate.startswith(value) for value in self.values(key) for candidate in candidates
        )

    def matches_part(self, key: str, *candidates: str) -> bool:
        """Whether a candidate contains a value asked for."""
        return key not in self or any(
            value in candidate for value in self.values(key) for candidate in candidates
        )

    def matches_labels(self, labels: Mapping[str, str] | None, key: str = "label") -> bool:
        """Whether labels carry every ``name`` or ``name=value`` asked for."""
        return all(has_label(labels or {}, wanted) for wanted in self.values(key))

    def excludes_labels(self, labels: Mapping[str, str] | None, key: str = "label!") -> bool:
        """Whether labels carry one of the ``name`` or ``name=value`` that key excludes."""
        return any(has_label(labels or {}, unwanted) for unwanted in self.values(key))


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether labels have ``name`` (any value) or ``name=value``."""
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def invalid_filter(key: str, values: Collection[str]) -> InvalidParameter:
    """The error for a known filter key with impossible values."""
    return InvalidParameter(f"invalid filter '{key}=[{' '.join(values)}]'")


def parse_filters(text: str | None, accepted: Collection[str] | None = None) -> Filters:
    """Decode the query parameter; raises InvalidParameter for bad JSON and for keys not accepted."""
    if not text:
        return Filters()
    try:
        decoded = msgspec.json.decode(text, type=dict[str, list[str] | dict[str, bool]])
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"invalid filter: {error}") from error
    filters = Filters(
        {
            key: [value for value, wanted in found.items() if wanted] if isinstance(found, dict) else found
            for key, found in decoded.items()
        }
    )
    if accepted is not None:
        filters.check(accepted)
    return filters
