"""Mount options as the runtime specification writes them, told apart by what the kernel does with them."""

from __future__ import annotations

from seom.linux import mount as mnt
from seom.linux.libc import AT_RECURSIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ATIME = mnt.MOUNT_ATTR_ATIME
# option: (attributes to set, attributes to clear)
_ATTRIBUTES = {
    "ro": (mnt.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, mnt.MOUNT_ATTR_RDONLY),
    "nosuid": (mnt.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, mnt.MOUNT_ATTR_NOSUID),
    "nodev": (mnt.MOUNT_ATTR_NODEV, 0),
    "dev": (0, mnt.MOUNT_ATTR_NODEV),
    "noexec": (mnt.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, mnt.MOUNT_ATTR_NOEXEC),
    "noatime": (mnt.MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (0, _ATIME),
    "relatime": (mnt.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (0, _ATIME),
    "strictatime": (mnt.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, _ATIME),
    "nodiratime": (mnt.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, mnt.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (mnt.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, mnt.MOUNT_ATTR_NOSYMFOLLOW),
}
_RECURSIVE_ATTRIBUTES = {f"r{name}": bits for name, bits in _ATTRIBUTES.items()}
PROPAGATION = {
    "private": mnt.MS_PRIVATE,
    "rprivate": mnt.MS_PRIVATE,
    "slave": mnt.MS_SLAVE,
    "rslave": mnt.MS_SLAVE,
    "shared": mnt.MS_SHARED,
    "rshared": mnt.MS_SHARED,
    "unbindable": mnt.MS_UNBINDABLE,
    "runbindable": mnt.MS_UNBINDABLE,
}
_WITHOUT_EFFECT = {"defaults", "remount", "async", "nolazytime", "nomand", "idmap", "ridmap"}


class MountOptions:
    """Options in their kinds: attributes of the mount, its propagation, data for the file system."""

    __slots__ = (
        "attr_clr",
        "attr_set",
        "bind",
        "copy_up",
        "data",
        "propagation",
        "recursive",
        "recursive_clr",
        "recursive_set",
    )

    def __init__(self) -> None:
        self.attr_set = self.attr_clr = 0
        self.recursive_set = self.recursive_clr = 0
        self.bind = self.recursive = self.copy_up = False
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[tuple[str, str | None]] = []

    @classmethod
    def parse(cls, options: Sequence[str]) -> MountOptions:
        """Sort options; what is no option of the mount itself is data for the file system."""
        parsed = cls()
        for option in options:
            if option in _ATTRIBUTES:
                bits, clear = _ATTRIBUTES[option]
                parsed.attr_set = (parsed.attr_set & ~clear) | bits
                parsed.attr_clr = (parsed.attr_clr & ~bits) | clear
            elif option in _RECURSIVE_ATTRIBUTES:
                bits, clear = _RECURSIVE_ATTRIBUTES[option]
                parsed.recursive_set = (parsed.recursive_set & ~clear) | bits
                parsed.recursive_clr = (parsed.recursive_clr & ~bits) | clear
            elif option in PROPAGATION:
                parsed.propagation.append((PROPAGATION[option], option.startswith("r")))
            elif option in ("bind", "rbind"):
                parsed.bind = True
                parsed.recursive = option == "rbind"
            elif option == "tmpcopyup":
                parsed.copy_up = True
            elif option not in _WITHOUT_EFFECT:
                key, equals, value = option.partition("=")
                parsed.data.append((key, value if equals else None))
        return parsed

    def apply(self, detached: int) -> None:
        """Set the attributes on a detached mount."""
        if self.attr_set or self.attr_clr:
            mnt.mount_setattr(detached, "", attr_set=self.attr_set, attr_clr=self.attr_clr)
        if self.recursive_set or self.recursive_clr:
            mnt.mount_setattr(
                detached,
                "",
                flags=AT_RECURSIVE,
                attr_set=self.recursive_set,
                attr_clr=self.recursive_clr,
            )


def supported_options() -> list[str]:
    """Every option that parses, in alphabetical order."""
    known = {*_ATTRIBUTES, *_RECURSIVE_ATTRIBUTES, *PROPAGATION, *_WITHOUT_EFFECT}
    return sorted(known | {"bind", "rbind", "tmpcopyup"})
