"""The local driver: one directory a volume.

    DATA_ROOT/volumes/
      NAME/_data        the content, and the mount point of a volume with mount options
      NAME/.filling-*   a copy of an image's content in the making
      .removed-*        content on its way out, deleted when the daemon finds it

Options are those of mount(8): type, device and o. A volume that has them is mounted on _data while a
container uses it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from seom.errors import InvalidParameter
from seom.volumes.copy_up import FILLING

DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_REMOVED = ".removed-"
_REQUIRES = {"device": ("type",), "type": ("device",), "o": ("device", "type"), "size": ()}


def check_length(name: str) -> None:
    """Raise InvalidParameter for a name of one letter; only what is created by itself has this rule."""
    if len(name) < 2:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )


def check_name(name: str) -> None:
    """Raise InvalidParameter for a name that cannot be a directory of this driver."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) > 255:
        raise InvalidParameter(f"create {name}: the name is longer than a file name can be (255 bytes)")


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise InvalidParameter for mount options that are unknown or incomplete."""
    for option in options:
        if option not in _REQUIRES:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    for option, required in _REQUIRES.items():
        for other in required if option in options else ():
            if other not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')
    if "size" in options:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")


class LocalDriver:
    """The directories of all volumes of one data root. Methods block: call them from a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def data(self, name: str) -> Path:
        """Where the content of a volume is."""
        return self.directory / name / "_data"

    def create(self, name: str) -> None:
        """Make the directories of a volume; those that exist are kept as they are."""
        self.directory.mkdir(mode=0o701, parents=True, exist_ok=True)
        self.directory.joinpath(name).mkdir(mode=0o701, exist_ok=True)
        data = self.data(name)
        try:
            data.mkdir(mode=0o755)
            data.chmod(0o755)  # whatever the umask is
        except FileExistsError:
            pass

    def set_aside(self, name: str) -> Path | None:
        """Rename a volume's directory so that its name is free; delete() the result later.

        Returns None when there was none. Raises OSError (EBUSY) while it is mounted.
        """
        aside = self.directory / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            self.directory.joinpath(name).rename(aside)
        except FileNotFoundError:
            return None
        return aside

    def delete(self, aside: Path) -> None:
        """Delete what set_aside() returned."""
        shutil.rmtree(aside)

    def names(self) -> Iterator[str]:
        """Volumes that have a directory."""
        if self.directory.is_dir():
            for entry in os.scandir(self.directory):
                if _NAME.fullmatch(entry.name) and self.data(entry.name).is_dir():
                    yield entry.name

    def clean(self) -> None:
        """Delete what an interrupted removal or copy left."""
        for left in (*self.directory.glob(f"{_REMOVED}*"), *self.directory.glob(f"*/{FILLING}*")):
            shutil.rmtree(left, ignore_errors=True)
