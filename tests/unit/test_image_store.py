from pathlib import Path

import pytest

from seom.errors import NotFound
from seom.images.store import Image, ImageStore, NewImage
from seom.oci.descriptor import digest_of
from seom.oci.image_config import ExecutionConfig, ImageConfig, RootFs, encode_image_config
from seom.oci.manifest import OCI_LAYER_GZIP
from seom.oci.reference import parse_reference
from seom.storage.blobs import BlobStore
from seom.storage.database import Database
from seom.storage.layers import Layer, LayerStore


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Database(tmp_path / "seom.db"), LayerStore(tmp_path, BlobStore(tmp_path)))


def layer(number: int) -> Layer:
    return Layer(f"sha256:{number:064x}", 100 * number, 0, f"sha256:{number + 1000:064x}", 10, OCI_LAYER_GZIP)


def new_image(number: int, *layers: Layer, parent: str = "") -> NewImage:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created=f"2024-01-01T00:00:{number:02}.000000001Z",
        config=ExecutionConfig(env=[f"NUMBER={number}"]),
        rootfs=RootFs(diff_ids=[layer.diff_id for layer in layers]),
    )
    content = encode_image_config(config)
    return NewImage(digest_of(content), content, layers, parent=parent)


def add(store: ImageStore, number: int, name: str, *layers: Layer) -> Image:
    return store.add(new_image(number, *layers), [parse_reference(name)])


def test_an_image_is_found_by_each_of_its_names(store: ImageStore) -> None:
    image = add(store, 1, "debian:latest", layer(1), layer(2))
    digest = parse_reference(f"debian@sha256:{7:064x}")
    store.set_digest(digest, image.id)
    for name in (
        "debian",
        "debian:latest",
        "docker.io/library/debian",
        digest.familiar,
        image.id,
        image.id[7:],
        image.id[7:19],
        image.id[:19],
    ):
        assert store.resolve(name).id == image.id
    found = store.resolve("debian")
    assert found.repo_tags == ["debian:latest"]
    assert found.repo_digests == [digest.familiar]
    assert found.diff_ids == [layer(1).diff_id, layer(2).diff_id]
    assert found.size_bytes == 300
    assert found.config.execution.env == ["NUMBER=1"]


def test_an_unknown_image_is_named_as_docker_names_it(store: ImageStore) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nothing:latest$"):
        store.resolve("nothing")
    with pytest.raises(NotFound, match=f"^No such image: sha256:{5:064x}$"):
        store.resolve(f"sha256:{5:064x}")


def test_a_tag_moves_and_its_history_stays(store: ImageStore) -> None:
    first = add(store, 1, "app:1")
    second = add(store, 2, "app:1")
    assert store.resolve("app:1").id == second.id
    assert store.get(first.id).repo_tags == []
    history = store.tag_history(parse_reference("app:1"))
    assert [image_id for image_id, _ in history] == [first.id, second.id]


def test_layers_are_given_topmost_first_and_once(store: ImageStore) -> None:
    image = add(store, 1, "twice:1", layer(1), layer(2), layer(1), layer(3))
    names = [Path(path).parent.name for path in store.layer_paths(image)]
    assert names == [f"{number:064x}" for number in (3, 1, 2)]
    assert len(image.diff_ids) == 4


def test_an_ambiguous_beginning_of_an_id_is_refused(store: ImageStore) -> None:
    images = [add(store, number, f"i:{number}") for number in range(40)]
    first_digits = [image.id[7] for image in images]
    repeated = next(digit for digit in first_digits if first_digits.count(digit) > 1)
    with pytest.raises(NotFound, match="more than one image"):
        store.resolve(repeated)


def test_an_image_removed_by_force_still_serves_its_containers(store: ImageStore) -> None:
    image = add(store, 1, "app:1", layer(1))
    store.remove(image.id, keep_for_containers=True)
    with pytest.raises(NotFound):
        store.resolve(image.id)
    assert store.all() == []
    assert store.layer_paths(store.get(image.id)) != []
    assert store.hidden() == [image.id]
    add(store, 1, "app:2", layer(1))
    assert store.resolve(image.id).repo_tags == ["app:2"]


def test_removing_an_image_forgets_its_names(store: ImageStore) -> None:
    image = add(store, 1, "app:1", layer(1))
    store.remove(image.id)
    with pytest.raises(NotFound):
        store.get(image.id)
    assert store.find(parse_reference("app:1")) is None


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "yesterday", "", None])
def test_any_moment_of_creation_is_taken(store: ImageStore, created: str | None) -> None:
    content = encode_image_config(ImageConfig(created=created))
    image = store.add(NewImage(digest_of(content), content, []), [parse_reference("odd:1")])
    assert store.resolve("odd:1").created_ns == image.created_ns == 0
