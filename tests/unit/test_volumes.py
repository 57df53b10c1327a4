"""Volumes and mount points of containers, on real directories."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from seom.containers.config import Config, HostConfig, MountRequest
from seom.engine.events import EventBus
from seom.engine.filters import Filters
from seom.engine.mounts import MountPoint, prepare, resolve
from seom.engine.volumes import Volumes
from seom.errors import Conflict, InvalidParameter, NotFound
from seom.storage.database import Database
from seom.volumes.usage import disk_usage

CONTAINER = "c" * 64
Scenario = Callable[[Volumes], Awaitable[None]]


def no_mounts(container: str) -> list[MountPoint]:
    raise NotFound(f"No such container: {container}")


def play(root: Path, scenario: Scenario) -> None:
    async def main() -> None:
        database = Database(root / "seom.db")
        volumes = Volumes(database, root, EventBus())
        await volumes.open()
        await scenario(volumes)
        database.close()

    asyncio.run(main())


def test_create_makes_the_directory_and_is_idempotent(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        first = await volumes.create("data", labels={"a": "b"})
        again = await volumes.create("data")
        assert first == again
        assert first.mountpoint == tmp_path / "volumes/data/_data"
        assert first.mountpoint.is_dir()
        document = first.inspect()
        assert document["Labels"] == {"a": "b"}
        assert document["Options"] is None
        assert document["Scope"] == "local"

    play(tmp_path, scenario)


def test_a_volume_without_a_name_is_anonymous(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create()
        assert len(volume.name) == 64
        assert volume.anonymous

    play(tmp_path, scenario)


@pytest.mark.parametrize("name", ["a", "a/b", "../x", ".hidden", "-x", "a b"])
def test_impossible_names_are_refused_and_change_nothing(tmp_path: Path, name: str) -> None:
    async def scenario(volumes: Volumes) -> None:
        with pytest.raises(InvalidParameter, match=r"^create .*: "):
            await volumes.create(name)
        assert volumes.select() == []
        assert not (tmp_path / "volumes").exists()

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, 'invalid option: "colour"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"o": "bind"}, 'missing required option: "device"'),
        ({"size": "1m"}, "quota size requested but no quota support"),
    ],
)
def test_incomplete_options_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    async def scenario(volumes: Volumes) -> None:
        with pytest.raises(InvalidParameter, match=f"create data: {message}"):
            await volumes.create("data", options=options)

    play(tmp_path, scenario)


def test_a_name_of_one_letter_is_good_enough_for_a_container(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        points = await resolve(HostConfig(binds=["a:/x"]), Config(), volumes, CONTAINER, no_mounts)
        assert points[0].name == "a"

    play(tmp_path, scenario)


def test_disk_usage_equals_du(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(bytes(range(256)) * 500)
    (tmp_path / "small").write_bytes(b"hi")
    (tmp_path / "link").symlink_to("small")
    os.link(tmp_path / "sub/file", tmp_path / "again")
    du = ["du", "-s", "--apparent-size", "--block-size=1", str(tmp_path)]
    total = int(subprocess.check_output(du, text=True).split()[0])
    directories = sum(os.stat(path).st_size for path in (tmp_path, tmp_path / "sub"))
    assert disk_usage(tmp_path) == total - directories


def test_a_sparse_file_counts_what_is_stored(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x" * 10_000)
    assert 10_000 <= disk_usage(tmp_path) <= 20_000


def test_an_unknown_driver_is_not_found(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        with pytest.raises(NotFound, match='plugin "ceph" not found'):
            await volumes.create("data", driver="ceph")

    play(tmp_path, scenario)


def test_remove_deletes_the_content(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.mountpoint / "file").write_text("x")
        await volumes.remove("data")
        assert list((tmp_path / "volumes").iterdir()) == []
        with pytest.raises(NotFound, match=r"^get data: no such volume$"):
            volumes.get("data")
        with pytest.raises(NotFound):
            await volumes.remove("data")
        await volumes.remove("data", force=True)

    play(tmp_path, scenario)


def test_a_volume_in_use_is_kept_even_by_force(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        await volumes.create("data")
        volumes.users = lambda name: [CONTAINER] if name == "data" else []
        for force in (False, True):
            with pytest.raises(Conflict) as refusal:
                await volumes.remove("data", force=force)
            assert str(refusal.value) == f"remove data: volume is in use - [{CONTAINER}]"
        assert volumes.get("data").mountpoint.is_dir()

    play(tmp_path, scenario)


def test_a_reserved_volume_is_kept_until_the_reservation_is_settled(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        await volumes.create("data", reserved_for=CONTAINER)
        assert await volumes.prune(Filters({"all": ["1"]})) == ([], 0)
        volumes.settle(CONTAINER)
        assert (await volumes.prune(Filters({"all": ["1"]})))[0] == ["data"]

    play(tmp_path, scenario)


def test_prune_takes_anonymous_volumes_unless_told_to_take_all(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        await volumes.create("named")
        anonymous = await volumes.create()
        (anonymous.mountpoint / "file").write_bytes(bytes(100_000))
        names, freed_bytes = await volumes.prune()
        assert names == [anonymous.name]
        assert freed_bytes >= 100_000
        assert [volume.name for volume in volumes.select()] == ["named"]

    play(tmp_path, scenario)


def test_list_filters_by_name_label_driver_and_use(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        await volumes.create("front", labels={"tier": "1"})
        await volumes.create("back", labels={"tier": "2"})
        volumes.users = lambda name: [CONTAINER] if name == "back" else []

        def names(**filters: list[str]) -> list[str]:
            return [volume.name for volume in volumes.select(Filters(filters))]

        assert names() == ["back", "front"]
        assert names(name=["fro"]) == ["front"]
        assert names(label=["tier=2"]) == ["back"]
        assert names(driver=["local"]) == ["back", "front"]
        assert names(dangling=["true"]) == ["front"]
        assert names(dangling=["0"]) == ["back"]
        with pytest.raises(InvalidParameter, match="invalid filter 'size'"):
            names(size=["1"])

    play(tmp_path, scenario)


def test_a_directory_without_a_row_is_taken_in_again(tmp_path: Path) -> None:
    (tmp_path / "volumes/data/_data").mkdir(parents=True)
    (tmp_path / "volumes/.removed-0123").mkdir()

    async def scenario(volumes: Volumes) -> None:
        assert [volume.name for volume in volumes.select()] == ["data"]
        assert not (tmp_path / "volumes/.removed-0123").exists()

    play(tmp_path, scenario)


def test_a_container_gets_its_volumes_binds_and_the_images_volumes(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        host = HostConfig(binds=["cache:/cache", "/:/host:ro"], tmpfs={"/run": "size=1m"})
        config = Config(volumes={"/cache": {}, "/var/lib/db": {}})
        points = await resolve(host, config, volumes, CONTAINER, no_mounts)
        assert [point.destination for point in points] == ["/cache", "/host", "/run", "/var/lib/db"]
        assert points[0].inspect() == {
            "Type": "volume",
            "Name": "cache",
            "Source": str(tmp_path / "volumes/cache/_data"),
            "Destination": "/cache",
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        }
        assert points[3].mode == ""
        assert volumes.get(points[3].name).anonymous
        mounts = await prepare(points, CONTAINER, volumes)
        assert [mount.destination for mount in mounts] == ["/cache", "/host", "/run", "/var/lib/db"]

    play(tmp_path, scenario)


def test_two_mounts_at_one_place_are_refused_and_make_no_volume(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        host = HostConfig(binds=["a1:/x"], mounts=[MountRequest(type="volume", source="b1", target="/x/")])
        with pytest.raises(InvalidParameter, match=r"^Duplicate mount point: /x$"):
            await resolve(host, Config(), volumes, CONTAINER, no_mounts)
        assert volumes.select() == []

    play(tmp_path, scenario)


def test_mount_needs_its_source_and_v_makes_it_at_the_start(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        missing = tmp_path / "missing"
        by_mount = HostConfig(mounts=[MountRequest(type="bind", source=str(missing), target="/x")])
        with pytest.raises(InvalidParameter) as refusal:
            await resolve(by_mount, Config(), volumes, CONTAINER, no_mounts)
        assert str(refusal.value) == (
            f'invalid mount config for type "bind": bind source path does not exist: {missing}'
        )
        by_v = HostConfig(binds=[f"{missing}:/x"])
        points = await resolve(by_v, Config(), volumes, CONTAINER, no_mounts)
        assert not missing.exists()
        await prepare(points, CONTAINER, volumes)
        assert missing.is_dir()

    play(tmp_path, scenario)


def test_volumes_from_inherits_volumes_and_binds_read_only_when_asked(tmp_path: Path) -> None:
    async def scenario(volumes: Volumes) -> None:
        donor = await resolve(
            HostConfig(binds=["data:/data", "/:/host"], tmpfs={"/run": ""}),
            Config(),
            volumes,
            "d" * 64,
            no_mounts,
        )
        points = await resolve(
            HostConfig(volumes_from=["donor:ro"], binds=["own1:/host"]),
            Config(volumes={"/data": {}}),
            volumes,
            CONTAINER,
            lambda name: donor,
        )
        assert [(point.destination, point.name, point.rw) for point in points] == [
            ("/data", "data", False),
            ("/host", "own1", True),
        ]

    play(tmp_path, scenario)
