"""RUN --mount=type=...: a list of options, separated by commas as in CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from seom.build.dockerfile.errors import DockerfileError, suggestion


class MountType(StrEnum):
    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class CacheSharing(StrEnum):
    """How builds that run at the same time use one cache."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN. mode, uid and gid are None where nothing is said."""

    type: MountType = MountType.BIND
    source: str = ""
    target: str = ""
    """Relative to the working directory, which it is itself when it is empty."""
    origin: str = ""
    """from: a stage, a build context or an image; empty for the build context. Never expanded."""
    read_only: bool = True
    id: str = ""
    """Of a cache, a secret or an agent."""
    sharing: CacheSharing = CacheSharing.SHARED
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int = 0
    """Of a tmpfs; 0 for no limit."""
    env: str = ""
    """The environment variable a secret is to be found in, besides or instead of a file."""


_FALSE_AND_TRUE = {
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
}
_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS = "type from source target readonly readwrite id sharing required mode uid gid size env".split()
_WITHOUT_VALUE = {"readonly", "readwrite", "required"}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_Choice = TypeVar("_Choice", bound=StrEnum)
_VARIABLE = re.compile(r"\$.")


def parse_mount(text: str, expand: Callable[[str], str]) -> Mount:
    """Read the value of one --mount, each of its values expanded; raises DockerfileError."""
    fields = _fields(text)
    kind = MountType.BIND
    options: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if name not in _KEYS:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{suggestion(name, _KEYS)}")
        if not equals and name not in _WITHOUT_VALUE:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
        options[name] = expand(value) if equals else "true"
        if name == "type":
            kind = _choice(MountType, options[name], f'unsupported mount type "{options[name]}"')
    mount = _build(kind, options)
    _check(mount, options)
    return mount


def mount_origin(text: str) -> str:
    """The stage or image that a --mount names with from=; raises DockerfileError for a variable there."""
    origin = ""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            if _VARIABLE.search(value):
                raise DockerfileError(
                    "'from' doesn't support variable expansion, define alias stage instead",
                    hint="write FROM with the variable and AS a name, and use from= with that name",
                )
            origin = value
    return origin


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DockerfileError(f"failed to parse csv mounts: {error}") from error


def _choice(choices: type[_Choice], value: str, message: str) -> _Choice:
    try:
        return choices(value.lower())
    except ValueError:
        raise DockerfileError(message + suggestion(value, list(choices))) from None


def _build(kind: MountType, options: dict[str, str]) -> Mount:
    read_only = kind not in {MountType.CACHE, MountType.TMPFS}
    # The last of the two that is given decides, as everywhere in the list.
    for name in options:
        if name in {"readonly", "readwrite"}:
            read_only = _boolean(name, options[name]) == (name == "readonly")
    sharing = options.get("sharing", CacheSharing.SHARED)
    return Mount(
        type=kind,
        source=options.get("source", ""),
        target=options.get("target", ""),
        origin=options.get("from", ""),
        read_only=read_only,
        id=options.get("id", ""),
        sharing=_choice(CacheSharing, sharing, f'unsupported sharing value "{sharing}"'),
        required=_boolean("required", options.get("required", "false")),
        mode=_number("mode", options, 8),
        uid=_number("uid", options, 10),
        gid=_number("gid", options, 10),
        size_bytes=_size(options.get("size", "0")),
        env=options.get("env", ""),
    )


def _check(mount: Mount, options: dict[str, str]) -> None:
    kind = mount.type
    keeps_files = kind in {MountType.SECRET, MountType.SSH, MountType.CACHE}
    for name in ("mode", "uid", "gid"):
        if name in options and not keeps_files:
            raise DockerfileError(f'{name} not allowed for "{kind}" type mounts')
    belongs_to = {
        "required": {MountType.SECRET, MountType.SSH},
        "size": {MountType.TMPFS},
        "env": {MountType.SECRET},
    }
    for name, kinds in belongs_to.items():
        if name in options and kind not in kinds:
            raise DockerfileError(f"unexpected key '{name}' for mount type '{kind}'")
    if kind is MountType.SECRET:
        _check_secret(mount, options)
    if "sharing" in options and kind is not MountType.CACHE:
        raise DockerfileError(f"invalid cache sharing set for {kind} mount")


def _check_secret(mount: Mount, options: dict[str, str]) -> None:
    if mount.origin:
        raise DockerfileError("secret mount should not have a from")
    if "sharing" in options:
        raise DockerfileError("secret mount should not define sharing")
    if not (mount.source or mount.target or mount.id):
        raise DockerfileError("invalid secret mount. one of source, target required")
    if mount.source and mount.id:
        raise DockerfileError("both source and id can't be set")


def _boolean(name: str, value: str) -> bool:
    if value not in _FALSE_AND_TRUE:
        raise DockerfileError(f"invalid value for {name}: {value}")
    return _FALSE_AND_TRUE[value]


def _number(name: str, options: dict[str, str], base: int) -> int | None:
    if name not in options:
        return None
    value = options[name]
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 20 or value.strip(digits) or int(value, base) >= 1 << 32:
        raise DockerfileError(f"invalid value {value} for {name}")
    return int(value, base)


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise DockerfileError(f"invalid value for size: {value}")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
