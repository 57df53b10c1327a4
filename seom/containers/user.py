"""Whom a container's program runs as: "user[:group]" looked up in the container's own files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from seom.containers.layered_files import read_layered
from seom.errors import InvalidParameter
from seom.oci.runtime_spec import User

LARGEST_ID = (1 << 31) - 1


class ContainerUser(msgspec.Struct, frozen=True):
    """Numeric ids for the runtime, and the home directory ("/" where the passwd file has none)."""

    user: User
    home: str = "/"


class _Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


class _Group(msgspec.Struct, frozen=True):
    name: str
    gid: int
    members: list[str]


def resolve_user(wanted: str, root: str | Sequence[str], group_add: Iterable[str] = ()) -> ContainerUser:
    """Look up `wanted` ("", "name", "uid", "name:group", "uid:gid" ...) in a root or overlay layers.

    Layers are topmost first. A name takes its group and its further groups from the files; a number
    needs no entry there. Raises InvalidParameter in Docker's words when a name has no entry.
    """
    layers = [root] if isinstance(root, str) else root
    accounts = _accounts(read_layered(layers, "/etc/passwd") or b"")
    groups = _groups(read_layered(layers, "/etc/group") or b"")
    name, _, group = wanted.partition(":")
    account = next((entry for entry in accounts if name in (entry.name, str(entry.uid))), None)
    if not name:
        account = next((entry for entry in accounts if entry.uid == 0), None)
    uid = account.uid if account else _number(name or "0", f"unable to find user {name}", "passwd")
    gid = account.gid if account else 0
    further: list[int] = []
    if group:
        gid = _group_id(group, groups, "unable to find group")
    elif account:
        further = [entry.gid for entry in groups if account.name in entry.members]
    further += [_group_id(text, groups, "unable to find group") for text in group_add]
    ids = list(dict.fromkeys([gid, *further]))
    home = account.home if account and account.home else "/"
    return ContainerUser(User(uid=uid, gid=gid, additional_gids=ids), home)


def _group_id(wanted: str, groups: list[_Group], failure: str) -> int:
    for entry in groups:
        if wanted in (entry.name, str(entry.gid)):
            return entry.gid
    return _number(wanted, f"{failure} {wanted}", "group")


def _number(text: str, failure: str, file: str) -> int:
    try:
        number = int(text, 10) if text.isascii() else -1
    except ValueError:
        raise InvalidParameter(f"{failure}: no matching entries in {file} file") from None
    if not 0 <= number <= LARGEST_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{LARGEST_ID}")
    return number


def _accounts(content: bytes) -> list[_Account]:
    """name:password:uid:gid:comment:home:shell, see passwd(5); broken lines are skipped."""
    found = []
    for fields in _lines(content):
        if len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal():
            home = fields[5] if len(fields) > 5 else ""
            found.append(_Account(fields[0], int(fields[2]), int(fields[3]), home))
    return found


def _groups(content: bytes) -> list[_Group]:
    """name:password:gid:member,member, see group(5); broken lines are skipped."""
    found = []
    for fields in _lines(content):
        if len(fields) >= 3 and fields[2].isdecimal():
            members = fields[3].split(",") if len(fields) > 3 else []
            found.append(_Group(fields[0], int(fields[2]), [name for name in members if name]))
    return found


def _lines(content: bytes) -> Iterable[list[str]]:
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().split(":")
