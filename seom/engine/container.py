"""One container: what was asked for, what became of it, and how both are stored.

    created -> running <-> paused
                 |  ^
                 v  | (restart policy)
    removing <- exited / restarting        dead: removal failed half-way

The definition never changes but by rename and update; the state changes with every start and exit.
Both are rows of the database; everything else here (workload, tasks, waiters) lives with the daemon.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from seom.containers.config import Config, EndpointConfig, HostConfig
from seom.containers.runtime import Attachment, Workload
from seom.engine.mounts import MountPoint
from seom.engine.network_records import Member
from seom.storage.database import Database

HEALTH_LOG_ENTRIES = 5


class Status(StrEnum):
    """The states of a container, in Docker's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Definition(msgspec.Struct):
    """What was asked for, with the image's defaults merged in."""

    config: Config
    host: HostConfig
    endpoints: dict[str, EndpointConfig | None]
    image_id: str
    diff_ids: list[str]
    path: str
    args: list[str]
    mounts: list[MountPoint] = []
    platform: str = "linux"


class Probe(msgspec.Struct, rename="pascal"):
    """The result of one health check; times are RFC 3339."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(msgspec.Struct):
    """starting, healthy or unhealthy, with the last probes."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[Probe] = []


class State(msgspec.Struct):
    """What became of the container; times are nanoseconds since the epoch, 0 for never."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at_ns: int = 0
    finished_at_ns: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    boot_id: str = ""
    health: Health | None = None


class Container:
    """A container known to the daemon. Change it only while holding its lock."""

    def __init__(
        self,
        id: str,
        name: str,
        created_ns: int,
        definition: Definition,
        state: State,
        data_root: Path,
        run_dir: Path,
    ) -> None:
        self.id = id
        self.name = name
        self.created_ns = created_ns
        self.definition = definition
        self.state = state
        self.lock = asyncio.Lock()
        self.workload: Workload | None = None
        self.directory = data_root / "containers" / id
        self.run_directory = run_dir / "containers" / id
        self.pending_attachments: list[Attachment] = []
        self.exec_ids: set[str] = set()
        self._changed = asyncio.Condition()
        self.exits = 0
        self.removed = False

    @property
    def config(self) -> Config:
        return self.definition.config

    @property
    def host(self) -> HostConfig:
        return self.definition.host

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.id}-json.log"

    @property
    def running(self) -> bool:
        """True for paused containers too: their processes exist."""
        return self.state.status in (Status.RUNNING, Status.PAUSED)

    @property
    def paused(self) -> bool:
        return self.state.status == Status.PAUSED

    def member(self) -> Member:
        """What the networks must know of it."""
        return Member(self.id, self.name, self.config, self.host, self.definition.endpoints, self.state.pid)

    def event_attributes(self) -> dict[str, str]:
        """What every event about this container carries: image, name and labels."""
        return {**(self.config.labels or {}), "image": self.config.image, "name": self.name}

    def insert(self, db: Database) -> None:
        """Store a new container; raises sqlite3.IntegrityError when id or name is taken."""
        db.execute(
            "INSERT INTO container VALUES (?,?,?,?,?)",
            self.id,
            self.name,
            self.created_ns,
            msgspec.json.encode(self.definition),
            msgspec.json.encode(self.state),
        )

    def save_state(self, db: Database) -> None:
        """Store the state."""
        db.execute("UPDATE container SET state=? WHERE id=?", msgspec.json.encode(self.state), self.id)

    def save_definition(self, db: Database) -> None:
        """Store name and definition."""
        db.execute(
            "UPDATE container SET name=?, definition=? WHERE id=?",
            self.name,
            msgspec.json.encode(self.definition),
            self.id,
        )

    async def notify(self) -> None:
        """Wake everybody who waits for a change of state."""
        async with self._changed:
            self._changed.notify_all()

    async def wait_until_exit(self, seen_exits: int) -> None:
        """Return when the container has exited more than seen_exits times, or was removed."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.exits > seen_exits or self.removed)

    async def wait_until_not_running(self) -> None:
        """Return when the container does not run and no restart is pending."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.removed or not (self.running or self.state.status == Status.RESTARTING)
            )

    async def wait_until_removed(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.removed)

    def drop_pending_attachments(self) -> None:
        """Close the connections of clients that wait for a start that will not come."""
        for attachment in self.pending_attachments:
            os.close(attachment.fd)
        self.pending_attachments.clear()


def load_containers(db: Database, data_root: Path, run_dir: Path) -> list[Container]:
    """Every stored container, oldest first."""
    definitions = msgspec.json.Decoder(Definition)
    states = msgspec.json.Decoder(State)
    return [
        Container(
            row["id"],
            row["name"],
            row["created_ns"],
            definitions.decode(row["definition"]),
            states.decode(row["state"]),
            data_root,
            run_dir,
        )
        for row in db.rows("SELECT * FROM container ORDER BY created_ns")
    ]


def now_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def rfc3339(time_ns: int) -> str:
    """A time as Docker prints it, in UTC with nanoseconds; 0 is year 1."""
    if time_ns == 0:
        return "0001-01-01T00:00:00Z"
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{text}{fraction}Z"
