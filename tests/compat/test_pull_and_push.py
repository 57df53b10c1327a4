"""Pull and push against Debian's docker-registry, on stores of the test's own, with broken connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import zstandard

from seom.errors import InvalidParameter, NotFound, SeomError, SystemFailure
from seom.images.endpoint import RegistrySettings
from seom.images.progress import Message, encode
from seom.images.pull import Puller
from seom.images.push import Pusher
from seom.images.registry_errors import ConnectionFailed
from seom.images.store import ImageStore
from seom.oci.descriptor import parse_platform
from seom.oci.manifest import (
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)
from seom.oci.reference import Reference, parse_reference
from seom.storage.blobs import BlobStore
from seom.storage.database import Database
from seom.storage.layers import LayerStore
from seom.storage.leases import Leases
from tests.harness.fault_proxy import Damage, FaultProxy
from tests.harness.published import digest, make_layer, publish, publish_index
from tests.harness.registry import Registry

T = TypeVar("T")


class Stores:
    """The stores of one daemon, without the daemon."""

    def __init__(self, data_root: Path) -> None:
        data_root.mkdir()
        self.database = Database(data_root / "seom.db")
        self.blobs = BlobStore(data_root)
        self.layers = LayerStore(data_root, self.blobs)
        self.leases = Leases()
        self.images = ImageStore(self.database, self.layers)
        self.lines: list[dict[str, Any]] = []

    def report(self, message: Message) -> None:
        self.lines.append(json.loads(encode(message)))

    def run(self, work: Callable[[Puller, Pusher], Awaitable[T]]) -> T:
        """Work with a puller and a pusher; the lines they report replace the earlier ones."""
        settings = RegistrySettings(certificate_folders=(), retry_delay_s=0.01)
        self.lines = []

        async def inside() -> T:
            puller = Puller(self.images, self.blobs, self.layers, self.leases, settings)
            try:
                return await work(puller, Pusher(self.images, self.blobs, self.leases, settings))
            finally:
                puller.close()

        return asyncio.run(inside())

    def pull(self, name: str, platform: str = "") -> str:
        """Pull and return the image's id."""
        wanted = parse_platform(platform) if platform else None
        return self.run(lambda pull, push: pull.pull(parse_reference(name), self.report, wanted)).image.id

    def push(self, name: str) -> str:
        """Push and return the manifest's digest."""
        reference = parse_reference(name).with_default_tag()
        return self.run(lambda pull, push: push.push(reference, self.report)).digest

    def statuses(self, id: str = "") -> list[str]:
        """What was reported, of one row or without a row, repetitions left out."""
        lines = [line["status"] for line in self.lines if line.get("id", "") == id and "status" in line]
        return [line for index, line in enumerate(lines) if index == 0 or lines[index - 1] != line]

    def files(self) -> list[str]:
        """What lies in the stores, finished or not."""
        found = [str(path) for path in (*self.blobs.root.rglob("*"), *self.layers.root.glob("ingest/*"))]
        return sorted(path for path in found if os.path.isfile(path) or "/ingest/" in path)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    with FaultProxy(registry.port) as running:
        yield running


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path / "here")


@pytest.fixture
def other(tmp_path: Path) -> Stores:
    return Stores(tmp_path / "there")


def test_a_pull_brings_the_image_and_tells_each_step(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "plain/pull", "v1", [make_layer("a"), make_layer("b")])
    assert stores.pull(image.name) == image.id
    found = stores.images.resolve(image.name)
    assert found.config_bytes == image.config
    assert found.repo_tags == [image.name]
    assert found.repo_digests == [f"{registry.host}/plain/pull@{image.digest}"]
    assert (stores.layers.path(digest(image.layers[0])) / "a.bin").stat().st_size == 200_000
    assert stores.lines[0] == {"status": "Pulling from plain/pull", "id": "v1"}
    assert stores.statuses() == [
        f"Digest: {image.digest}",
        f"Status: Downloaded newer image for {image.name}",
    ]
    for number in range(2):
        steps = [each for each in stores.statuses(image.row(number)) if each != "Downloading"]
        assert steps == [
            "Pulling fs layer",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]


def test_a_second_pull_fetches_nothing_but_the_manifest(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "second/pull", "v1", [make_layer("second")])
    stores.pull(image.name)
    stores.pull(image.name)
    assert [line["status"] for line in stores.lines] == [
        "Pulling from second/pull",
        f"Digest: {image.digest}",
        f"Status: Image is up to date for {image.name}",
    ]


def test_a_layer_that_another_image_brought_is_not_fetched_again(registry: Registry, stores: Stores) -> None:
    base = make_layer("base")
    stores.pull(publish(registry, "shared/one", "v1", [base]).name)
    image = publish(registry, "shared/two", "v1", [base, make_layer("top")])
    stores.pull(image.name)
    assert stores.statuses(image.row(0)) == ["Already exists"]
    assert stores.statuses(image.row(1))[-1] == "Pull complete"


def test_a_moved_tag_names_the_newer_image(registry: Registry, stores: Stores) -> None:
    first = publish(registry, "moved/tag", "v1", [make_layer("old")])
    stores.pull(first.name)
    second = publish(registry, "moved/tag", "v1", [make_layer("new")])
    assert stores.pull(second.name) == second.id
    assert stores.statuses()[-1] == f"Status: Downloaded newer image for {second.name}"
    assert stores.images.resolve(first.id).repo_tags == []


def test_a_digest_names_exactly_one_image_and_no_tag(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "by/digest", "v1", [make_layer("digest")])
    name = f"{registry.host}/by/digest@{image.digest}"
    assert stores.pull(name) == image.id
    found = stores.images.resolve(name)
    assert (found.repo_tags, found.repo_digests) == ([], [name])
    assert stores.lines[0] == {"status": "Pulling from by/digest", "id": name}


@pytest.mark.parametrize(
    ("pack", "layer_type"),
    [
        (lambda layer: layer, OCI_LAYER),
        (lambda layer: gzip.compress(layer, 9, mtime=0), OCI_LAYER_GZIP),
        (lambda layer: zstandard.ZstdCompressor().compress(layer), OCI_LAYER_ZSTD),
    ],
    ids=["plain", "gzip", "zstd"],
)
def test_every_packing_of_layers_is_understood_and_pushed_on_unchanged(
    registry: Registry, stores: Stores, pack: Callable[[bytes], bytes], layer_type: str
) -> None:
    layer = make_layer(layer_type[-5:])
    name = f"packing/{len(layer_type)}"
    image = publish(registry, name, "v1", [layer], pack=pack, layer_type=layer_type)
    stores.pull(image.name)
    target = parse_reference(f"{registry.host}/copied/{name}:v2")
    stores.images.tag(target, image.id)
    assert stores.push(str(target)) == image.digest


def test_dockers_media_types_are_understood(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "docker/types", "v1", [make_layer("docker")], docker=True)
    assert stores.pull(image.name) == image.id


def test_an_index_is_resolved_to_the_wanted_platform(registry: Registry, stores: Stores) -> None:
    images = {
        platform: publish(
            registry, "many/platforms", platform[6:], [make_layer(platform[6:])], architecture=platform[6:]
        )
        for platform in ("linux/amd64", "linux/arm64")
    }
    index = publish_index(registry, "many/platforms", "v1", images)
    name = f"{registry.host}/many/platforms:v1"
    for platform, image in images.items():
        assert stores.pull(name, platform) == image.id
        assert stores.statuses()[0] == f"Digest: {digest(index)}"
    with pytest.raises(
        NotFound, match=r"^no matching manifest for linux/s390x in the manifest list entries$"
    ):
        stores.pull(name, "linux/s390x")


def test_an_image_of_another_platform_comes_with_a_warning(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "other/platform", "v1", [make_layer("other")])
    stores.pull(image.name, "linux/arm64")
    assert stores.statuses()[-1] == (
        f"WARNING: image with reference {image.name} was found but its platform (linux/amd64) does "
        "not match the specified platform (linux/arm64)"
    )


def test_all_tags_of_a_repository_are_pulled(registry: Registry, stores: Stores) -> None:
    names = [publish(registry, "all/tags", tag, [make_layer(tag)]).name for tag in ("a", "b", "c")]
    repository = parse_reference(f"{registry.host}/all/tags")
    stores.run(lambda pull, push: pull.pull_all_tags(repository, stores.report))
    assert stores.statuses()[-1] == f"Status: Downloaded newer image for {repository.familiar}"
    assert all(stores.images.find(parse_reference(name)) for name in names)


def test_what_does_not_exist_is_reported_with_dockers_words_before_any_line(
    registry: Registry, stores: Stores
) -> None:
    name = f"{registry.host}/no/such:v1"
    with pytest.raises(
        NotFound, match=f"^manifest for {name} not found: manifest unknown: manifest unknown$"
    ):
        stores.pull(name)
    assert stores.lines == []


@pytest.mark.parametrize("cuts", [[0], [70_000], [1000, 90_000, 30_000]])
def test_a_broken_download_goes_on_where_it_broke(
    registry: Registry, proxy: FaultProxy, stores: Stores, cuts: list[int]
) -> None:
    image = publish(registry, f"broken/download{len(cuts)}{cuts[0]}", "v1", [make_layer("broken", 900_000)])
    path = f"/blobs/{digest(image.packed[0])}"
    for bytes_before_the_cut in cuts:
        proxy.plan(path, Damage.CUT, bytes_before_the_cut)
    stores.pull(image.name.replace(registry.host, proxy.host))
    assert proxy.count(path) == len(cuts) + 1
    if cuts[-1]:
        assert proxy.count("Range: bytes=") >= 1
    assert stores.images.resolve(image.id).layers[0].blob == digest(image.packed[0])


def test_a_broken_answer_to_a_small_request_is_asked_for_again(
    registry: Registry, proxy: FaultProxy, stores: Stores
) -> None:
    image = publish(registry, "broken/answer", "v1", [make_layer("answer", 1000)])
    proxy.plan("/manifests/v1", Damage.CUT, 500)
    proxy.plan(f"/blobs/{image.id}", Damage.CUT, 400)
    assert stores.pull(image.name.replace(registry.host, proxy.host)) == image.id


def test_a_registry_that_stays_broken_ends_the_pull_with_nothing_stored(
    registry: Registry, proxy: FaultProxy, stores: Stores
) -> None:
    image = publish(registry, "stays/broken", "v1", [make_layer("stays", 500_000), make_layer("well")])
    path = f"/blobs/{digest(image.packed[0])}"
    for _ in range(30):
        proxy.plan(path, Damage.CUT, 0)
    name = image.name.replace(registry.host, proxy.host)
    with pytest.raises(ConnectionFailed, match="Get"):
        stores.pull(name)
    assert 5 <= proxy.count(path) <= 10
    proxy.faults.clear()
    assert stores.images.all() == []
    assert not [path for path in stores.files() if "/ingest/" in path]
    assert stores.leases.held() == set()
    assert stores.pull(name) == image.id


def test_a_wrong_byte_is_found_and_nothing_is_stored(
    registry: Registry, proxy: FaultProxy, stores: Stores
) -> None:
    image = publish(registry, "wrong/byte", "v1", [make_layer("wrong", 300_000)])
    proxy.plan(f"/blobs/{digest(image.packed[0])}", Damage.CORRUPT, 120_000)
    name = image.name.replace(registry.host, proxy.host)
    with pytest.raises(SeomError):
        stores.pull(name)
    assert stores.images.all() == []
    assert not stores.blobs.exists(digest(image.packed[0]))
    assert not stores.layers.exists(digest(image.layers[0]))
    assert not [path for path in stores.files() if "/ingest/" in path]
    assert stores.pull(name) == image.id


def test_a_configuration_that_promises_another_layer_is_refused(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "false/promise", "v1", [make_layer("x")], diff_ids=[digest(b"else")])
    with pytest.raises(InvalidParameter, match=f"expected {digest(b'else')}"):
        stores.pull(image.name)
    assert stores.images.all() == []


def test_a_blob_that_was_damaged_on_disk_is_fetched_again(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "damaged/blob", "v1", [make_layer("damaged")])
    stores.pull(image.name)
    path = stores.blobs.path(digest(image.packed[0]))
    path.write_bytes(b"rubbish")
    assert stores.pull(image.name) == image.id
    assert path.read_bytes() == image.packed[0]


def test_pulls_of_the_same_image_at_once_share_the_download(
    registry: Registry, proxy: FaultProxy, stores: Stores
) -> None:
    image = publish(registry, "at/once", "v1", [make_layer("once", 400_000), make_layer("twice", 400_000)])
    reference = parse_reference(image.name.replace(registry.host, proxy.host))

    async def pull_thrice(puller: Puller, pusher: Pusher) -> None:
        await asyncio.gather(*(puller.pull(reference, stores.report) for _ in range(3)))

    stores.run(pull_thrice)
    for blob in image.packed:
        assert proxy.count(f"/blobs/{digest(blob)}") == 1
    assert stores.statuses().count(f"Digest: {image.digest}") >= 1
    assert sum(line.get("status") == "Pull complete" for line in stores.lines) == 6


def test_a_cancelled_pull_leaves_its_download_to_the_one_who_waits(
    registry: Registry, stores: Stores
) -> None:
    image = publish(registry, "cancelled/pull", "v1", [make_layer("cancelled", 3_000_000)])
    reference = parse_reference(image.name)

    async def cancel_the_first(puller: Puller, pusher: Pusher) -> str:
        downloading = asyncio.Event()

        def notice(message: Message) -> None:
            if message.status == "Downloading":
                downloading.set()

        first = asyncio.create_task(puller.pull(reference, notice))
        await downloading.wait()
        second = asyncio.create_task(puller.pull(reference, stores.report))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await second).image.id

    assert stores.run(cancel_the_first) == image.id


def test_a_push_sends_what_the_registry_lacks_and_tells_each_step(
    registry: Registry, stores: Stores, other: Stores
) -> None:
    image = publish(registry, "push/source", "v1", [make_layer("p1"), make_layer("p2")])
    stores.pull(image.name)
    with Registry(registry.directory / "push-target") as target:
        name = f"{target.host}/push/target:v9"
        stores.images.tag(parse_reference(name), image.id)
        assert stores.push(name) == image.digest
        assert stores.statuses()[0] == f"The push refers to repository [{target.host}/push/target]"
        assert stores.statuses()[-1] == f"v9: digest: {image.digest} size: {len(image.manifest)}"
        assert stores.lines[-1] == {
            "progressDetail": {},
            "aux": {"Tag": "v9", "Digest": image.digest, "Size": len(image.manifest)},
        }
        row = digest(image.layers[0])[7:19]
        steps = stores.statuses(row)
        assert (steps[0], steps[-1]) == ("Preparing", "Pushed")
        stores.push(name)
        assert stores.statuses(row) == ["Preparing", "Layer already exists"]
        assert other.pull(name) == image.id


def test_a_blob_of_a_sister_repository_is_mounted(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "mount/source", "v1", [make_layer("mounted")])
    stores.pull(image.name)
    name = f"{registry.host}/mount/target:v1"
    stores.images.tag(parse_reference(name), image.id)
    stores.push(name)
    assert stores.statuses(digest(image.layers[0])[7:19])[-1] == "Mounted from mount/source"


@pytest.mark.parametrize(
    "request_line", ["POST /v2/", "PATCH /v2/", "PUT /v2/broken/upload/blobs/", "PUT /v2/broken/upload/manif"]
)
def test_a_broken_upload_is_repeated(
    registry: Registry, proxy: FaultProxy, stores: Stores, request_line: str
) -> None:
    image = publish(registry, "upload/source", "v1", [make_layer("upload", 700_000)])
    stores.pull(image.name)
    with (
        Registry(registry.directory / f"broken-{len(request_line)}") as target,
        FaultProxy(target.port) as way,
    ):
        way.plan(request_line, Damage.REFUSE)
        name = f"{way.host}/broken/upload:v1"
        stores.images.tag(parse_reference(name), image.id)
        assert stores.push(name) == image.digest
        status, _, content = target.request("GET", f"/v2/broken/upload/blobs/{digest(image.packed[0])}")
        assert (status, content) == (200, image.packed[0])


def test_a_tag_that_is_not_here_cannot_be_pushed(registry: Registry, stores: Stores) -> None:
    name = f"{registry.host}/not/here"
    with pytest.raises(NotFound, match=f"^An image does not exist locally with the tag: {name}$"):
        stores.push(f"{name}:v1")
    image = publish(registry, "not/here", "v2", [make_layer("here")])
    stores.pull(image.name)
    with pytest.raises(NotFound, match=f"^tag does not exist: {name}:v1$"):
        stores.push(f"{name}:v1")


def test_a_stored_blob_that_is_cut_off_is_not_pushed(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "cut/off", "v1", [make_layer("cutoff")])
    stores.pull(image.name)
    path = stores.blobs.path(digest(image.packed[0]))
    path.write_bytes(image.packed[0][:1000])
    with Registry(registry.directory / "cut-off") as target:
        name = f"{target.host}/cut/off:v1"
        stores.images.tag(parse_reference(name), image.id)
        with pytest.raises(SystemFailure, match="pull or load the image again"):
            stores.push(name)
    assert stores.pull(image.name) == image.id


def test_a_stored_blob_with_a_wrong_byte_is_not_pushed_and_healed_by_a_pull(
    registry: Registry, stores: Stores
) -> None:
    image = publish(registry, "wrong/store", "v1", [make_layer("wrongstore")])
    stores.pull(image.name)
    path = stores.blobs.path(digest(image.packed[0]))
    path.write_bytes(image.packed[0][:-1] + b"?")
    with Registry(registry.directory / "wrong-store") as target:
        name = f"{target.host}/wrong/store:v1"
        stores.images.tag(parse_reference(name), image.id)
        with pytest.raises(SystemFailure, match="is damaged; pull or load the image again"):
            stores.push(name)
    assert stores.pull(image.name) == image.id
    assert path.read_bytes() == image.packed[0]


def test_every_tag_of_a_repository_is_pushed(registry: Registry, stores: Stores) -> None:
    image = publish(registry, "every/tag", "one", [make_layer("every")])
    stores.pull(image.name)
    repository = Reference(registry.host, "every/copy")
    for tag in ("x", "y"):
        stores.images.tag(repository.with_tag(tag), image.id)
    pushed = stores.run(lambda pull, push: push.push_all_tags(repository, stores.report))
    assert [each.tag for each in pushed] == ["x", "y"]
