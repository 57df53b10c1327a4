"""What the daemon holds: one object per noun, wired together by seom.daemon."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from seom.containers.runtime import Runtime
from seom.engine.containers import Containers
from seom.engine.distribution import Distribution
from seom.engine.events import EventBus
from seom.engine.execs import Execs
from seom.engine.images import Images
from seom.engine.networks import Networks
from seom.engine.volumes import Volumes
from seom.storage.database import Database

DEFAULT_DATA_ROOT = Path("/var/lib/seom")
DEFAULT_RUN_DIR = Path("/run/seom")


@dataclass(frozen=True)
class Settings:
    """Where this instance lives. Two instances with different data roots share nothing."""

    data_root: Path = DEFAULT_DATA_ROOT
    run_dir: Path = DEFAULT_RUN_DIR
    hosts: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()

    @property
    def instance(self) -> str:
        """Empty for the default data root, else six hexadecimal digits derived from it."""
        if self.data_root == DEFAULT_DATA_ROOT:
            return ""
        return hashlib.sha256(str(self.data_root).encode()).hexdigest()[:6]

    @property
    def cgroup_parent(self) -> str:
        """The cgroup below which every container of this instance lives, relative to the root."""
        return f"seom-{self.instance}" if self.instance else "seom"


@dataclass
class Engine:
    """The nouns, for the API's handlers."""

    settings: Settings
    db: Database
    events: EventBus
    runtime: Runtime
    images: Images
    distribution: Distribution
    networks: Networks
    volumes: Volumes
    containers: Containers
    execs: Execs
