"""Arguments of a build and their values."""

from __future__ import annotations

import pytest

from seom.build.dockerfile import DockerfileError, parse
from seom.build.dockerfile.arguments import (
    PROXY_ARGUMENTS,
    argument_value,
    global_arguments,
    platform_arguments,
)
from seom.build.dockerfile.instructions import Argument
from seom.oci.descriptor import Platform


def test_platforms_are_predefined() -> None:
    arm = Platform(os="linux", architecture="arm", variant="v7")
    assert platform_arguments(Platform(os="linux", architecture="amd64"), arm) == {
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDOSVERSION": "",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETOSVERSION": "",
        "TARGETARCH": "arm",
        "TARGETVARIANT": "v7",
        "TARGETSTAGE": "default",
    }


def test_proxies_are_predefined_in_both_cases() -> None:
    assert {"http_proxy", "HTTPS_PROXY", "NO_PROXY"} < PROXY_ARGUMENTS


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("ARG a=1", {}, {"a": "1"}),
        ("ARG a=1", {"a": "2"}, {"a": "2"}),
        ("ARG a", {}, {}),
        ("ARG a", {"a": ""}, {"a": ""}),
        ("ARG a=1 b=x$a", {}, {"a": "1", "b": "x1"}),
        ("ARG a=1\nARG b=x${a}", {"a": "2"}, {"a": "2", "b": "x2"}),
        ("ARG TARGETARCH", {}, {}),
        ("ARG b=$TARGETARCH", {}, {"b": "amd64"}),
        ("ARG b=$TARGETARCH", {"TARGETARCH": "arm"}, {"TARGETARCH": "arm", "b": "arm"}),
        ("ARG TARGETARCH=x", {}, {"TARGETARCH": "x"}),
        ("ARG a=1", {"undeclared": "x"}, {"a": "1"}),
    ],
)
def test_global_arguments_have_values(text: str, given: dict[str, str], expected: dict[str, str]) -> None:
    predefined = {"TARGETARCH": "amd64"}
    values = global_arguments(parse(text + "\nFROM debian"), given, predefined)
    assert values == {**predefined, **expected}


def test_a_malformed_default_is_named_with_its_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        global_arguments(parse("# comment\nARG a=${b\nFROM debian"), {}, {})
    assert caught.value.location is not None
    assert caught.value.location.first == 2


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (Argument("given", "default"), "from outside"),
        (Argument("global"), "of the file"),
        (Argument("global", ""), ""),
        (Argument("nothing"), None),
    ],
)
def test_an_argument_in_a_stage_has_a_value(argument: Argument, expected: str | None) -> None:
    assert argument_value(argument, {"given": "from outside"}, {"global": "of the file"}) == expected
