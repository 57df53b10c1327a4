"""docker cp, diff and export in their details; see test_docker_images.py for the usual ways."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient


@pytest.fixture(params=["created", "running", "exited"])
def container(request: pytest.FixtureRequest, docker: DockerCli, name: str) -> str:
    """A container with a volume on /data, in each state; its files have been there from the start."""
    command = ["sleep", "1000"] if request.param == "running" else ["true"]
    docker.out("create", "--name", name, "-v", "/data", "busybox", *command)
    if request.param == "running":
        docker.out("start", name)
    if request.param == "exited":
        docker.out("start", "-a", name)
    return name


def put(api: ApiClient, container: str, path: str, archive: bytes, **query: str) -> tuple[int, str]:
    headers = {"Content-Type": "application/x-tar"}
    answer = api.request(
        "PUT", f"/containers/{container}/archive", archive, query={"path": path, **query}, headers=headers
    )
    return answer.status, answer.message if answer.status != 200 else ""


def archive_of(name: str, content: bytes | None, uid: int = 0) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.uid = info.gid = uid
        if content is None:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        else:
            info.size = len(content)
        tar.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def test_a_tree_goes_in_and_comes_back_the_same(docker: DockerCli, container: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/script").write_text("#!/bin/sh\n")
    (tree / "sub/script").chmod(0o755)
    (tree / "link").symlink_to("sub/script")
    (tree / "empty").mkdir()
    (tree / "big").write_bytes(os.urandom(3_000_000))
    docker.out("cp", tree, f"{container}:/srv")
    docker.out("cp", f"{container}:/srv", tmp_path / "back")
    subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "back"], check=True)
    assert os.stat(tmp_path / "back/sub/script").st_mode & 0o777 == 0o755


def test_volumes_take_part(docker: DockerCli, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the volume")
    docker.out("cp", tmp_path / "file", f"{container}:/data/")
    docker.out("cp", f"{container}:/data/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "in the volume"
    source = docker.inspect(container)["Mounts"][0]["Source"]
    assert os.listdir(source) == ["file"]


def test_files_go_by_name_into_a_file_or_a_directory(
    docker: DockerCli, container: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("1")
    docker.out("cp", tmp_path / "file", f"{container}:/renamed")
    docker.out("cp", tmp_path / "file", f"{container}:/home")
    for path in ("/renamed", "/home/file"):
        docker.out("cp", f"{container}:{path}", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "1"


def test_standard_output_gets_a_tar(docker: DockerCli, container: str) -> None:
    raw = subprocess.run(
        docker.command("cp", f"{container}:/var/www", "-"),
        env=docker.environment,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(raw.stdout)) as tar:
        assert tar.getnames() == ["www", "www/index.html"]
    docker_in = subprocess.run(
        docker.command("cp", "-", f"{container}:/home"),
        env=docker.environment,
        input=raw.stdout,
        capture_output=True,
    )
    assert docker_in.returncode == 0, docker_in.stderr
    docker.out("cp", f"{container}:/home/www/index.html", "-")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("{c}:/nope", "/tmp", "Could not find the file /nope in container {c}"),
        ("/etc/hostname", "{c}:/nope/x", "Could not find the file /nope in container {c}"),
        ("/etc/hostname", "{c}:/nope/", "no such directory"),
        ("/etc", "{c}:/etc/passwd", "cannot copy directory"),
    ],
)
def test_wrong_paths_are_refused(
    docker: DockerCli, container: str, source: str, target: str, message: str
) -> None:
    done = docker("cp", source.format(c=container), target.format(c=container))
    assert done.returncode == 1
    assert message.format(c=container) in done.stderr


@pytest.mark.parametrize(
    ("path", "base", "kind"),
    [
        ("/etc", "etc", 1 << 31),
        ("/etc/", "etc", 1 << 31),
        ("/etc/.", ".", 1 << 31),
        ("/", "/", 1 << 31),
        ("/tmp", "tmp", 1 << 31 | 1 << 20),
        ("/etc/passwd", "passwd", 0),
        ("/bin/sh", "sh", 1 << 27),
    ],
)
def test_the_header_describes_the_path(
    api: ApiClient, container: str, path: str, base: str, kind: int
) -> None:
    answer = api.request("HEAD", f"/containers/{container}/archive", query={"path": path})
    assert answer.status == 200
    found = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    assert found["name"] == base
    assert found["mode"] & ~0o777 == kind
    assert found["linkTarget"] == ("/bin/busybox" if base == "sh" else "")
    assert found["mtime"].endswith("Z")


def test_a_path_is_needed_and_must_exist(api: ApiClient, container: str) -> None:
    assert api.request("GET", f"/containers/{container}/archive").status == 400
    answer = api.request("GET", f"/containers/{container}/archive", query={"path": "/nope"})
    assert (answer.status, answer.message) == (404, f"Could not find the file /nope in container {container}")


def test_put_wants_an_existing_directory(api: ApiClient, container: str) -> None:
    archive = archive_of("x", b"x")
    assert put(api, container, "/etc/passwd", archive) == (400, "extraction point is not a directory")
    assert put(api, container, "/nope", archive)[0] == 404
    assert put(api, container, "/", b"no archive" * 200)[0] in (400, 500)


def test_put_keeps_kinds_when_asked(api: ApiClient, container: str) -> None:
    status, message = put(api, container, "/", archive_of("etc", b"x"), noOverwriteDirNonDir="1")
    assert status in (400, 500)
    assert message.startswith("cannot overwrite directory")
    status, message = put(api, container, "/etc", archive_of("passwd", None), noOverwriteDirNonDir="true")
    assert status in (400, 500)
    assert message.startswith("cannot overwrite non-directory")


def test_read_only_places_stay_as_they_are(docker: DockerCli, name: str, tmp_path: Path) -> None:
    docker.out("create", "--name", name, "--read-only", "-v", f"{tmp_path}:/data:ro", "busybox")
    for path, what in (("/etc/", "container rootfs"), ("/data/", "mounted volume")):
        done = docker("cp", "/etc/hostname", f"{name}:{path}")
        assert f"{what} is marked read-only" in done.stderr
    assert os.listdir(tmp_path) == []


def test_owners_are_kept_or_become_the_containers_user(api: ApiClient, docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-u", "daemon", "busybox", "sleep", "1000")
    assert put(api, name, "/tmp", archive_of("kept", b"", uid=42))[0] == 200
    assert put(api, name, "/tmp", archive_of("given", b"", uid=42), copyUIDGID="true")[0] == 200
    owners = docker.out("exec", name, "stat", "-c", "%n %u:%g", "/tmp/kept", "/tmp/given")
    assert owners.splitlines() == ["/tmp/kept 42:42", "/tmp/given 1:1"]


def test_diff_of_an_untouched_container_is_empty(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "busybox", "true")
    assert docker.out("diff", name) == ""


def test_diff_shows_replaced_directories_and_mount_points(docker: DockerCli, name: str) -> None:
    script = "rm -rf /home; mkdir /home; touch /home/x; chmod 700 /var; mkdir -p /new/a; rm /etc/group"
    docker.out("run", "--name", name, "-v", "/vol/here", "busybox", "sh", "-c", script)
    assert sorted(docker.out("diff", name).splitlines(), key=lambda line: line[2:]) == [
        "C /etc",
        "D /etc/group",
        "C /home",
        "A /home/x",
        "A /new",
        "A /new/a",
        "C /var",
        "A /vol",
        "A /vol/here",
    ]


def test_export_has_the_changes_but_no_volumes(docker: DockerCli, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    docker.out("cp", tmp_path / "file", f"{container}:/data/")
    docker.out("cp", tmp_path / "file", f"{container}:/added")
    docker.out("export", "-o", tmp_path / "all.tar", container)
    with tarfile.open(tmp_path / "all.tar") as tar:
        names = set(tar.getnames())
    assert {"added", "etc/passwd", "bin/busybox"} <= names
    assert "data/file" not in names
