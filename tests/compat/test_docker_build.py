"""`docker build` without BuildKit, as docker users and their scripts know it."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.building import ClassicBuilder, tar_of, write_context
from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient


@pytest.fixture
def build(docker: DockerCli, name: str) -> Iterator[ClassicBuilder]:
    """The builder; the image called like the test is removed after it, and those without a name."""
    yield ClassicBuilder(docker)
    docker("rmi", "--force", name)
    docker("image", "prune", "--force")


def run(docker: DockerCli, image: str, *command: str) -> str:
    return docker.out("run", "--rm", image, *command)


def test_a_dockerfile_becomes_an_image_that_runs(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox
        ARG WHO=world
        ENV GREETING="good day"
        WORKDIR /srv/app
        COPY a.txt dir /data/
        RUN echo "$GREETING $WHO" > out
        CMD cat /srv/app/out /data/a.txt /data/inner
        """,
        {"a.txt": "a\n", "dir/inner": "inner\n"},
    )
    output = build.succeed(context, "-t", name, "--build-arg", "WHO=you")
    assert "Step 1/7 : FROM busybox" in output
    assert "Successfully built " in output
    assert f"Successfully tagged {name}:latest" in output
    assert run(docker, name) == "good day you\na\ninner"


def test_every_instruction_for_the_configuration_is_kept(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox
        LABEL one=1 two="2 3"
        EXPOSE 80 53/udp 7000-7001
        VOLUME /data
        USER 1000:1000
        SHELL ["/bin/ash", "-c"]
        STOPSIGNAL SIGINT
        HEALTHCHECK --interval=5s CMD true
        ENTRYPOINT ["echo"]
        CMD ["hello"]
        ONBUILD RUN echo trigger
        MAINTAINER somebody
        """,
    )
    build.succeed(context, "-t", name, "--label", "three=4")
    found = docker.inspect(name, "image")
    config = found["Config"]
    assert config["Labels"] == {"one": "1", "two": "2 3", "three": "4"}
    assert sorted(config["ExposedPorts"]) == ["53/udp", "7000/tcp", "7001/tcp", "80/tcp"]
    assert list(config["Volumes"]) == ["/data"]
    assert (config["User"], config["StopSignal"]) == ("1000:1000", "SIGINT")
    assert config["Shell"] == ["/bin/ash", "-c"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert (config["Entrypoint"], config["Cmd"]) == (["echo"], ["hello"])
    assert config["OnBuild"] == ["RUN echo trigger"]
    assert found["Author"] == "somebody"


def test_a_failing_command_is_told_in_dockers_words_with_its_code(
    build: ClassicBuilder, tmp_path: Path
) -> None:
    done = build(write_context(tmp_path, "FROM busybox\nRUN echo before; exit 3\n"))
    assert done.returncode == 3
    assert "before" in done.stdout
    assert "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3" in done.stderr
    assert "   2 | >>> RUN echo before; exit 3" in done.stdout


def test_a_mistake_is_shown_with_its_line(build: ClassicBuilder, tmp_path: Path) -> None:
    done = build(write_context(tmp_path, "FROM busybox\nCOPPY a b\n"))
    assert done.returncode == 1
    assert "unknown instruction: COPPY" in done.stderr
    assert "   2 | >>> COPPY a b" in done.stderr


def test_a_file_that_is_not_in_the_context_is_named(build: ClassicBuilder, tmp_path: Path) -> None:
    done = build(write_context(tmp_path, "FROM busybox\nCOPY missing /\n"))
    assert done.returncode == 1
    assert "COPY failed: file not found in build context or excluded by .dockerignore" in done.stderr


def test_an_unchanged_build_comes_from_the_cache_and_is_the_same_image(
    build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    dockerfile = f"FROM busybox\nLABEL test={name}\nCOPY a /a\nRUN echo built > /b\n"
    context = write_context(tmp_path, dockerfile, {"a": "1"})
    first = build.succeed(context, "-t", name)
    assert "Using cache" not in first
    (context / "a").touch()
    second = build.succeed(context, "-t", name)
    assert second.count("Using cache") == 3
    assert first.splitlines()[-2] == second.splitlines()[-2]
    (context / "a").write_text("2")
    third = build.succeed(context, "-t", name)
    assert third.count("Using cache") == 1
    fourth = build.succeed(context, "-t", name, "--no-cache")
    assert "Using cache" not in fourth


def test_stages_that_nobody_needs_are_not_built(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox AS broken
        RUN exit 1
        FROM busybox AS first
        RUN echo 1 > /one
        FROM busybox AS second
        RUN echo 2 > /two
        FROM scratch AS result
        COPY --from=first /one /
        COPY --from=1 /one /numbered
        COPY --from=second /two /
        COPY --from=busybox /bin /bin
        FROM result
        CMD ["cat", "/one", "/two", "/numbered"]
        """,
    )
    build.succeed(context, "-t", name)
    assert run(docker, name) == "1\n2\n1"
    output = build.succeed(context, "-t", name, "--target", "second")
    assert "Step 2/2" in output
    assert run(docker, name, "cat", "/two") == "2"


def test_copy_follows_dockers_rules_for_paths(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox
        RUN mkdir -p /real/inner && ln -s /real /link && ln -s ../../../../escape /dangling
        WORKDIR /work
        COPY a.txt .
        COPY a.txt renamed
        COPY *.txt /many/
        COPY a.txt /link/inner/
        COPY a.txt /dangling/
        COPY folder new/folder
        COPY --chown=daemon:2000 --chmod=640 a.txt /owned
        COPY --chmod=u=rwX,go=rX folder /modes
        COPY --exclude=*.txt folder /some
        COPY --parents folder/sub/deep.txt /whole/
        COPY <<EOF /document
        hello $USER_NAME
        EOF
        """.replace("        EOF", "EOF").replace("        hello", "hello"),
        {"a.txt": "a", "b.txt": "b", "folder/x.txt": "x", "folder/y": "y", "folder/sub/deep.txt": "d"},
    )
    build.succeed(context, "-t", name)
    script = (
        "cat /work/a.txt /work/renamed /many/b.txt /real/inner/a.txt /escape/a.txt /work/new/folder/y;"
        "stat -c ' %a %u:%g' /owned /modes/x.txt /modes/sub; find /some /whole -type f | sort; cat /document"
    )
    assert run(docker, name, "sh", "-c", script).splitlines() == [
        "aabaay 640 1:2000",
        " 644 0:0",
        " 755 0:0",
        "/some/sub/deep.txt",
        "/some/y",
        "/whole/folder/sub/deep.txt",
        "hello ",
    ]


def test_nothing_outside_the_context_can_be_copied(build: ClassicBuilder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nCOPY link /got\nCOPY ../secret /\n")
    (tmp_path / "secret").write_text("secret")
    (context / "link").symlink_to("../../../../../../../../etc/hostname")
    assert build(context).returncode == 1


def test_add_unpacks_local_archives(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    archive = tar_of({"folder/file": "content"})
    files: dict[str, str | bytes] = {"a.tar": archive, "b.tar.gz": gzip.compress(archive), "plain": "plain"}
    dockerfile = "FROM busybox\nADD a.tar /a\nADD b.tar.gz plain /b/\nADD --unpack=false a.tar /kept\n"
    build.succeed(write_context(tmp_path, dockerfile, files), "-t", name)
    assert run(docker, name, "cat", "/a/folder/file", "/b/folder/file", "/b/plain") == "contentcontentplain"
    assert run(docker, name, "stat", "-c", "%s", "/kept") == str(len(archive))


def test_add_fetches_urls_and_checks_their_digest(
    daemon: PrivateDaemon, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file.txt").write_text("fetched")
    with serve(daemon, tmp_path / "served") as url:
        digest = hashlib.sha256(b"fetched").hexdigest()
        context = write_context(
            tmp_path / "good",
            f"FROM busybox\nADD --checksum=sha256:{digest} {url}/file.txt /a/\nADD {url}/file.txt /b\n",
        )
        build.succeed(context, "-t", name)
        bad = write_context(
            tmp_path / "bad", f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {url}/file.txt /a\n"
        )
        assert "digest mismatch" in build(bad).stderr
        missing = write_context(tmp_path / "missing", f"FROM busybox\nADD {url}/nothing /a\n")
        assert "answers 404" in build(missing).stderr
    shown = run(daemon.docker, name, "sh", "-c", "cat /a/file.txt /b; stat -c ' %a' /b")
    assert shown == "fetchedfetched 600"


def test_add_takes_a_commit_of_a_git_repository(
    daemon: PrivateDaemon,
    build: ClassicBuilder,
    tmp_path: Path,
    name: str,
    needs_program: Callable[[str], str],
) -> None:
    repository = tmp_path / "served/repo.git"
    repository.mkdir(parents=True)

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example")
        subprocess.run([needs_program("git"), "-C", repository, *identity, *arguments], check=True)

    git("init", "--quiet", "--initial-branch=main")
    (repository / "sub").mkdir()
    (repository / "sub/file").write_text("committed")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    git("update-server-info")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    with serve_git(daemon, tmp_path / "served") as url:
        dockerfile = f"FROM busybox\nADD {url}/repo.git /whole\nADD {url}/repo.git#main:sub /part\n"
        build.succeed(write_context(tmp_path / "context", dockerfile), "-t", name)
        missing = write_context(tmp_path / "missing", f"FROM busybox\nADD {url}/none.git /x\n")
        assert "ADD failed: git fetch" in build(missing).stderr
    assert run(daemon.docker, name, "cat", "/whole/sub/file", "/part/file") == "committedcommitted"
    assert run(daemon.docker, name, "ls", "-A", "/whole") == "sub"


@contextmanager
def serve_git(daemon: PrivateDaemon, folder: Path) -> Iterator[str]:
    """git's own server beside the daemon; yields its address once it accepts."""
    arguments = ["--export-all", f"--base-path={folder}", "--listen=127.0.0.1", "--port=9418"]
    process = daemon.network.popen(
        ["git", "daemon", "--verbose", "--log-destination=stderr", *arguments, folder],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        assert b"Ready to rumble" in process.stderr.readline()
        yield "git://127.0.0.1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@contextmanager
def serve(daemon: PrivateDaemon, folder: Path) -> Iterator[str]:
    """A web server beside the daemon; yields its address."""
    program = (
        "import http.server as h, functools, sys; "
        "s = h.ThreadingHTTPServer(('127.0.0.1', 0), "
        "functools.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1])); "
        "print(s.server_port, flush=True); s.serve_forever()"
    )
    process = daemon.network.popen(
        [sys.executable, "-c", program, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_run_mounts_are_there_for_the_command_and_leave_no_trace(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        f"""
        FROM busybox AS other
        RUN echo other > /from-other
        FROM busybox
        RUN --mount=type=cache,id={name},target=/cache echo kept >> /cache/file
        RUN --mount=type=cache,id={name},target=/cache cp /cache/file /copied
        RUN --mount=target=/context --mount=from=other,target=/other cat /context/a /other/from-other > /both
        RUN --mount=type=tmpfs,target=/memory echo x > /memory/x
        RUN --network=none ! ip route | grep .
        RUN <<EOF
echo heredoc > /here
echo second >> /here
EOF
        RUN <<EOF
#!/bin/cat
a script
EOF
        """,
        {"a": "a\n"},
    )
    output = build.succeed(context, "-t", name)
    assert "a script" in output
    assert run(docker, name, "cat", "/copied", "/both", "/here") == "kept\na\nother\nheredoc\nsecond"
    assert run(docker, name, "sh", "-c", "ls -d /cache /context /other /memory 2>/dev/null | wc -l") == "0"


def test_triggers_run_in_the_image_built_on_top(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    build.succeed(write_context(tmp_path / "a", "FROM busybox\nONBUILD COPY f /triggered\n"), "-t", name)
    top = write_context(tmp_path / "b", f"FROM {name}\n", {"f": "yes"})
    build.succeed(top, "-t", f"{name}:top")
    assert run(docker, f"{name}:top", "cat", "/triggered") == "yes"
    assert docker.inspect(f"{name}:top", "image")["Config"].get("OnBuild") is None
    docker("rmi", f"{name}:top")


def test_a_quiet_build_prints_the_id_and_iidfile_holds_it(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(tmp_path / "context", f"FROM busybox\nLABEL a={name}\n")
    printed = build.succeed(context, "-q", "-t", name).strip()
    assert printed == docker.inspect(name, "image")["Id"]
    build.succeed(context, "--iidfile", str(tmp_path / "id"))
    assert (tmp_path / "id").read_text() == printed


def test_source_date_epoch_gives_the_same_image_byte_for_byte(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path, "FROM busybox\nCOPY a /a/b\nRUN date > /dev/null; echo x > /x\n", {"a": "1"}
    )
    arguments = ("--no-cache", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", name)
    first = build.succeed(context, *arguments)
    (context / "a").touch()
    assert build.succeed(context, *arguments) == first
    assert docker.inspect(name, "image")["Created"].startswith("2023-11-14T22:13:20")


def test_pruning_the_cache_gives_its_bytes_back(
    docker: DockerCli, build: ClassicBuilder, api: ApiClient, tmp_path: Path, name: str
) -> None:
    def mine() -> list[dict[str, Any]]:
        return [
            record
            for record in api.get("/system/df", type="build-cache")["BuildCache"]
            if name in record["Description"]
        ]

    build.succeed(
        write_context(tmp_path, f"FROM busybox\nRUN head -c 5000 /dev/zero > /{name}\n"), "-t", name
    )
    assert [record["Size"] for record in mine()] == [5000]
    assert mine()[0]["Shared"]
    docker.out("rmi", name)
    assert not mine()[0]["Shared"]
    docker.out("builder", "prune", "--force")
    assert mine() == []


def test_squash_leaves_one_layer_and_the_same_files(
    docker: DockerCli, build: ClassicBuilder, api: ApiClient, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox
        RUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two && ln /d/two /d/linked
        RUN rm /d/one /bin/vi && rm -r /home && mkdir /home && echo new > /home/new
        RUN rm -r /d && echo file > /d && ln -s /d /link
        """,
    )
    build.succeed(context, "-t", name)
    script = "ls -l /d /home /link | cut -c1-10; cat /d /link /home/new; ls /bin | wc -l"
    expected = run(docker, name, "sh", "-c", script)
    layers = len(docker.inspect("busybox", "image")["RootFS"]["Layers"])
    archive = tar_of({"Dockerfile": (context / "Dockerfile").read_text()})
    headers = {"Content-Type": "application/x-tar"}
    answer = api.request("POST", "/build", archive, query={"t": name, "squash": "1"}, headers=headers)
    assert b"Successfully built" in answer.body, answer.body
    assert len(docker.inspect(name, "image")["RootFS"]["Layers"]) == layers + 1
    assert run(docker, name, "sh", "-c", script) == expected


def test_buildkit_clients_are_told_what_to_do(api: ApiClient) -> None:
    answer = api.request("POST", "/session")
    assert answer.status == 501
    assert b"DOCKER_BUILDKIT=0" in answer.body
