"""docker logs: json-file, rotation, following, times."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.harness.docker_cli import DockerCli


def test_streams_are_kept_apart(docker: DockerCli, name: str) -> None:
    docker("run", "--name", name, "busybox", "sh", "-c", "echo out; echo err >&2")
    done = docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_the_file_has_docker_s_format(docker: DockerCli, name: str) -> None:
    docker("run", "--name", name, "busybox", "printf", 'one "quoted" \\t\\\\\\nlast without newline')
    lines = [json.loads(line) for line in Path(docker.inspect(name)["LogPath"]).read_text().splitlines()]
    assert [line["log"] for line in lines] == ['one "quoted" \t\\\n', "last without newline"]
    assert {line["stream"] for line in lines} == {"stdout"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["time"]) for line in lines)


def test_tail_and_timestamps(docker: DockerCli, name: str) -> None:
    docker("run", "--name", name, "busybox", "seq", "1", "20")
    assert docker.out("logs", "--tail", "3", name) == "18\n19\n20"
    assert docker.out("logs", "-n", "0", name) == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z 20", docker.out("logs", "-t", "--tail", "1", name))


def test_since_and_until(docker: DockerCli, name: str) -> None:
    docker("run", "--name", name, "busybox", "sh", "-c", "echo early; sleep 1.1; echo late")
    stamps = [line.split()[0] for line in docker.out("logs", "-t", name).splitlines()]
    assert docker.out("logs", "--since", stamps[1], name) == "late"
    assert docker.out("logs", "--until", stamps[0], name) == "early"
    assert docker.out("logs", "--since", "1h", name) == "early\nlate"


def test_follow_shows_what_comes_and_ends_with_the_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "-i", "busybox", "sh", "-c", "echo first; read line; echo second")
    client = docker.popen("logs", "-f", name)
    assert client.stdout is not None
    assert client.stdout.readline() == b"first\n"
    feeder = docker.popen("attach", "--no-stdin=false", name)
    feeder.communicate(b"go\n", timeout=20)
    assert client.stdout.read() == b"second\n"
    assert client.wait(20) == 0


def test_rotation_keeps_the_newest_files(docker: DockerCli, name: str) -> None:
    docker(
        *("run", "--name", name, "--log-opt", "max-size=4k", "--log-opt", "max-file=3"),
        *("busybox", "seq", "10000", "10999"),
    )
    path = Path(docker.inspect(name)["LogPath"])
    files = sorted(path.parent.glob(f"{path.name}*"))
    assert len(files) == 3
    assert all(file.stat().st_size < 6000 for file in files)
    lines = docker.out("logs", name).split()
    assert lines[-1] == "10999"
    assert lines == [str(number) for number in range(int(lines[0]), 11000)]
    assert len(lines) < 1000


def test_the_local_driver_keeps_logs_too(docker: DockerCli, name: str) -> None:
    docker("run", "--name", name, "--log-driver", "local", "busybox", "sh", "-c", "echo out; echo err >&2")
    done = docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_the_none_driver_keeps_nothing(docker: DockerCli, name: str) -> None:
    done = docker("run", "--name", name, "--log-driver", "none", "busybox", "echo", "seen once")
    assert done.stdout == "seen once\n"
    refused = docker("logs", name)
    assert refused.returncode == 1
    assert "configured logging driver does not support reading" in refused.stderr


def test_an_unknown_driver_or_option_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--log-driver", "nonsense", "busybox", "true")
    assert done.returncode == 125
    assert "nonsense" in done.stderr
    done = docker("run", "--rm", "--log-opt", "nonsense=1", "busybox", "true")
    assert done.returncode == 125
    assert "unknown log opt 'nonsense' for json-file log driver" in done.stderr


def test_a_terminal_s_output_is_logged_as_one_stream(docker: DockerCli, name: str) -> None:
    docker("run", "-t", "--name", name, "busybox", "sh", "-c", "echo out; echo err >&2")
    done = docker("logs", name)
    assert done.stdout.replace("\r\n", "\n") == "out\nerr\n"


def test_long_lines_are_whole(docker: DockerCli, name: str) -> None:
    docker(
        "run", "--name", name, "busybox", "sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x; echo; echo end"
    )
    assert docker.out("logs", name) == "x" * 50000 + "\nend"


def test_much_output_arrives_whole(docker: DockerCli, name: str) -> None:
    done = docker("run", "--name", name, "busybox", "seq", "1", "200000")
    expected = "".join(f"{number}\n" for number in range(1, 200001))
    assert done.stdout == expected
    assert docker("logs", name).stdout == expected
