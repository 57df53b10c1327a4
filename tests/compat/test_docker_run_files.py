"""docker run: bind mounts, volumes, tmpfs and a read-only root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli


def test_a_bind_mount_shows_and_changes_the_host_s_files(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    text = docker.out(
        "run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "cat /data/in; echo x > /data/out"
    )
    assert text == "from the host"
    assert (tmp_path / "out").read_text() == "x\n"


def test_a_read_only_bind_mount_refuses_writes(docker: DockerCli, tmp_path: Path) -> None:
    done = docker("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/x")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_a_single_file_can_be_mounted(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("one file\n")
    assert (
        docker.out("run", "--rm", "-v", f"{tmp_path}/motd:/etc/motd", "busybox", "cat", "/etc/motd")
        == "one file"
    )


def test_dash_v_makes_a_missing_source_directory(docker: DockerCli, tmp_path: Path) -> None:
    docker.out("run", "--rm", "-v", f"{tmp_path}/new/dir:/data", "busybox", "touch", "/data/x")
    assert (tmp_path / "new/dir/x").exists()


def test_mount_refuses_a_missing_source_directory(docker: DockerCli, tmp_path: Path) -> None:
    done = docker("run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/data", "busybox", "true")
    assert done.returncode == 125
    assert f"bind source path does not exist: {tmp_path}/no" in done.stderr


def test_a_named_volume_outlives_its_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "--rm", "-v", f"{name}:/data", "busybox", "sh", "-c", "echo kept > /data/file")
    try:
        assert docker.out("run", "--rm", "-v", f"{name}:/other:ro", "busybox", "cat", "/other/file") == "kept"
    finally:
        docker.out("volume", "rm", name)


def test_an_empty_volume_is_filled_from_the_image(docker: DockerCli, name: str) -> None:
    try:
        text = docker.out("run", "--rm", "-v", f"{name}:/var/www", "busybox", "cat", "/var/www/index.html")
        assert text == "hello from the island"
    finally:
        docker.out("volume", "rm", name)


def test_nocopy_leaves_a_volume_empty(docker: DockerCli, name: str) -> None:
    try:
        assert docker.out("run", "--rm", "-v", f"{name}:/var/www:nocopy", "busybox", "ls", "/var/www") == ""
    finally:
        docker.out("volume", "rm", name)


def test_mount_makes_a_volume_and_mounts_it_read_only(docker: DockerCli, name: str) -> None:
    try:
        done = docker(
            *("run", "--rm", "--mount", f"type=volume,source={name},target=/data,readonly", "busybox"),
            *("touch", "/data/x"),
        )
        assert "Read-only file system" in done.stderr
        assert name in docker.out("volume", "ls", "-q").split()
    finally:
        docker.out("volume", "rm", name)


def test_a_volume_in_use_cannot_be_removed(docker: DockerCli, name: str) -> None:
    identity = docker.out("create", "-v", f"{name}:/data", "busybox")
    done = docker("volume", "rm", name)
    assert done.returncode == 1
    assert f"volume is in use - [{identity}]" in done.stderr
    docker.out("rm", identity)
    docker.out("volume", "rm", name)


def test_tmpfs_is_empty_limited_and_not_kept(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--tmpfs", "/scratch:size=1m,mode=1770", "busybox", "sh", "-c"),
        "cd /scratch; grep ' /scratch ' /proc/mounts; stat -c %a .; head -c 2m /dev/zero > x; stat -c %s x",
    )
    assert "tmpfs /scratch tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k" in text
    assert text.splitlines()[1:] == ["1770", "1048576"]


def test_mount_of_type_tmpfs(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--mount", "type=tmpfs,dst=/scratch,tmpfs-size=65536,tmpfs-mode=0700", "busybox"),
        *("sh", "-c", "df -k /scratch | tail -1; stat -c %a /scratch"),
    )
    assert " 64 " in text
    assert text.endswith("700")


def test_a_read_only_root_allows_writes_only_on_mounts(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--read-only", "--tmpfs", "/run", "-v", "/data", "busybox", "sh", "-c"),
        "touch /x 2>&1; touch /run/x /data/x /dev/shm/x && echo fine",
    )
    assert text == "touch: /x: Read-only file system\nfine"


def test_volumes_from_another_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "-v", "/data", "busybox", "sh", "-c", "echo shared > /data/file")
    assert docker.out("run", "--rm", "--volumes-from", name, "busybox", "cat", "/data/file") == "shared"
    done = docker("run", "--rm", "--volumes-from", f"{name}:ro", "busybox", "touch", "/data/x")
    assert "Read-only file system" in done.stderr


def test_rm_with_v_removes_anonymous_volumes_and_keeps_named_ones(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "-v", "/anonymous", "-v", f"{name}:/named", "busybox")
    mounts = {each["Destination"]: each["Name"] for each in docker.inspect(name)["Mounts"]}
    docker.out("rm", "-v", name)
    left = docker.out("volume", "ls", "-q").split()
    assert mounts["/anonymous"] not in left
    assert mounts["/named"] in left
    docker.out("volume", "rm", name)


def test_mounts_are_reported_by_inspect(docker: DockerCli, name: str, tmp_path: Path) -> None:
    docker.out("create", "--name", name, "-v", f"{tmp_path}:/bind:ro", "--tmpfs", "/t", "busybox")
    bind = next(each for each in docker.inspect(name)["Mounts"] if each["Destination"] == "/bind")
    expected = {"Type": "bind", "Source": str(tmp_path), "Destination": "/bind", "Mode": "ro", "RW": False}
    assert expected.items() <= bind.items()
    assert docker.inspect(name)["HostConfig"]["Tmpfs"] == {"/t": ""}


def test_later_mounts_lie_inside_earlier_ones(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").write_text("inner\n")
    text = docker.out(
        *("run", "--rm", "-v", f"{tmp_path}/inner:/a/b", "-v", f"{tmp_path}/outer:/a"),
        *("busybox", "cat", "/a/b/file"),
    )
    assert text == "inner"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("relative/path:/data", "includes invalid characters for a local volume name"),
        ("/tmp:relative", "mount path must be absolute"),
        ("/tmp:/data:badmode", "invalid mode: badmode"),
        ("/tmp:/", "destination can't be '/'"),
    ],
)
def test_bad_volume_options_are_refused(docker: DockerCli, option: str, message: str) -> None:
    done = docker("run", "--rm", "-v", option, "busybox", "true")
    assert done.returncode == 125
    assert message in done.stderr


def test_the_shared_memory_has_the_size_asked_for(docker: DockerCli) -> None:
    assert " 65536 " in docker.out("run", "--rm", "busybox", "df", "-k", "/dev/shm")
    assert " 1024 " in docker.out("run", "--rm", "--shm-size", "1m", "busybox", "df", "-k", "/dev/shm")
