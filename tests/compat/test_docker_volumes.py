"""docker volume: create, ls, inspect, rm, prune, and how containers hold volumes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient
from tests.harness.images import busybox_layer, docker_archive


@pytest.fixture
def volume(docker: DockerCli, name: str) -> Iterator[str]:
    """A volume, removed afterwards with the containers that have it."""
    yield docker.out("volume", "create", "--label", f"test={name}", name)
    for container in docker.out("ps", "-aq", "--filter", f"volume={name}").split():
        docker("rm", "-fv", container)
    docker("volume", "rm", "-f", name)


def test_inspect_shows_what_create_was_told(docker: DockerCli, volume: str) -> None:
    found = docker.inspect(volume, "volume")
    assert (found["Name"], found["Driver"], found["Scope"]) == (volume, "local", "local")
    assert found["Labels"] == {"test": volume}
    assert found["Options"] is None
    assert found["Mountpoint"].endswith(f"/volumes/{volume}/_data")
    assert found["CreatedAt"].endswith("Z")


def test_create_is_idempotent_and_names_what_has_no_name(docker: DockerCli, volume: str) -> None:
    assert docker.out("volume", "create", volume) == volume
    anonymous = docker.out("volume", "create", "--label", f"test={volume}")
    assert len(anonymous) == 64
    assert docker.inspect(anonymous, "volume")["Labels"] == {
        "com.docker.volume.anonymous": "",
        "test": volume,
    }
    docker.out("volume", "rm", anonymous)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "create a: volume name is too short, names should be at least two alphanumeric characters"),
        (["x/y"], 'create x/y: "x/y" includes invalid characters for a local volume name'),
        (["-d", "ceph", "v-1"], 'error looking up volume plugin ceph: plugin "ceph" not found'),
        (["-o", "colour=red", "v-1"], 'create v-1: invalid option: "colour"'),
        (["-o", "type=tmpfs", "v-1"], 'create v-1: missing required option: "device"'),
    ],
)
def test_bad_volumes_are_refused(docker: DockerCli, arguments: list[str], message: str) -> None:
    done = docker("volume", "create", *arguments)
    assert done.returncode == 1
    assert f"Error response from daemon: {message}" in done.stderr or message in done.stderr


def test_what_is_not_there_is_named(docker: DockerCli, name: str) -> None:
    for verb in ("inspect", "rm"):
        done = docker("volume", verb, name)
        assert (done.returncode, f"get {name}: no such volume" in done.stderr) == (1, True)
    assert docker.out("volume", "rm", "-f", name) == name


def test_ls_filters(docker: DockerCli, volume: str, name: str) -> None:
    docker.out("create", "--name", name, "-v", f"{volume}:/data", "busybox")
    both = ["--filter", f"label=test={volume}"]
    assert docker.out("volume", "ls", "-q", *both) == volume
    assert docker.out("volume", "ls", "-q", "--filter", f"name={volume[2:]}") == volume
    assert docker.out("volume", "ls", "-q", *both, "--filter", "dangling=true") == ""
    assert docker.out("volume", "ls", "-q", *both, "--filter", "dangling=false") == volume
    assert docker.out("volume", "ls", "-q", *both, "--filter", "driver=local") == volume
    assert volume in docker.out("ps", "-a", "--filter", f"volume={volume}", "--format", "{{.Mounts}}")
    done = docker("volume", "ls", "--filter", "colour=red")
    assert "invalid filter 'colour'" in done.stderr


def test_a_volume_is_in_use_while_a_container_has_it(docker: DockerCli, volume: str, name: str) -> None:
    identity = docker.out("create", "--name", name, "-v", f"{volume}:/data", "busybox")
    done = docker("volume", "rm", volume)
    assert done.returncode == 1
    assert f"remove {volume}: volume is in use - [{identity}]" in done.stderr
    docker.out("rm", name)
    assert docker.out("volume", "rm", volume) == volume


def test_prune_takes_unused_anonymous_volumes_and_with_all_named_ones(
    docker: DockerCli, volume: str, name: str
) -> None:
    anonymous = docker.out("volume", "create", "--label", f"test={volume}")
    only = ["--filter", f"label=test={volume}"]
    assert anonymous in docker.out("volume", "prune", "-f", *only)
    assert docker.out("volume", "ls", "-q", *only) == volume
    docker.out("create", "--name", name, "-v", f"{volume}:/data", "busybox")
    assert volume not in docker.out("volume", "prune", "-af", *only)
    docker.out("rm", name)
    text = docker.out("volume", "prune", "-af", *only)
    assert volume in text
    assert "Total reclaimed space: 0B" in text


def test_old_clients_prune_every_unused_volume(docker: DockerCli, volume: str, api: ApiClient) -> None:
    query = f'filters={{"label":["test={volume}"]}}'
    assert api.post(f"/v1.51/volumes/prune?{query}").json()["VolumesDeleted"] in (None, [])
    assert api.post(f"/v1.41/volumes/prune?{query}").json()["VolumesDeleted"] == [volume]


def test_two_containers_share_a_volume_with_mount_options(docker: DockerCli, name: str) -> None:
    options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7"]
    docker.out("volume", "create", *options, name)
    assert docker.inspect(name, "volume")["Options"] == {
        "type": "tmpfs",
        "device": "tmpfs",
        "o": "size=1m,uid=7",
    }
    docker.out("run", "-d", "--name", name, "-v", f"{name}:/data", "busybox", "sleep", "1000")
    script = "touch /data/x; stat -c %u /data; grep ' /data ' /proc/mounts"
    shown = docker.out("run", "--rm", "-v", f"{name}:/data", "busybox", "sh", "-c", script)
    assert shown.startswith("7\ntmpfs /data tmpfs ")
    assert "size=1024k" in shown
    assert docker.out("exec", name, "ls", "/data") == "x"
    docker.out("rm", "-f", name)
    # The content went with the last container.
    assert docker.out("run", "--rm", "-v", f"{name}:/data", "busybox", "ls", "/data") == ""
    docker.out("volume", "rm", name)


def test_a_bind_volume_shows_its_device(docker: DockerCli, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    options = ["-o", "type=none", "-o", f"device={tmp_path}", "-o", "o=bind"]
    docker.out("volume", "create", *options, name)
    assert docker.out("run", "--rm", "-v", f"{name}:/d", "busybox", "cat", "/d/file") == "from the host"
    docker.out("volume", "rm", name)
    assert (tmp_path / "file").exists()


def test_a_volume_that_cannot_be_mounted_says_why(docker: DockerCli, name: str) -> None:
    options = ["-o", "type=none", "-o", "device=/does/not/exist", "-o", "o=bind"]
    docker.out("volume", "create", *options, name)
    done = docker("run", "--name", name, "-v", f"{name}:/d", "busybox", "true")
    assert "failed to mount local volume: mount" in done.stderr
    assert "no such file or directory" in done.stderr
    docker.out("rm", name)
    docker.out("volume", "rm", name)


def test_a_part_of_a_volume_is_mounted(docker: DockerCli, volume: str) -> None:
    docker.out("run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", "mkdir /v/sub; touch /v/sub/x")
    mount = f"type=volume,src={volume},dst=/d,volume-subpath="
    assert docker.out("run", "--rm", "--mount", f"{mount}sub", "busybox", "ls", "/d") == "x"
    missing = docker("run", "--rm", "--mount", f"{mount}nope", "busybox", "true")
    assert "cannot access path" in missing.stderr
    outside = docker("run", "--rm", "--mount", f"{mount}../x", "busybox", "true")
    assert "subpath must be a relative path within the volume" in outside.stderr


def test_a_volume_takes_owner_and_mode_of_the_images_directory(docker: DockerCli, volume: str) -> None:
    shown = docker.out("run", "--rm", "-v", f"{volume}:/tmp", "busybox", "stat", "-c", "%a %u", "/tmp")
    assert shown == "1777 0"


def test_the_images_volumes_are_made_filled_and_removed(docker: DockerCli, name: str, tmp_path: Path) -> None:
    volumes: dict[str, object] = {"/var/www": {}, "/var/new/": {}}
    (tmp_path / "image.tar").write_bytes(docker_archive([busybox_layer()], [f"{name}:1"], Volumes=volumes))
    docker.out("load", "-i", tmp_path / "image.tar")
    try:
        before = set(docker.out("volume", "ls", "-q").split())
        docker.out("create", "--name", name, "-v", f"{tmp_path}:/var/new", f"{name}:1", "ls", "/var/www")
        mounts = {mount["Destination"]: mount["Type"] for mount in docker.inspect(name)["Mounts"]}
        assert mounts == {"/var/www": "volume", "/var/new": "bind"}
        assert docker.out("start", "-a", name) == "index.html"
        made = set(docker.out("volume", "ls", "-q").split()) - before
        assert len(made) == 1
        docker.out("rm", name)
        assert made <= set(docker.out("volume", "ls", "-q").split())
        docker.out("volume", "rm", *made)
        assert docker.out("run", "--rm", f"{name}:1", "ls", "/var/www") == "index.html"
        assert set(docker.out("volume", "ls", "-q").split()) == before
    finally:
        docker.out("rmi", f"{name}:1")


def test_mounts_are_listed_as_docker_lists_them(docker: DockerCli, volume: str, name: str) -> None:
    docker.out(
        *("create", "--name", name, "-v", f"{volume}:/a", "-v", "/b", "-v", "/tmp:/c:ro,rslave"),
        *("--tmpfs", "/d", "--mount", f"type=volume,src={volume},dst=/e,readonly", "busybox"),
    )
    mounts = {mount["Destination"]: mount for mount in docker.inspect(name)["Mounts"]}
    assert sorted(mounts) == ["/a", "/b", "/c", "/e"]
    source = docker.inspect(volume, "volume")["Mountpoint"]
    assert mounts["/a"] == {
        "Type": "volume",
        "Name": volume,
        "Source": source,
        "Destination": "/a",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    assert (mounts["/b"]["Mode"], len(mounts["/b"]["Name"])) == ("", 64)
    assert mounts["/c"] == {
        "Type": "bind",
        "Source": "/tmp",
        "Destination": "/c",
        "Mode": "ro,rslave",
        "RW": False,
        "Propagation": "rslave",
    }
    assert mounts["/e"]["RW"] is False


def test_volume_events_are_published(docker: DockerCli, volume: str, api: ApiClient) -> None:
    docker.out("run", "--rm", "-v", f"{volume}:/data", "busybox", "true")
    docker.out("volume", "rm", volume)
    docker.out("volume", "create", volume)
    lines = docker.out(
        *("events", "--since", "0", "--until", f"{time.time():.6f}", "--filter", "type=volume"),
        *("--filter", f"volume={volume}", "--format", "json"),
    )
    events = [json.loads(line) for line in lines.splitlines()]
    assert [event["Action"] for event in events] == ["create", "mount", "unmount", "destroy", "create"]
    mount = events[1]["Actor"]["Attributes"]
    assert (mount["destination"], mount["driver"], mount["read/write"]) == ("/data", "local", "true")
