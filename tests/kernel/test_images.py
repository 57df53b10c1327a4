"""The image store on a real disk: archives in and out, removal, garbage, damage, crashes."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import zstandard
from aiohttp import web

from seom.api.images import import_image
from seom.engine.events import EventBus
from seom.engine.filters import Filters
from seom.engine.image_listing import list_images, prune_filter
from seom.engine.images import Images
from seom.errors import Conflict, InvalidParameter, NotFound, SeomError, SystemFailure
from seom.images.making import CommitSource
from seom.images.progress import Message
from seom.images.store import Image
from seom.oci.descriptor import digest_of
from seom.oci.image_config import ExecutionConfig
from seom.oci.reference import parse_reference
from seom.storage.database import Database
from tests.kernel.tars import Tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers keep owners and devices: needs root")


@dataclass
class User:
    id: str
    running: bool = False


@dataclass
class World:
    """An instance's images, and the containers that pretend to use them."""

    root: Path
    users: dict[str, list[User]] = field(default_factory=dict)
    lines: list[Message] = field(default_factory=list)
    events: EventBus = field(default_factory=EventBus)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.db = Database(self.root / "seom.db")
        self.images = Images(
            self.db, self.root, self.events, lambda image_id: self.users.get(image_id, []), 0
        )

    async def load(self, archive: bytes, platform: str = "") -> list[Image]:
        return await self.images.load(pieces(archive), self.lines.append, platform)

    async def save(self, *names: str) -> bytes:
        return b"".join([chunk async for chunk in self.images.save(names)])

    @property
    def told(self) -> list[str]:
        return [line.stream.strip() for line in self.lines if line.stream]

    def files(self) -> set[str]:
        """Every blob and layer on disk, and whatever is left over."""
        folders = (
            *self.images.blobs.root.iterdir(),
            self.images.layers.root,
            self.images.layers.root / "ingest",
        )
        return {entry.name[:12] for folder in folders for entry in folder.iterdir()} - {"ingest"}


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


Result = TypeVar("Result")


def run(world: World, scenario: Coroutine[Any, Any, Result]) -> Result:
    """Run a scenario, then what it left to the background."""

    async def whole() -> Result:
        try:
            return await scenario
        finally:
            await world.images.settled()

    return asyncio.run(whole())


def all_unpacked(paths: list[str]) -> bool:
    return all(Path(path).is_dir() for path in paths)


def config_of(layers: list[bytes], **more: object) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05.678Z",
        "config": {"Cmd": ["sh"], "Labels": {"kind": "test"}},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created_by": f"step {number}"} for number in range(len(layers))],
        **more,
    }
    return json.dumps(document).encode()


def docker_archive(config: bytes, layers: list[bytes], tags: list[str], packed: bool = False) -> bytes:
    """As docker before 25 and skopeo write it."""
    tar = Tar()
    for number, layer in enumerate(layers):
        tar.file(f"l{number}/layer.tar", gzip.compress(layer) if packed else layer)
        tar.symlink(f"also{number}.tar", f"./l{number}/layer.tar")
    tar.file("config.json", config)
    names = [f"also{number}.tar" for number in range(len(layers))]
    tar.file(
        "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": tags, "Layers": names}]).encode()
    )
    return tar.content()


def oci_archive(*images: tuple[bytes, list[bytes], str], name: str, nested: bool = False) -> bytes:
    """An OCI layout, of one image or of an index with one for each architecture."""
    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> dict[str, object]:
        blobs[digest_of(content)] = content
        return {"digest": digest_of(content), "size": len(content)}

    manifests = []
    for config, layers, architecture in images:
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **add(config)},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", **add(zstandard.compress(layer))}
                for layer in layers
            ],
        }
        manifests.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                **add(json.dumps(manifest).encode()),
                "platform": {"architecture": architecture, "os": "linux"},
            }
        )
    index: dict[str, object] = {"schemaVersion": 2, "manifests": manifests}
    if nested:
        inner = {"mediaType": "application/vnd.oci.image.index.v1+json", **add(json.dumps(index).encode())}
        manifests = [inner]
        index = {"schemaVersion": 2, "manifests": manifests}
    manifests[0]["annotations"] = {"io.containerd.image.name": name}
    tar = (
        Tar()
        .file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        .file("index.json", json.dumps(index).encode())
    )
    for digest, content in blobs.items():
        tar.file(f"blobs/{digest.replace(':', '/')}", content)
    return tar.content()


LOWER = Tar().folder("etc").file("etc/lower", b"1").file("big", bytes(300_000)).content()
UPPER = Tar().folder("etc").file("etc/upper", b"2").file("etc/.wh.lower", b"").content()
CONFIG = config_of([LOWER, UPPER])
ARCHIVE = docker_archive(CONFIG, [LOWER, UPPER], ["app:1", "registry.test:5000/team/app:2"])


def test_an_archive_of_old_dockers_is_loaded(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        assert image.id == digest_of(CONFIG)
        assert image.repo_tags == ["app:1", "registry.test:5000/team/app:2"]
        assert world.told == ["Loaded image: app:1", "Loaded image: registry.test:5000/team/app:2"]
        upper, lower = world.images.layer_paths(world.images.resolve("app:1"))
        assert (Path(lower) / "etc/lower").read_bytes() == b"1"
        assert (Path(upper) / "etc/upper").read_bytes() == b"2"
        assert (Path(upper) / "etc/lower").lstat().st_rdev == 0
        assert image.size_bytes == 300_002

    run(world, scenario())


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bytes])
def test_an_archive_may_be_compressed_and_its_layers_too(
    world: World, pack: Callable[[bytes], bytes]
) -> None:
    archive = docker_archive(CONFIG, [LOWER, UPPER], [], packed=True)
    (image,) = run(world, world.load(pack(archive)))
    assert image.diff_ids == [digest_of(LOWER), digest_of(UPPER)]
    assert world.told == [f"Loaded image ID: {image.id}"]


def test_an_oci_layout_is_loaded_with_its_manifest(world: World) -> None:
    async def scenario() -> None:
        archive = oci_archive((CONFIG, [LOWER, UPPER], "amd64"), name="docker.io/library/app:oci")
        (image,) = await world.load(archive)
        assert image.repo_tags == ["app:oci"]
        assert world.images.blobs.exists(image.manifest)
        assert image.layers[0].media_type.endswith("zstd")
        await world.images.collect()
        assert world.images.blobs.exists(image.manifest)

    run(world, scenario())


@pytest.mark.parametrize("nested", [False, True])
def test_an_index_gives_the_image_for_the_wanted_platform(world: World, nested: bool) -> None:
    async def scenario() -> None:
        other = config_of([UPPER], architecture="arm64")
        archive = oci_archive(
            (other, [UPPER], "arm64"), (CONFIG, [LOWER, UPPER], "amd64"), name="multi:1", nested=True
        )
        (image,) = await world.load(archive, "linux/arm64" if nested else "linux/amd64")
        assert image.id == digest_of(other if nested else CONFIG)
        assert image.repo_tags == ["multi:1"]
        with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
            await world.load(archive, "linux/s390x")

    run(world, scenario())


def test_what_is_saved_is_loaded_as_the_same_image(world: World, tmp_path: Path) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        saved = await world.save("app:1", image.id)
        assert saved == await world.save("app:1", image.id)
        (tmp_path / "elsewhere").mkdir()
        other = World(tmp_path / "elsewhere")
        (loaded,) = await other.load(saved)
        assert (loaded.id, loaded.repo_tags) == (image.id, ["app:1"])
        without_docker = Tar()
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            names = archive.getnames()
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content and member.name != "manifest.json":
                    without_docker.file(member.name, content.read())
        assert {"manifest.json", "index.json", "oci-layout", "repositories"} <= set(names)
        assert f"blobs/sha256/{digest_of(LOWER)[7:]}" in names
        (tmp_path / "oci").mkdir()
        (by_index,) = await World(tmp_path / "oci").load(without_docker.content())
        assert (by_index.id, by_index.repo_tags) == (image.id, ["app:1"])

    run(world, scenario())


def test_a_repository_is_saved_with_all_its_tags(world: World) -> None:
    async def scenario() -> None:
        await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1", "app:2", "other:1"]))
        with tarfile.open(fileobj=io.BytesIO(await world.save("app"))) as archive:
            content = archive.extractfile("manifest.json")
            assert content is not None
            (item,) = json.load(content)
        assert item["RepoTags"] == ["app:1", "app:2"]
        with pytest.raises(NotFound, match=r"^No such image: nothing$"):
            await world.save("app", "nothing")

    run(world, scenario())


def test_a_loaded_name_moves_from_the_image_that_had_it(world: World) -> None:
    async def scenario() -> None:
        (old,) = await world.load(docker_archive(config_of([LOWER]), [LOWER], ["app:1"]))
        (new,) = await world.load(docker_archive(config_of([UPPER]), [UPPER], ["app:1"]))
        assert world.images.resolve("app:1").id == new.id
        moved = f"The image app:1 already exists, renaming the old one with ID {old.id} to empty string"
        assert world.told[1:] == [moved, "Loaded image: app:1"]
        assert world.images.store.get(old.id).repo_tags == []

    run(world, scenario())


def manifest(**item: object) -> bytes:
    return json.dumps([{"Config": "c", "Layers": [], "RepoTags": [], **item}]).encode()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "does not contain a manifest.json"),
        (b"nonsense" * 1000, "damaged"),
        (ARCHIVE[: len(ARCHIVE) // 2], "ends in the middle"),
        (gzip.compress(ARCHIVE)[:-500], "ends in the middle"),
        (LOWER, "does not contain a manifest.json"),
        (Tar().file("manifest.json", b"{").content(), "invalid manifest.json"),
        (Tar().file("manifest.json", manifest()).content(), "c is missing"),
        (Tar().file("manifest.json", manifest(Config="../../../etc/passwd")).content(), "passwd is missing"),
        (Tar().symlink("c", "c").file("manifest.json", manifest()).content(), "c is missing"),
        (Tar().symlink("c", "/etc/passwd").file("manifest.json", manifest()).content(), "passwd is missing"),
        (
            Tar().file("c", CONFIG).file("manifest.json", manifest()).content(),
            "length mismatch: expected 2, got 0",
        ),
        (docker_archive(config_of([UPPER]), [LOWER], []), "invalid diffID for layer 0"),
        (docker_archive(CONFIG, [LOWER, UPPER], ["Bad Name"]), "invalid reference format"),
        (Tar().file("index.json", b"{}").content(), "invalid manifest"),
        (Tar().file("blobs/sha256/" + "0" * 64, b"x").content(), "does not have that digest"),
        (Tar().file("blobs/sha256/" + "0" * 64, LOWER).content(), "expected sha256:0000"),
        (
            docker_archive(CONFIG, [LOWER, Tar().hard_link("h", "/etc/passwd").content()], []),
            "cannot extract",
        ),
    ],
)
def test_a_bad_archive_is_refused_and_changes_nothing(world: World, archive: bytes, message: str) -> None:
    async def scenario() -> None:
        with pytest.raises(SeomError, match=message):
            await world.load(archive)
        assert world.images.store.all() == []
        await world.images.collect()
        assert world.files() == set()

    run(world, scenario())


def test_a_client_that_goes_away_leaves_nothing(world: World) -> None:
    async def cut_off() -> AsyncIterator[bytes]:
        yield ARCHIVE[:200_000]
        raise ConnectionResetError("the client went away")

    async def scenario() -> None:
        with pytest.raises(ConnectionResetError):
            await world.images.load(cut_off(), world.lines.append)
        await world.images.collect()
        assert world.files() == set()

    run(world, scenario())


def test_a_cancelled_save_stops_its_thread(world: World) -> None:
    async def scenario() -> None:
        await world.load(ARCHIVE)
        chunks = world.images.save(["app:1"])
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
        assert world.images.leases.held() == set()

    run(world, scenario())


# Removal


def test_the_last_name_takes_the_image_and_its_files_along(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1", "app:2"]))
        assert world.images.remove("app:1") == [{"Untagged": "app:1"}]
        removed = world.images.remove("app:2")
        assert removed[:2] == [{"Untagged": "app:2"}, {"Deleted": image.id}]
        assert removed[-1] == {"Deleted": digest_of(LOWER)}
        assert len(removed) == 4
        await world.images.collect()
        assert world.files() == set()
        with pytest.raises(NotFound):
            world.images.resolve("app:2")

    run(world, scenario())


def test_layers_of_other_images_stay(world: World) -> None:
    async def scenario() -> None:
        await world.load(ARCHIVE)
        (base,) = await world.load(docker_archive(config_of([LOWER]), [LOWER], ["base:1"]))
        world.images.remove("app:1")
        world.images.remove("registry.test:5000/team/app:2")
        await world.images.collect()
        assert all_unpacked(world.images.layer_paths(base))
        assert not world.images.layers.exists(digest_of(UPPER))

    run(world, scenario())


def test_an_image_in_use_is_kept_in_dockers_words(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1"]))
        short = image.id[7:19]
        world.users[image.id] = [User("c" * 64)]
        refusals = {
            "app:1": f'conflict: unable to remove repository reference "app:1" (must force) - container '
            f"cccccccccccc is using its referenced image {short}",
            image.id: f"conflict: unable to delete {short} (must be forced) - image is being used by stopped "
            "container cccccccccccc",
        }
        for name, message in refusals.items():
            with pytest.raises(Conflict) as refused:
                world.images.remove(name)
            assert str(refused.value) == message
        world.users[image.id] = [User("d" * 64, running=True)]
        with pytest.raises(
            Conflict, match=r"\(cannot be forced\) - image is being used by running container dddd"
        ):
            world.images.remove(image.id, force=True)
        assert world.images.remove("app:1", force=True) == [{"Untagged": "app:1"}]
        assert world.images.store.exists(image.id)

    run(world, scenario())


def test_an_image_removed_by_force_serves_its_stopped_container_until_that_goes(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1"]))
        world.users[image.id] = [User("c" * 64)]
        assert {"Deleted": image.id} in world.images.remove("app:1", force=True)
        await world.images.collect()
        assert world.images.store.all() == []
        assert all_unpacked(world.images.layer_paths_of(image.diff_ids))
        world.users.clear()
        await world.images.collect()
        assert world.files() == set()

    run(world, scenario())


def test_an_image_with_names_in_two_repositories_needs_force(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        with pytest.raises(
            Conflict, match=r"\(must be forced\) - image is referenced in multiple repositories"
        ):
            world.images.remove(image.id[7:19])
        removed = world.images.remove(image.id[7:19], force=True)
        assert [item["Untagged"] for item in removed[:2]] == ["app:1", "registry.test:5000/team/app:2"]

    run(world, scenario())


def test_digests_go_with_the_last_tag_of_their_repository(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1"]))
        digest = parse_reference(f"app@sha256:{7:064x}")
        world.images.store.set_digest(digest, image.id)
        removed = world.images.remove("app:1")
        assert removed[:3] == [{"Untagged": "app:1"}, {"Untagged": digest.familiar}, {"Deleted": image.id}]

    run(world, scenario())


def test_prune_takes_dangling_images_or_all_unused_ones(world: World) -> None:
    async def scenario() -> None:
        (nameless,) = await world.load(docker_archive(config_of([UPPER]), [UPPER], []))
        (used,) = await world.load(docker_archive(config_of([LOWER]), [LOWER], []))
        (named,) = await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1"]))
        world.users[used.id] = [User("c" * 64)]
        removed, freed = world.images.prune(*prune_filter(Filters()))
        assert ({"Deleted": nameless.id} in removed, freed) == (True, 0)
        removed, freed = world.images.prune(*prune_filter(Filters({"dangling": ["false"]})))
        assert ({"Deleted": named.id} in removed, freed) == (True, 1)
        assert [image.id for image in world.images.store.all()] == [used.id]

    run(world, scenario())


# Listing


def test_lists_are_filtered_as_docker_filters_them(world: World) -> None:
    async def scenario() -> None:
        old = config_of([LOWER], created="2020-01-01T00:00:00Z")
        await world.load(docker_archive(old, [LOWER], ["team/old:1", "localhost:5000/old:2"]))
        await world.load(docker_archive(CONFIG, [LOWER, UPPER], ["app:1"]))
        await world.load(docker_archive(config_of([UPPER], config={}), [UPPER], []))

        def shown(**filters: str) -> list[list[str]]:
            wanted = Filters({key: [value] for key, value in filters.items()})
            return sorted(image.repo_tags for image in list_images(world.images.store, wanted))

        assert shown() == [[], ["app:1"], ["team/old:1", "localhost:5000/old:2"]]
        assert shown(reference="app") == [["app:1"]]
        assert shown(reference="a?p:*") == [["app:1"]]
        assert shown(reference="*/old") == [["team/old:1", "localhost:5000/old:2"]]
        assert shown(reference="[t]eam/*:1") == [["team/old:1"]]
        assert shown(reference="*") == [["app:1"]]
        assert shown(dangling="true") == [[]]
        assert shown(label="kind=test", dangling="false") == [
            ["app:1"],
            ["team/old:1", "localhost:5000/old:2"],
        ]
        assert shown(before="app:1") == [["team/old:1", "localhost:5000/old:2"]]
        assert shown(since="team/old:1") == [[], ["app:1"]]
        assert shown(until="2021-01-01T00:00:00Z") == [["team/old:1", "localhost:5000/old:2"]]
        assert shown(until="1h") == shown()
        assert shown(reference="[a") == []
        for wrong in ({"unknown": "x"}, {"dangling": "maybe"}):
            with pytest.raises(InvalidParameter):
                shown(**wrong)

    run(world, scenario())


# New images


def test_a_file_system_is_imported(world: World) -> None:
    async def scenario() -> None:
        image = await world.images.import_rootfs(
            pieces(gzip.compress(LOWER)),
            parse_reference("imported"),
            ['CMD ["x"]'],
            "a message",
            "linux/arm64",
        )
        assert image.repo_tags == ["imported:latest"]
        assert image.config.execution.cmd == ["x"]
        assert (image.config.architecture, image.config.comment) == ("arm64", "a message")
        assert image.diff_ids == [digest_of(LOWER)]
        assert world.images.leases.held() == set()

    run(world, scenario())


def test_a_commit_adds_what_the_container_changed(world: World, tmp_path: Path) -> None:
    async def scenario() -> None:
        (parent,) = await world.load(docker_archive(config_of([LOWER]), [LOWER], ["base:1"]))
        upper = tmp_path / "upper"
        (upper / "etc").mkdir(parents=True)
        (upper / "etc/new").write_bytes(b"new")
        (upper / "etc/hosts").write_bytes(b"")
        os.mknod(upper / "etc/lower", 0o20000, os.makedev(0, 0))
        config = ExecutionConfig(cmd=["sleep", "1"], env=["A=1"], hostname="abc", image="base:1")
        source = CommitSource(upper, config, parent, frozenset({b"etc/hosts"}))
        image = await world.images.commit(
            source, parse_reference("made:1"), changes=["ENV B=2"], author="me", message="why"
        )
        assert image.diff_ids[:-1] == parent.diff_ids
        top = Path(world.images.layer_paths(image)[0])
        assert sorted(path.name for path in (top / "etc").iterdir()) == ["lower", "new"]
        assert (top / "etc/lower").lstat().st_rdev == 0
        assert (image.config.author, image.config.comment) == ("me", "why")
        assert image.config.execution.env == ["A=1", "B=2"]
        assert image.config.execution.hostname == ""
        history = image.config.history or []
        assert (history[-1].created_by, len(history)) == ("sleep 1", 2)
        assert image.parent == parent.id
        with pytest.raises(Conflict, match="image has dependent child images"):
            world.images.remove(parent.id, force=True)

    run(world, scenario())


def test_a_commit_without_changes_adds_no_layer(world: World, tmp_path: Path) -> None:
    async def scenario() -> None:
        (parent,) = await world.load(docker_archive(config_of([LOWER]), [LOWER], ["base:1"]))
        (tmp_path / "upper").mkdir()
        source = CommitSource(tmp_path / "upper", ExecutionConfig(), parent)
        image = await world.images.commit(source, None)
        assert image.diff_ids == parent.diff_ids
        assert (image.config.history or [])[-1].empty_layer

    run(world, scenario())


# Garbage, damage, crashes


def test_the_collector_spares_what_a_load_is_bringing_in(world: World) -> None:
    async def scenario() -> None:
        middle = ARCHIVE.index(b"l1/layer.tar") + 5

        async def slow() -> AsyncIterator[bytes]:
            yield ARCHIVE[:middle]
            while not list(world.images.blobs.digests()):
                await world.images.collect()
            for _ in range(3):
                await world.images.collect()
            yield ARCHIVE[middle:]

        (image,) = await world.images.load(slow(), world.lines.append)
        await world.images.collect()
        assert all_unpacked(world.images.layer_paths(image))
        assert all(world.images.blobs.exists(layer.blob) for layer in image.layers)

    run(world, scenario())


def test_a_damaged_blob_is_named_and_loading_again_repairs_it(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        saved = await world.save("app:1")
        blob = world.images.blobs.path(image.layers[0].blob)
        os.truncate(blob, 100)
        with pytest.raises((SystemFailure, InvalidParameter)):
            await world.save("app:1")
        await world.load(saved)
        assert await world.save("app:1") == saved

    run(world, scenario())


def test_missing_files_of_a_layer_are_named_and_loading_again_repairs_them(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        world.images.layers.remove(image.diff_ids[0])
        with pytest.raises(SystemFailure, match="missing"):
            world.images.layer_paths(image)
        await world.load(ARCHIVE)
        assert len(world.images.layer_paths(image)) == 2

    run(world, scenario())


def test_a_layer_that_a_power_failure_may_have_cut_is_unpacked_again(world: World) -> None:
    async def scenario() -> None:
        (image,) = await world.load(ARCHIVE)
        await world.images.close()
        world.db.execute("UPDATE layer SET boot_id='another boot'")
        cut = world.images.layers.path(image.diff_ids[0]) / "big"
        os.truncate(cut, 0)
        world.db.close()
        world.start()
        await world.images.open()
        assert cut.stat().st_size == 300_000
        await world.images.close()

    run(world, scenario())


def test_half_made_content_of_a_crash_is_removed_at_start(world: World) -> None:
    async def scenario() -> None:
        await world.load(ARCHIVE)
        whole = world.files()
        world.images.layers.new_folder()
        world.images.blobs.writer().write(b"half")
        unreferenced = world.images.blobs.add(b"stored, but its rows were never written")
        world.db.close()
        world.start()
        await world.images.open()
        await world.images.collect()
        assert not world.images.blobs.exists(unreferenced)
        assert world.files() == whole
        assert len(world.images.layer_paths(world.images.resolve("app:1"))) == 2
        await world.images.close()

    run(world, scenario())


def test_layers_are_marked_once_they_are_on_disk(world: World) -> None:
    async def scenario() -> None:
        await world.load(ARCHIVE)
        await world.images.settled()
        assert world.images.store.unsynced() == []

    run(world, scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder])
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path) -> None:
    world = World(small_disk)

    async def scenario() -> None:
        large = Tar().file("large", os.urandom(20 << 20)).content()
        before = os.statvfs(small_disk).f_bfree
        with pytest.raises(SystemFailure, match="no space left on device"):
            await world.load(docker_archive(config_of([large]), [large], ["large:1"]))
        await world.images.collect()
        assert world.files() == set()
        assert os.statvfs(small_disk).f_bfree > before - 100
        (image,) = await world.load(ARCHIVE)
        assert len(world.images.layer_paths(image)) == 2

    run(world, scenario())
    world.db.close()


def test_an_image_is_imported_from_a_url(world: World) -> None:
    async def create(request: web.Request) -> web.StreamResponse:
        return await import_image(world.images, request)

    async def serve(request: web.Request) -> web.Response:
        return (
            web.Response(body=gzip.compress(LOWER))
            if request.path == "/root.tar"
            else web.Response(status=404)
        )

    async def scenario() -> None:
        application = web.Application(middlewares=[errors_to_responses])
        application.router.add_post("/images/create", create)
        application.router.add_get("/{path}", serve)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            source = f"http://{host}:{port}/root.tar"
            async with session.post(
                "/images/create", params={"fromSrc": source, "repo": "x", "tag": "1"}
            ) as answer:
                lines = (await answer.text()).splitlines()
            image = world.images.resolve("x:1")
            assert json.loads(lines[-1]) == {"status": image.id}
            assert image.config.comment == f"Imported from {source}"
            for wrong in (f"http://{host}:{port}/none", "ftp://127.0.0.1/x", "http://127.0.0.1:1/x"):
                async with session.post("/images/create", params={"fromSrc": wrong}) as answer:
                    assert answer.status == 400
                    assert "cannot import from" in await answer.text()
        await runner.cleanup()

    run(world, scenario())


@web.middleware
async def errors_to_responses(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except SeomError as error:
        return web.Response(status=400, text=str(error))


def test_a_loading_client_sees_how_far_each_layer_is(world: World) -> None:
    async def scenario() -> None:
        large = Tar().file("large", os.urandom(9 << 20)).content()
        archive = docker_archive(config_of([large]), [large], ["large:1"])
        await world.images.load(pieces(archive, 1 << 20), world.lines.append)
        told = [line for line in world.lines if line.progress_detail]
        assert {line.status for line in told} == {"Loading layer"}
        last = told[-1].progress_detail
        assert last is not None
        assert (last.current, last.total) == (len(large), len(large))
        assert world.told == ["Loaded image: large:1"]

    run(world, scenario())
