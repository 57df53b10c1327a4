"""The containers of this instance: found by name or id, created, renamed, updated, removed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3

from seom.containers.config import CreateRequest, HostConfig, RestartPolicy
from seom.containers.spec import check_host_config
from seom.engine import definition as definitions
from seom.engine import mounts as mounting
from seom.engine.container import Container, Definition, State, Status, load_containers, now_ns
from seom.engine.events import EventBus
from seom.engine.images import Images
from seom.engine.launch import Launcher
from seom.engine.lifecycle import Lifecycle
from seom.engine.mount_requests import MountPoint
from seom.engine.names import is_valid_name, new_id, random_name
from seom.engine.networks import Networks
from seom.engine.processes import list_processes
from seom.engine.resources import UpdateRequest, apply_update
from seom.engine.volumes import Volumes
from seom.errors import Conflict, InvalidParameter, NotFound
from seom.linux.cgroup import Cgroup
from seom.storage.database import Database


class Containers:
    """All containers, in memory and in the database."""

    def __init__(
        self,
        db: Database,
        events: EventBus,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        launcher: Launcher,
        lifecycle: Lifecycle,
    ) -> None:
        self._db = db
        self._events = events
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self.launcher = launcher
        self.lifecycle = lifecycle
        self._by_id: dict[str, Container] = {}
        self._id_by_name: dict[str, str] = {}

    # Finding

    def load(self) -> None:
        """Read the stored containers."""
        for container in load_containers(self._db, self.launcher.data_root, self.launcher.run_dir):
            self._remember(container)

    def all(self) -> list[Container]:
        """Every container, newest first."""
        return sorted(self._by_id.values(), key=lambda container: -container.created_ns)

    def find(self, name_or_id: str) -> Container | None:
        """By full id, name, or unambiguous start of an id; raises InvalidParameter when it is ambiguous."""
        wanted = name_or_id.removeprefix("/")
        if wanted in self._by_id:
            return self._by_id[wanted]
        if wanted in self._id_by_name:
            return self._by_id[self._id_by_name[wanted]]
        found = [id for id in self._by_id if wanted and id.startswith(wanted)]
        if len(found) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {wanted}")
        return self._by_id[found[0]] if found else None

    def get(self, name_or_id: str) -> Container:
        """As find, but raises NotFound."""
        container = self.find(name_or_id)
        if container is None:
            raise NotFound(f"No such container: {name_or_id}")
        return container

    def using_image(self, image_id: str) -> list[Container]:
        """The containers made from an image."""
        return [found for found in self._by_id.values() if found.definition.image_id == image_id]

    def using_volume(self, name: str) -> list[str]:
        """Ids of the containers that mount a volume, running or not."""
        return [
            found.id
            for found in self._by_id.values()
            if any(mount.name == name for mount in found.definition.mounts)
        ]

    def _remember(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._id_by_name[container.name] = container.id

    # Creating

    async def create(
        self, request: CreateRequest, name: str = "", platform: str = ""
    ) -> tuple[Container, list[str]]:
        """Make a container: (it, warnings). Raises InvalidParameter, NotFound (image), Conflict (name)."""
        name = name.removeprefix("/")
        self._check_name(name)
        config, host = definitions.split_request(request)
        definitions.fill_host_defaults(host)
        definitions.check(config, host)
        if not config.image:
            raise InvalidParameter("no image specified: give the name or id of an image")
        image = self._images.resolve(config.image, platform)
        definitions.merge_image_defaults(config, image.config.execution)
        argv = definitions.command_line(config)
        id = new_id()
        endpoints = definitions.endpoint_requests(request)
        warnings = check_host_config(config, host)
        warnings += self._networks.check_request(config, host, endpoints)
        if host.uts_mode == "host" and config.hostname:
            raise InvalidParameter("conflicting options: hostname and the UTS mode")
        config.hostname = config.hostname or self._default_hostname(host, id)
        wanted = Definition(
            config=config,
            host=host,
            endpoints=endpoints,
            image_id=image.id,
            diff_ids=list(image.diff_ids),
            path=argv[0],
            args=argv[1:],
        )
        container = Container(
            id, name, now_ns(), wanted, State(), self.launcher.data_root, self.launcher.run_dir
        )
        with self._images.store.hold(image.id):
            await self._make(container)
        self._publish(container, "create")
        return container, warnings

    async def _make(self, container: Container) -> None:
        """Volumes, directories and the row; nothing of them is left after a failure but named volumes."""
        definition, volumes = container.definition, self._volumes
        try:
            definition.mounts = await mounting.resolve(
                definition.host, definition.config, volumes, container.id, self._mounts_of
            )
            layers = self._images.layer_paths_of(definition.diff_ids)
            await mounting.populate(definition.mounts, layers, volumes)
            await asyncio.to_thread(self.launcher.prepare_directories, container)
            self._insert(container)
        except BaseException:
            volumes.settle(container.id)
            await mounting.remove_anonymous(definition.mounts, volumes)
            await asyncio.to_thread(shutil.rmtree, container.directory, True)
            raise
        volumes.settle(container.id)

    def _mounts_of(self, name: str) -> list[MountPoint]:
        return self._other(name).definition.mounts

    def _other(self, name: str) -> Container:
        """A container that a create request names: for "not found" docker would pull the request's image."""
        try:
            return self.get(name)
        except NotFound as error:
            raise InvalidParameter(str(error)) from error

    def _check_name(self, name: str) -> None:
        if name and not is_valid_name(name):
            raise InvalidParameter(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        if name in self._id_by_name:
            raise self._name_conflict(name)

    def _name_conflict(self, name: str) -> Conflict:
        return Conflict(
            f'Conflict. The container name "/{name}" is already in use by container '
            f'"{self._id_by_name.get(name, "")}". You have to remove (or rename) that container to be able '
            "to reuse that name."
        )

    def _default_hostname(self, host: HostConfig, id: str) -> str:
        if host.uts_mode == "host" or host.network_mode == "host":
            return socket.gethostname()
        if host.network_mode.startswith("container:"):
            return self._other(host.network_mode.partition(":")[2]).config.hostname
        return id[:12]

    def _insert(self, container: Container) -> None:
        while not container.name:
            candidate = random_name()
            container.name = "" if candidate in self._id_by_name else candidate
        if container.name in self._id_by_name:
            raise self._name_conflict(container.name)
        try:
            container.insert(self._db)
        except sqlite3.IntegrityError as error:
            raise self._name_conflict(container.name) from error
        self._remember(container)

    # Changing

    async def rename(self, container: Container, name: str) -> None:
        """Give a container another name; a running one is found by it on its networks at once."""
        name = name.removeprefix("/")
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        async with container.lock:
            self._check_present(container)
            if name == container.name:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            self._check_name(name)
            previous, container.name = container.name, name
            try:
                container.save_definition(self._db)
            except sqlite3.IntegrityError as error:
                container.name = previous
                raise self._name_conflict(name) from error
            del self._id_by_name[previous]
            self._id_by_name[name] = container.id
            self._networks.rename(container.id, name)
            self._publish(container, "rename", oldName=f"/{previous}")

    async def update(self, container: Container, request: UpdateRequest) -> list[str]:
        """Change limits and restart policy, of a running container too; returns warnings."""
        async with container.lock:
            self._check_present(container)
            host = apply_update(container.host, request)
            if host.auto_remove and (host.restart_policy or RestartPolicy()).name not in ("", "no"):
                raise InvalidParameter(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container"
                )
            definitions.check(container.config, host)
            warnings = check_host_config(container.config, host, update=True)
            if container.running:
                await self.launcher.apply_limits(container, host)
            container.definition.host = host
            container.save_definition(self._db)
            self._publish(container, "update")
            return warnings

    def _check_present(self, container: Container) -> None:
        """Somebody may have removed it while we waited for its lock."""
        if container.removed:
            raise NotFound(f"No such container: {container.name}")

    # Removing

    async def remove(self, container: Container, force: bool = False, volumes: bool = False) -> None:
        """Remove a container, when forced a running one too; volumes also removes its anonymous ones."""
        if container.running or container.state.status == Status.RESTARTING:
            if not force:
                raise Conflict(self._refusal(container))
            try:
                container.host.auto_remove = False
                await self.lifecycle.kill(container)
            except Conflict:
                pass
        async with container.lock:
            if container.removed:
                return
            if container.running:
                raise Conflict(self._refusal(container))
            container.state.status = Status.REMOVING
            container.save_state(self._db)
            await self._erase(container, volumes)

    def _refusal(self, container: Container) -> str:
        if container.paused:
            return (
                f'cannot remove container "{container.name}": container is paused and must be unpaused first'
            )
        return (
            f'cannot remove container "{container.name}": container is {container.state.status}: stop '
            "the container before removing or force remove"
        )

    async def _erase(self, container: Container, volumes: bool) -> None:
        """Files after the row: a crash in between leaves only garbage, swept at the next start."""
        await self.launcher.release(container)
        container.drop_pending_attachments()
        self._db.execute("DELETE FROM container WHERE id=?", container.id)
        del self._by_id[container.id]
        del self._id_by_name[container.name]
        if volumes:
            await mounting.remove_anonymous(container.definition.mounts, self._volumes)
        container.removed = True
        self._images.release(container.definition.image_id)
        self._publish(container, "destroy")
        await container.notify()
        await asyncio.to_thread(self.launcher.remove_directories, container)

    async def remove_when_exited(self, container: Container) -> None:
        """The end of a container started with --rm: anonymous volumes go too."""
        try:
            await self.remove(container, volumes=True)
        except (Conflict, NotFound):
            return

    def cgroup(self, container: Container) -> Cgroup:
        """The control group of a container's processes."""
        return self.launcher.cgroup(container)

    async def top(self, container: Container, ps_args: str) -> tuple[list[str], list[list[str]]]:
        """The processes of a running container: (column titles, rows)."""
        if not container.running:
            raise Conflict(f"container {container.id} is not running")
        pids = await asyncio.to_thread(self.cgroup(container).pids)
        return await list_processes(set(pids), ps_args)

    def _publish(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish(
            "container", action, container.id, {**container.event_attributes(), **attributes}
        )
