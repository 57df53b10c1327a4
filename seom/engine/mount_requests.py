"""The ways to ask for a mount, checked and turned into mount points.

``-v`` gives ``[SOURCE:]DESTINATION[:MODE]``, ``--mount`` a structure, ``--tmpfs`` a path with options,
``--volumes-from`` another container. Clients match on the texts of the errors.
"""

from __future__ import annotations

import posixpath
import secrets

import msgspec

from seom.containers.config import MountRequest, TmpfsOptions
from seom.errors import InvalidParameter, NotSupported

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})

_MODE_GROUPS = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
)
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_TMPFS_FLAGS = {
    "defaults": "",
    "ro": "rw",
    "rw": "ro",
    "suid": "nosuid",
    "nosuid": "suid",
    "dev": "nodev",
    "nodev": "dev",
    "exec": "noexec",
    "noexec": "exec",
    "sync": "async",
    "async": "sync",
    "dirsync": "",
    "remount": "",
    "mand": "nomand",
    "nomand": "mand",
    "atime": "noatime",
    "noatime": "atime",
    "diratime": "nodiratime",
    "nodiratime": "diratime",
    "bind": "",
    "rbind": "",
    "private": "",
    "rprivate": "",
    "shared": "",
    "rshared": "",
    "slave": "",
    "rslave": "",
    "unbindable": "",
    "runbindable": "",
    "relatime": "norelatime",
    "norelatime": "relatime",
    "strictatime": "nostrictatime",
    "nostrictatime": "strictatime",
}
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"})


class MountPoint(msgspec.Struct, omit_defaults=True):
    """One mount of a container, as stored with it; inspect() is what the API shows."""

    type: str
    destination: str
    name: str = ""
    source: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    labels: dict[str, str] | None = None
    driver_options: dict[str, str] | None = None
    subpath: str = ""
    copy_data: bool = False
    create_source: bool = False
    recursive: bool = True
    recursive_read_only: bool = True
    force_recursive_read_only: bool = False
    tmpfs_options: list[str] = []
    listed: bool = True

    def inspect(self) -> dict[str, object]:
        """The element of inspect's Mounts."""
        document: dict[str, object] = {"Type": self.type}
        if self.name:
            document["Name"] = self.name
        document |= {"Source": self.source, "Destination": self.destination}
        if self.driver:
            document["Driver"] = self.driver
        return document | {"Mode": self.mode, "RW": self.rw, "Propagation": self.propagation}


def new_volume_name() -> str:
    """A name for a volume that nobody named: 64 hexadecimal digits."""
    return secrets.token_hex(32)


def parse_bind(text: str, volume_driver: str = "") -> MountPoint:
    """A ``-v`` argument: ``/host:/container[:mode]``, ``name:/container[:mode]`` or ``/container``.

    Raises InvalidParameter.
    """
    invalid = f"invalid volume specification: '{text}'"
    parts = text.split(":", 2)
    if not parts[0] or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidParameter(invalid)
    source, target, mode = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    if not valid_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    flags = mode.split(",")
    request = MountRequest(
        type="bind" if source.startswith("/") else "volume",
        source=source,
        target=target,
        read_only="ro" in flags,
    )
    try:
        point = mount_point(request)
    except InvalidParameter as error:
        raise InvalidParameter(f"{invalid}: {error}") from error
    point.mode = mode
    if point.type == "bind":
        point.create_source = True
        point.propagation = next((flag for flag in flags if flag in PROPAGATIONS), "rprivate")
    else:
        point.driver = volume_driver
        point.copy_data = "nocopy" not in flags
    return point


def valid_mode(mode: str) -> bool:
    """Whether every flag of a ``-v`` mode is known and none contradicts another."""
    flags = mode.split(",") if mode else []
    return all(sum(flag in group for flag in flags) <= 1 for group in _MODE_GROUPS) and all(
        any(flag in group for group in _MODE_GROUPS) for flag in flags
    )


def parse_volumes_from(text: str) -> tuple[str, str]:
    """Container and mode of ``CONTAINER[:ro|rw|z|Z]``; raises InvalidParameter."""
    container, _, mode = text.partition(":")
    if not container:
        raise InvalidParameter(f"invalid volumes-from specification: {text}")
    flags = set(mode.split(","))
    if not valid_mode(mode) or flags & PROPAGATIONS or "nocopy" in flags:
        raise InvalidParameter(f"invalid mode: {mode}")
    return container, mode


def mount_point(request: MountRequest) -> MountPoint:
    """Check a ``--mount`` structure and turn it into a mount point; raises InvalidParameter."""
    try:
        _check_target(request.target)
        point = _POINTS[request.type](request) if request.type in _POINTS else None
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid mount config for type "{request.type}": {error}') from error
    if point is None:
        raise InvalidParameter(f'invalid mount config for type "{request.type}": mount type unknown')
    return point


def tmpfs_point(destination: str, options: str) -> MountPoint:
    """A ``--tmpfs DESTINATION[:options]``; inspect does not list it. Raises InvalidParameter."""
    _check_target(destination)
    return MountPoint(
        type="tmpfs",
        destination=posixpath.normpath(destination),
        rw="ro" not in options.split(","),
        tmpfs_options=merge_tmpfs_options(options.split(",") if options else []),
        listed=False,
    )


def merge_tmpfs_options(options: list[str]) -> list[str]:
    """noexec, nosuid and nodev, then options: the last of contradicting ones wins.

    Raises InvalidParameter for an option that tmpfs does not have.
    """
    merged: dict[str, str] = {}
    for option in [*_TMPFS_DEFAULTS, *options]:
        name, equals, _ = option.partition("=")
        if not (option in _TMPFS_FLAGS or (equals and name in _TMPFS_VALUES)):
            raise InvalidParameter(f'invalid tmpfs option "{name}"')
        merged.pop(_TMPFS_FLAGS.get(option, ""), None)
        merged.pop(name, None)
        if option != "defaults":
            merged[name] = option
    return list(merged.values())


def _bind_point(request: MountRequest) -> MountPoint:
    options = request.bind_options
    _check_absent(request, "volume_options", "tmpfs_options", "image_options")
    if not request.source:
        raise InvalidParameter("field Source must not be empty")
    if options and options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidParameter(f"invalid propagation mode: {options.propagation}")
    _check_absolute(request.source)
    return MountPoint(
        type="bind",
        source=posixpath.normpath(request.source),
        destination=posixpath.normpath(request.target),
        rw=not request.read_only,
        propagation=(options and options.propagation) or "rprivate",
        create_source=bool(options and options.create_mountpoint),
        recursive=not (options and options.non_recursive),
        recursive_read_only=not (options and options.read_only_non_recursive),
        force_recursive_read_only=bool(options and options.read_only_force_recursive),
    )


def _volume_point(request: MountRequest) -> MountPoint:
    options = request.volume_options
    _check_absent(request, "bind_options", "tmpfs_options", "image_options")
    subpath = options.subpath if options else ""
    if subpath and not request.source:
        raise InvalidParameter("must not set Subpath when using anonymous volumes")
    if subpath and not is_local(subpath):
        raise InvalidParameter("subpath must be a relative path within the volume")
    if request.read_only and not request.source:
        raise InvalidParameter("must not set ReadOnly mode when using anonymous volumes")
    driver = options.driver_config if options else None
    return MountPoint(
        type="volume",
        name=request.source,
        destination=posixpath.normpath(request.target),
        driver=driver.name if driver else "",
        driver_options=driver.options if driver else None,
        labels=options.labels if options else None,
        rw=not request.read_only,
        subpath=subpath,
        copy_data=not (options and options.no_copy),
    )


def _tmpfs_point(request: MountRequest) -> MountPoint:
    _check_absent(request, "bind_options", "volume_options", "image_options")
    if request.source:
        raise InvalidParameter("field Source must not be specified")
    return MountPoint(
        type="tmpfs",
        destination=posixpath.normpath(request.target),
        rw=not request.read_only,
        tmpfs_options=merge_tmpfs_options(
            [*_tmpfs_options(request.tmpfs_options), *(["ro"] if request.read_only else [])]
        ),
    )


def _image_point(request: MountRequest) -> MountPoint:
    raise NotSupported("mounts of type image are not supported yet; copy the files into a volume instead")


_POINTS = {"bind": _bind_point, "volume": _volume_point, "tmpfs": _tmpfs_point, "image": _image_point}


def _tmpfs_options(options: TmpfsOptions | None) -> list[str]:
    if options is None:
        return []
    found = [f"size={options.size_bytes}"] if options.size_bytes else []
    found += [f"mode={options.mode:o}"] if options.mode else []
    return found + ["=".join(pair) for pair in options.options or []]


def is_local(path: str) -> bool:
    """Whether a path is relative and does not leave its directory by ``..`` alone."""
    normal = posixpath.normpath(path)
    return bool(path) and not normal.startswith(("/", "../")) and normal != ".."


def _check_target(target: str) -> None:
    if not target:
        raise InvalidParameter("field Target must not be empty")
    if posixpath.normpath(target).strip("/") == "":
        raise InvalidParameter("invalid specification: destination can't be '/'")
    _check_absolute(target)


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")


def _check_absent(request: MountRequest, *fields: str) -> None:
    for field in fields:
        if getattr(request, field) is not None:
            shown = "".join(part.capitalize() for part in field.split("_"))
            raise InvalidParameter(f"field {shown} must not be specified")
