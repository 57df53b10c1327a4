"""seom build: what goes to the daemon, what is shown, and what is left after crashes."""

from __future__ import annotations

import select
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.building import ClassicBuilder, tar_of, write_context
from tests.harness.daemon import PrivateDaemon
from tests.harness.seom_cli import SeomCli


@pytest.fixture
def seom(daemon: PrivateDaemon, tmp_path: Path, name: str) -> Iterator[SeomCli]:
    seom = SeomCli(daemon.socket, tmp_path / "config")
    yield seom
    seom("rmi", "-f", name)
    seom("image", "prune", "-f")


def test_ignored_files_stay_at_home(seom: SeomCli, tmp_path: Path, name: str) -> None:
    files = {
        ".dockerignore": "*.log\nbig\n!big/kept\nDockerfile\n",
        "a.txt": "a",
        "x.log": "x",
        "big/kept": "k",
        "big/other": "o",
    }
    context = write_context(tmp_path / "context", "FROM busybox\nCOPY . /all\n", files)
    seom.out("build", "-t", name, "--progress", "plain", context)
    found = seom.out("run", "--rm", name, "sh", "-c", "cd /all; find . -type f | sort")
    assert found.splitlines() == ["./.dockerignore", "./a.txt", "./big/kept"]


def test_options_reach_the_build(seom: SeomCli, tmp_path: Path, name: str) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN exit 1\n")
    (tmp_path / "Other").write_text(
        "FROM busybox AS one\nARG A\nRUN echo $A > /a\nCMD cat /a\nFROM one\nRUN exit 1\n"
    )
    arguments = ("--build-arg", "A=b", "--target", "one", "--label", "l=m", "--iidfile", tmp_path / "id")
    printed = seom.out("build", "-q", "-f", tmp_path / "Other", "-t", name, *arguments, context)
    assert printed == (tmp_path / "id").read_text() == seom.inspect(name, "image")["Id"]
    assert seom.inspect(name, "image")["Config"]["Labels"] == {"l": "m"}
    assert seom.out("run", "--rm", name) == "b"


def test_the_context_and_the_dockerfile_may_come_on_stdin(seom: SeomCli, tmp_path: Path, name: str) -> None:
    seom.out("build", "-q", "-t", name, "-", input=f"FROM busybox\nCMD echo {name}\n")
    assert seom.out("run", "--rm", name) == name
    archive = tmp_path / "context.tar"
    archive.write_bytes(tar_of({"Dockerfile": "FROM busybox\nCOPY a /\nCMD cat /a\n", "a": "from a tar"}))
    with archive.open("rb") as stream:
        assert seom.popen("build", "-q", "-t", name, "-", stdin=stream).wait(60) == 0
    assert seom.out("run", "--rm", name) == "from a tar"
    context = write_context(tmp_path / "context", "FROM busybox\nRUN exit 1\n", {"f": "f"})
    seom.out("build", "-q", "-t", name, "-f", "-", context, input="FROM busybox\nCOPY . /all\nCMD ls /all\n")
    assert seom.out("run", "--rm", name) == "Dockerfile\nf"


def test_the_result_may_be_a_folder_or_an_archive(seom: SeomCli, tmp_path: Path, name: str) -> None:
    dockerfile = f"FROM scratch\nCOPY a /dir/{name}\nCOPY link /dir/\n"
    context = write_context(tmp_path / "context", dockerfile, {"a": "content"})
    (context / "link").symlink_to("a")
    seom.out("build", "-t", name, "-o", tmp_path / "folder", context)
    assert (tmp_path / f"folder/dir/{name}").read_text() == "content"
    seom.out("build", "-o", f"type=tar,dest={tmp_path / 'x.tar'}", context)
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert f"dir/{name}" in archive.getnames()
    docker_archive = tmp_path / "docker.tar"
    seom.out("build", "-t", name, "-o", f"type=docker,dest={docker_archive}", context)
    assert f"Loaded image: {name}:latest" in seom.out("load", "-i", docker_archive)
    assert "type must be one of" in seom("build", "-o", "type=zip", context).stderr


def test_a_failing_command_gives_its_code(seom: SeomCli, tmp_path: Path) -> None:
    done = seom("build", "-q", write_context(tmp_path / "context", "FROM busybox\nRUN echo why; exit 4\n"))
    assert done.returncode == 4
    assert "why" in done.stdout
    assert "returned a non-zero code: 4" in done.stderr


def test_a_terminal_shows_one_line_a_step(seom: SeomCli, tmp_path: Path, name: str) -> None:
    context = write_context(tmp_path / "context", f"FROM busybox\nRUN echo a line of {name}\n")
    terminal = seom.terminal("build", "-t", name, context)
    terminal.expect("[2/2] RUN echo")
    terminal.expect(f"| a line of {name}")
    terminal.expect("Successfully tagged")
    assert terminal.process.wait(30) == 0
    again = seom.terminal("build", context)
    again.expect("cached")
    assert again.process.wait(30) == 0


def test_builder_prune_and_df_tell_of_the_cache(own_daemon: PrivateDaemon, tmp_path: Path) -> None:
    seom = SeomCli(own_daemon.socket, tmp_path / "config")
    context = write_context(tmp_path / "context", "FROM busybox\nRUN head -c 70000 /dev/zero > /file\n")
    seom.out("build", "-t", "made", context)
    seom.out("rmi", "made")
    assert "70kB" in seom.out("system", "df")
    assert seom.out("builder", "prune", "-f").endswith("Total reclaimed space: 70kB")
    assert "70kB" not in seom.out("system", "df")


def test_a_daemon_killed_in_a_build_leaves_nothing_and_keeps_the_cache(
    own_daemon: PrivateDaemon, tmp_path: Path
) -> None:
    context = write_context(
        tmp_path / "context",
        "FROM busybox\nRUN echo first > /first\nRUN echo begun; sleep 1000\n",
    )
    own_daemon.docker.out("run", "--rm", "busybox", "true")  # makes the parent cgroups
    before = own_daemon.leftovers()
    builder = ClassicBuilder(own_daemon.docker)
    process = own_daemon.docker.popen("build", context)
    assert process.stdout is not None
    seen = b""
    while b"begun\n" not in seen:
        assert select.select([process.stdout], [], [], 30)[0]
        seen += process.stdout.read1()  # type: ignore[attr-defined]
    own_daemon.kill9()
    process.wait(30)
    own_daemon.start()
    assert not own_daemon.wait_for_leftovers(before, processes=False)
    assert list((own_daemon.data_root / "builds").iterdir()) == []
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo first > /first\n")
    assert builder.succeed(context).count("Using cache") == 1


def test_a_client_that_goes_away_ends_its_build(own_daemon: PrivateDaemon, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo begun; sleep 1000\n")
    own_daemon.docker.out("run", "--rm", "busybox", "true")  # makes the parent cgroups
    before = own_daemon.leftovers()
    process = own_daemon.docker.popen("build", context)
    assert process.stdout is not None
    seen = b""
    while b"begun\n" not in seen:
        assert select.select([process.stdout], [], [], 30)[0]
        seen += process.stdout.read1()  # type: ignore[attr-defined]
    process.kill()
    process.wait(30)
    assert not own_daemon.wait_for_leftovers(before, processes=False)
