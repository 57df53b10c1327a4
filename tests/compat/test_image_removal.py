"""docker rmi and image prune beside containers that use the images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli
from tests.harness.images import busybox_layer, docker_archive
from tests.kernel.tars import Tar


@pytest.fixture
def image(docker: DockerCli, name: str, tmp_path: Path) -> Iterator[str]:
    """busybox with a layer of the test's own."""
    archive = tmp_path / "image.tar"
    own = Tar().file(name, b"own\n").content()
    archive.write_bytes(docker_archive([busybox_layer(), own], [f"{name}:1"], Cmd=["cat", f"/{name}"]))
    docker.out("load", "-i", archive)
    identity = docker.inspect(f"{name}:1", "image")["Id"]
    yield f"{name}:1"
    docker("rmi", "-f", identity)


def test_a_stopped_container_outlives_its_image(docker: DockerCli, name: str, image: str) -> None:
    identity = docker.inspect(image, "image")["Id"]
    docker.out("create", "--name", name, image)
    removed = docker.out("rmi", "-f", image).splitlines()
    assert removed[:2] == [f"Untagged: {image}", f"Deleted: {identity}"]
    assert docker("image", "inspect", identity).returncode == 1
    assert docker.out("start", "-a", name) == "own"
    docker.out("rm", name)


def test_a_running_container_keeps_its_image(docker: DockerCli, name: str, image: str) -> None:
    identity = docker.inspect(image, "image")["Id"]
    docker.out("run", "-d", "--name", name, image, "sleep", "1000")
    refused = docker("rmi", identity, "-f")
    assert "(cannot be forced) - image is being used by running container" in refused.stderr
    assert docker.out("rmi", "-f", image) == f"Untagged: {image}"
    assert docker.out("images", "-q", "--no-trunc", "--filter", "dangling=true") == identity
    assert identity not in docker.out("image", "prune", "-f")
    docker.out("rm", "-f", name)
    assert identity in docker.out("image", "prune", "-f")


def test_parents_without_a_name_go_with_the_last_child(docker: DockerCli, name: str, image: str) -> None:
    parent = docker.inspect(image, "image")["Id"]
    docker.out("run", "--name", f"{name}-made", image, "touch", "/x")
    child = docker.out("commit", f"{name}-made", f"{name}-child:1")
    docker.out("rm", f"{name}-made")
    assert "image has dependent child images" in docker("rmi", "-f", parent).stderr
    assert docker.out("rmi", image) == f"Untagged: {image}"
    removed = docker.out("rmi", f"{name}-child:1").splitlines()
    assert [line for line in removed if child in line or parent in line] == [
        f"Deleted: {child}",
        f"Deleted: {parent}",
    ]


def test_an_id_with_several_names_needs_force(docker: DockerCli, name: str, image: str) -> None:
    docker.out("tag", image, f"other.example/{name}:2")
    identity = docker.inspect(image, "image")["Id"]
    refused = docker("rmi", identity)
    assert "(must be forced) - image is referenced in multiple repositories" in refused.stderr
    removed = docker.out("rmi", "-f", identity).splitlines()
    assert set(removed[:2]) == {f"Untagged: {image}", f"Untagged: other.example/{name}:2"}
