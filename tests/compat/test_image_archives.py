"""Archives that go between Seom (or Docker), skopeo and podman."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli
from tests.harness.images import docker_archive
from tests.kernel.tars import Tar

skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
podman = pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")


def run(*arguments: object) -> str:
    done = subprocess.run([str(each) for each in arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def image(docker: DockerCli, name: str, tmp_path: Path) -> Iterator[str]:
    """An image of two layers with a whiteout, loaded; its names are removed afterwards."""
    lower = Tar().folder("d").file("d/gone", b"1").file("d/stays", b"2").content()
    upper = Tar().folder("d").file("d/.wh.gone", b"").file("long/" * 30 + name, b"3").content()
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive([lower, upper], [f"{name}:1"], Cmd=["sh"]))
    docker.out("load", "-i", archive)
    yield f"{name}:1"
    for found in set(docker.out("images", "-q", name).split()):
        docker("rmi", "-f", found)


def identity(docker: DockerCli, image: str) -> str:
    return str(docker.inspect(image, "image")["Id"])


@skopeo
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_is_saved_and_its_copy_is_the_same_image(
    docker: DockerCli, image: str, tmp_path: Path, kind: str
) -> None:
    before = identity(docker, image)
    docker.out("save", "-o", tmp_path / "saved.tar", image)
    source = f"{kind}:{tmp_path}/saved.tar"
    run("skopeo", "copy", "--insecure-policy", source, f"docker-archive:{tmp_path}/copy.tar:{image}")
    docker.out("rmi", image)
    assert f"Loaded image: {image}" in docker.out("load", "-i", tmp_path / "copy.tar")
    assert identity(docker, image) == before


@skopeo
@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_an_oci_archive_of_skopeo_is_loaded(
    docker: DockerCli, image: str, tmp_path: Path, packed: str, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--against") == "docker":
        pytest.skip("docker's classic store loads only archives with a manifest.json")
    before = docker.inspect(image, "image")["RootFS"]
    docker.out("save", "-o", tmp_path / "saved.tar", image)
    run(
        *("skopeo", "copy", "--insecure-policy", "--dest-compress-format", packed),
        *(f"docker-archive:{tmp_path}/saved.tar", f"oci:{tmp_path}/layout:docker.io/library/{image}"),
    )
    run("tar", "-C", tmp_path / "layout", "-cf", tmp_path / "oci.tar", ".")
    docker.out("rmi", image)
    assert f"Loaded image: {image}" in docker.out("load", "-i", tmp_path / "oci.tar")
    assert docker.inspect(image, "image")["RootFS"] == before


@podman
def test_podman_loads_what_is_saved_and_saves_what_is_loaded(
    docker: DockerCli, image: str, tmp_path: Path
) -> None:
    before = identity(docker, image)
    docker.out("save", "-o", tmp_path / "saved.tar", image)
    with tempfile.TemporaryDirectory() as short:  # podman's limit for its run directory is 50 characters
        own = ("--root", tmp_path / "root", "--runroot", short, "--storage-driver", "vfs")
        run("podman", *own, "load", "-i", tmp_path / "saved.tar")
        run("podman", *own, "save", "--format", "docker-archive", "-o", tmp_path / "again.tar", image)
    docker.out("rmi", "-f", before)
    assert "Loaded image: " in docker.out("load", "-i", tmp_path / "again.tar")
    name = docker.out("load", "-i", tmp_path / "again.tar").partition("image: ")[2]
    assert identity(docker, name) == before
    docker.out("rmi", name)


def test_an_image_is_the_same_after_every_way_round(docker: DockerCli, image: str, tmp_path: Path) -> None:
    docker.out("tag", image, f"{image}-also")
    before = identity(docker, image)
    for packed in ("cat", "gzip", "xz", "zstd", "bzip2"):
        docker.out("save", "-o", tmp_path / "saved.tar", image, f"{image}-also", before)
        with (tmp_path / "packed").open("wb") as output:
            subprocess.run([packed], stdin=(tmp_path / "saved.tar").open("rb"), stdout=output, check=True)
        docker.out("rmi", image, f"{image}-also")
        said = docker.out("load", "-i", tmp_path / "packed")
        assert {f"Loaded image: {image}", f"Loaded image: {image}-also"} <= set(said.splitlines())
        assert identity(docker, image) == before
