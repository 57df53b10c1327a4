"""What seom-runtime remembers of a container between two commands.

    ROOT/ID/state.json    written once the container is created
    ROOT/ID/config.json   the specification it was created from
    ROOT/ID/start         a FIFO; the program is executed when something is written to it
    ROOT/seccomp/*.bpf    compiled filters

The status is never stored: it is read off the process, which pid and start time identify.
"""

from __future__ import annotations

import os

from seom.containers.record import Record, decode, encode
from seom.linux import process
from seom.linux.cgroup import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATED, RUNNING, PAUSED, STOPPED = "created", "running", "paused", "stopped"
OCI_VERSION = "1.2.0"
_NAME = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class RuntimeFailure(Exception):
    """A command failed; the text is for the user."""


class State:
    """One container of the runtime."""

    def __init__(self, root: str, id: str) -> None:
        if not id or id in (".", "..") or not set(id) <= _NAME or len(id) > 1024:
            raise RuntimeFailure(f"invalid container ID format: {id}")
        self.id = id
        self.folder = f"{root}/{id}"
        self.fifo = f"{self.folder}/start"
        self.members: dict[str, Any] = {}

    # -- on disk

    def claim(self) -> None:
        """Take the name; raises RuntimeFailure when another container has it."""
        os.makedirs(os.path.dirname(self.folder), mode=0o711, exist_ok=True)
        try:
            os.mkdir(self.folder, 0o711)
        except FileExistsError:
            raise RuntimeFailure(f"container with given ID already exists: {self.id}") from None

    def save(self, members: dict[str, Any]) -> None:
        """Write the state; from now on the other commands find the container."""
        self.members = members
        self._write("state.json", encode(members))

    def save_config(self, text: bytes) -> None:
        """Keep the specification: the bundle may change or vanish."""
        self._write("config.json", text.decode())

    def load(self) -> State:
        """Read the state; raises RuntimeFailure when there is no such container."""
        try:
            with open(f"{self.folder}/state.json", "rb") as file:
                self.members = decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            raise RuntimeFailure("container does not exist") from None
        return self

    def config(self) -> Any:
        """The specification the container was created from."""
        with open(f"{self.folder}/config.json", "rb") as file:
            return Record(decode(file.read()))

    def forget(self) -> None:
        """Remove everything of the container from the root folder."""
        for name in ("start", "config.json", "state.json"):
            try:
                os.unlink(f"{self.folder}/{name}")
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self.folder)
        except FileNotFoundError:
            pass

    def _write(self, name: str, text: str) -> None:
        temporary = f"{self.folder}/.{name}"
        with open(temporary, "w") as file:
            file.write(text)
        os.rename(temporary, f"{self.folder}/{name}")

    # -- the process

    @property
    def pid(self) -> int:
        return int(self.members["pid"])

    @property
    def cgroup(self) -> Cgroup:
        return Cgroup(self.members["cgroup"])

    def status(self) -> str:
        """created, running, paused or stopped."""
        if not self._alive():
            return STOPPED
        if self.cgroup.frozen():
            return PAUSED
        return CREATED if os.path.exists(self.fifo) else RUNNING

    def _alive(self) -> bool:
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return fields[0] not in (b"Z", b"X") and int(fields[19]) == self.members["startTime"]
        except (OSError, IndexError):
            return False

    def open_pidfd(self) -> int:
        """A descriptor of the container's process, which can be no other one (ProcessLookupError)."""
        descriptor = os.pidfd_open(self.pid)
        if process.start_time(self.pid) != self.members["startTime"]:
            os.close(descriptor)
            raise ProcessLookupError(f"process {self.pid} is another one by now")
        return descriptor

    def document(self) -> dict[str, Any]:
        """The state of the runtime specification, which hooks and the state command get."""
        status = self.status() if self.members.get("pid") else "creating"
        document = {
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": status,
            "pid": 0 if status == STOPPED else self.members.get("pid", 0),
            "bundle": self.members["bundle"],
            "rootfs": self.members["rootfs"],
            "created": self.members["created"],
            "owner": "",
        }
        if self.members.get("annotations"):
            document["annotations"] = self.members["annotations"]
        return document
