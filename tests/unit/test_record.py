"""The light view of a specification agrees with the typed one."""

from __future__ import annotations

import json

import msgspec
import pytest

from seom.containers.record import Record, decode, encode, json_name
from seom.oci import runtime_spec

STRUCTURES = [
    value
    for value in vars(runtime_spec).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct)
]
# Read only with "or": rule.type or "a".
DIFFERENT = {("DeviceRule", "type"), ("DeviceRule", "access"), ("Device", "major"), ("Device", "minor")}


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.__name__)
def test_names_and_defaults_are_those_of_the_typed_structures(structure: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(structure):
        assert json_name(field.name) == field.encode_name
        if field.required or (structure.__name__, field.name) in DIFFERENT:
            continue
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found = getattr(Record({}), field.name)
        if isinstance(default, msgspec.Struct):
            assert isinstance(found, Record)
        else:
            assert found == default or (found == () and default == [])


def test_members_are_wrapped_where_they_are_objects() -> None:
    spec = Record({"process": {"args": ["a"], "user": {"uid": 5}}, "mounts": [{"destination": "/x"}]})
    assert spec.process.user.uid == 5
    assert spec.process.user.additional_gids == ()
    assert spec.mounts[0].destination == "/x"
    assert spec.linux is None


@pytest.mark.parametrize(
    "value", [None, True, 5, -1, 'a"b\\\n\u00e9\U0001f600', [], [1, [2]], {"a": {"b": [None]}}]
)
def test_json_is_written_as_the_standard_library_reads_it(value: object) -> None:
    assert json.loads(encode(value)) == value
    assert decode(json.dumps(value, indent=2) + "\n") == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a" 1}', "1 2", '"\n"'])
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)
