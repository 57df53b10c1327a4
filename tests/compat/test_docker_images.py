"""docker images, tag, rmi, history, save, load, import, commit, export, diff, cp: without a registry."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli
from tests.harness.images import add_file, busybox_layer, docker_archive


@pytest.fixture
def made(docker: DockerCli, name: str) -> Iterator[str]:
    """The name of an image that the test makes; it is removed afterwards."""
    yield name
    for image in docker.out("images", "-q", name).split():
        docker("rmi", "-f", image)


def test_images_lists_tags_ids_and_sizes(docker: DockerCli) -> None:
    row = docker.out("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}", "busybox")
    tag, identity, size = row.split()
    assert (tag, len(identity)) == ("busybox:latest", 12)
    assert size.endswith("MB")
    assert docker.inspect("busybox", "image")["Id"].removeprefix("sha256:").startswith(identity)


def test_image_inspect_has_the_members_that_tools_read(docker: DockerCli) -> None:
    found = docker.inspect("busybox", "image")
    assert found["RepoTags"] == ["busybox:latest"]
    assert found["Config"]["Cmd"] == ["sh"]
    assert (found["Os"], found["Architecture"]) == ("linux", "amd64")
    assert found["RootFS"]["Type"] == "layers"
    assert found["Size"] > 1_000_000


def test_tag_and_rmi(docker: DockerCli, name: str) -> None:
    docker.out("tag", "busybox", f"{name}:v1")
    docker.out("tag", "busybox", f"registry.example:5000/team/{name}:v2")
    assert docker.out("images", "-q", f"{name}:v1") == docker.out("images", "-q", "busybox")
    assert docker.out("rmi", f"{name}:v1") == f"Untagged: {name}:v1"
    docker.out("rmi", f"registry.example:5000/team/{name}:v2")
    assert docker("run", "--rm", "busybox", "true").returncode == 0


def test_an_image_in_use_is_not_removed(docker: DockerCli, name: str, made: str) -> None:
    docker.out("run", "--name", f"{name}-1", "busybox", "touch", "/x")
    docker.out("commit", f"{name}-1", made)
    docker.out("create", "--name", name, made)
    done = docker("rmi", made)
    assert done.returncode == 1
    assert "is using its referenced image" in done.stderr or "container" in done.stderr
    docker.out("rm", name)
    assert "Untagged" in docker.out("rmi", made)


def test_history_shows_the_layers(docker: DockerCli) -> None:
    assert "ADD layer" in docker.out("history", "--no-trunc", "busybox")


def test_commit_keeps_the_files_and_changes_the_configuration(
    docker: DockerCli, name: str, made: str
) -> None:
    docker.out("run", "--name", name, "busybox", "sh", "-c", "echo new > /file; rm /var/www/index.html")
    identity = docker.out(
        "commit", "-m", "message", "-a", "author", "-c", 'CMD ["cat", "/file"]', "-c", "ENV A=b", name, made
    )
    assert identity.startswith("sha256:")
    assert docker.out("run", "--rm", made) == "new"
    assert docker.out("run", "--rm", made, "sh", "-c", "echo $A; ls /var/www") == "b"
    found = docker.inspect(made, "image")
    assert (found["Comment"], found["Author"], len(found["RootFS"]["Layers"])) == ("message", "author", 2)


def test_diff_shows_added_changed_and_deleted(docker: DockerCli, name: str) -> None:
    docker.out(
        "run", "--name", name, "busybox", "sh", "-c", "touch /new; echo x >> /etc/group; rm -r /var/www"
    )
    assert set(docker.out("diff", name).splitlines()) == {
        "A /new",
        "C /etc",
        "C /etc/group",
        "C /var",
        "D /var/www",
    }


def test_save_and_load_keep_the_image(docker: DockerCli, name: str, made: str, tmp_path: Path) -> None:
    docker.out("run", "--name", name, "busybox", "sh", "-c", "echo saved > /file")
    docker.out("commit", name, f"{made}:tag")
    before = docker.inspect(f"{made}:tag", "image")["Id"]
    docker.out("save", "-o", tmp_path / "image.tar", f"{made}:tag")
    docker.out("rmi", f"{made}:tag")
    assert f"Loaded image: {made}:tag" in docker.out("load", "-i", tmp_path / "image.tar")
    assert docker.inspect(f"{made}:tag", "image")["Id"] == before
    assert docker.out("run", "--rm", f"{made}:tag", "cat", "/file") == "saved"


def test_a_saved_image_has_a_manifest_that_other_tools_read(docker: DockerCli, tmp_path: Path) -> None:
    docker.out("save", "-o", tmp_path / "image.tar", "busybox")
    with tarfile.open(tmp_path / "image.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        (manifest,) = json.load(member)
        names = set(archive.getnames())
    assert manifest["RepoTags"] == ["busybox:latest"]
    assert {manifest["Config"], *manifest["Layers"]} <= names


def test_import_makes_an_image_of_a_file_system(docker: DockerCli, made: str, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(busybox_layer())
    docker.out("import", "-m", "imported", "--change", "ENTRYPOINT echo", tmp_path / "root.tar", f"{made}:1")
    assert docker.out("run", "--rm", f"{made}:1").strip() == ""
    assert (
        docker.out("run", "--rm", "--entrypoint", "cat", f"{made}:1", "/var/www/index.html")
        == "hello from the island"
    )


def test_export_writes_the_whole_file_system(docker: DockerCli, name: str, tmp_path: Path) -> None:
    docker.out("run", "--name", name, "busybox", "sh", "-c", "echo x > /made")
    docker.out("export", "-o", tmp_path / "root.tar", name)
    with tarfile.open(tmp_path / "root.tar") as archive:
        names = {entry.strip("/") for entry in archive.getnames()}
    assert {"made", "bin/busybox", "etc/passwd", "var/www/index.html"} <= names


def test_upper_layers_hide_and_replace_lower_ones(docker: DockerCli, made: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, "var/www/.wh.index.html", b"")
        add_file(archive, "etc/group", b"replaced:x:0:\n")
    upper = stream.getvalue()
    (tmp_path / "image.tar").write_bytes(docker_archive([busybox_layer(), upper], [f"{made}:1"], Cmd=["sh"]))
    docker.out("load", "-i", tmp_path / "image.tar")
    assert (
        docker.out("run", "--rm", f"{made}:1", "sh", "-c", "ls -A /var/www; cat /etc/group")
        == "replaced:x:0:"
    )


def test_cp_goes_both_ways(docker: DockerCli, name: str, tmp_path: Path) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_text("in\n")
    docker.out("cp", tmp_path / "tree", f"{name}:/tmp")
    assert docker.out("exec", name, "cat", "/tmp/tree/deep/file") == "in"
    docker.out("cp", f"{name}:/var/www/index.html", tmp_path / "page")
    assert (tmp_path / "page").read_text() == "hello from the island\n"
    docker.out("cp", f"{name}:/tmp/tree/.", tmp_path / "back")
    assert (tmp_path / "back/deep/file").read_text() == "in\n"
    done = docker("cp", f"{name}:/no/such", tmp_path)
    assert done.returncode == 1
    assert "Could not find the file /no/such in container" in done.stderr


def test_cp_works_on_a_stopped_container(docker: DockerCli, name: str, tmp_path: Path) -> None:
    docker.out("create", "--name", name, "busybox", "cat", "/put")
    (tmp_path / "file").write_text("there\n")
    docker.out("cp", tmp_path / "file", f"{name}:/put")
    assert docker.out("start", "-a", name) == "there"


def test_cp_never_leaves_the_container(docker: DockerCli, name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    docker.out(
        "run",
        "-d",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        f"ln -s {outside} /escape; mkdir -p {outside}; sleep 1000",
    )
    (tmp_path / "file").write_text("x\n")
    docker.out("exec", name, "sh", "-c", "until test -L /escape; do :; done")
    docker("cp", tmp_path / "file", f"{name}:/escape/../../../../../../..{outside}/file")
    docker("cp", tmp_path / "file", f"{name}:/escape/file")
    assert list(outside.iterdir()) == []


def test_dangling_images_are_pruned(docker: DockerCli, name: str, made: str) -> None:
    for number in (1, 2):
        docker.out("run", "--name", f"{name}-{number}", "busybox", "sh", "-c", f"echo {number} > /file")
        docker.out("commit", f"{name}-{number}", made)
    dangling = docker.out("images", "-q", "--filter", "dangling=true", "--no-trunc").split()
    assert len(dangling) == 1
    assert dangling[0] in docker.out("image", "prune", "-f")
    assert docker.out("images", "-q", "--filter", "dangling=true") == ""


def test_an_unknown_image_is_named(docker: DockerCli) -> None:
    for command in (["rmi", "nobody-here"], ["tag", "nobody-here", "x"], ["history", "nobody-here"]):
        done = docker(*command)
        assert done.returncode == 1
        assert "No such image: nobody-here" in done.stderr
