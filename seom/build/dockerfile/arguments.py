"""Arguments of a build: what is predefined, what ARG before FROM declares, what ARG in a stage means."""

from __future__ import annotations

from collections.abc import Mapping

from seom.build.dockerfile.dockerfile import Dockerfile
from seom.build.dockerfile.errors import DockerfileError
from seom.build.dockerfile.expansion import Scope
from seom.build.dockerfile.instructions import Argument
from seom.oci.descriptor import Platform

PROXY_ARGUMENTS = frozenset(
    name
    for proxy in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (proxy, proxy.upper())
)
"""May be given without an ARG. RUN sees them; they are kept out of the history and of cache keys."""

DEFAULT_TARGET = "default"
"""The value of TARGETSTAGE in a build that names no target."""


def platform_arguments(build: Platform, target: Platform, target_stage: str = "") -> dict[str, str]:
    """The global arguments that are always there: BUILDPLATFORM, TARGETARCH and their like."""
    arguments = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        shown = str(platform)
        arguments[f"{prefix}PLATFORM"] = shown
        arguments[f"{prefix}OS"] = platform.os
        arguments[f"{prefix}OSVERSION"] = platform.os_version
        arguments[f"{prefix}ARCH"] = platform.architecture
        arguments[f"{prefix}VARIANT"] = "".join(shown.split("/")[2:])
    arguments["TARGETSTAGE"] = target_stage or DEFAULT_TARGET
    return arguments


def global_arguments(
    dockerfile: Dockerfile, given: Mapping[str, str], predefined: Mapping[str, str]
) -> dict[str, str]:
    """The values that FROM sees: predefined ones, and those that ARG before the first FROM declares.

    given (--build-arg) goes before everything. A default sees the arguments before it; an argument
    with neither default nor value stays unset. Raises DockerfileError.
    """
    values = {**predefined, **{name: given[name] for name in predefined if name in given}}
    for instruction in dockerfile.arguments:
        for argument in instruction.arguments:
            if argument.name in given:
                values[argument.name] = given[argument.name]
            elif argument.default is not None:
                try:
                    values[argument.name] = Scope(values, dockerfile.escape).word(argument.default)
                except DockerfileError as error:
                    raise error.at(instruction.location, dockerfile.text) from None
    return values


def argument_value(
    argument: Argument, given: Mapping[str, str], global_values: Mapping[str, str]
) -> str | None:
    """The value that ARG, with its default already expanded, gives a name in a stage; None for none.

    Without a default the name takes over the value that it has globally.
    """
    if argument.name in given:
        return given[argument.name]
    if argument.default is not None:
        return argument.default
    return global_values.get(argument.name)
