"""docker run: resource limits hold, are reported, and can be updated."""

from __future__ import annotations

import os

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli

MIB = 1024 * 1024


def test_memory_beyond_the_limit_is_killed_and_recorded(docker: DockerCli, name: str) -> None:
    done = docker(
        *("run", "--name", name, "--memory", "16m", "--memory-swap", "16m", "busybox"),
        *("sh", "-c", "head -c 64m /dev/zero | tail -c 64m | wc -c; exit 137"),
    )
    assert done.returncode == 137
    assert docker.inspect(name)["State"]["OOMKilled"] is True


def test_memory_limits_are_stored_as_docker_does(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "--memory", "64m", "--memory-reservation", "32m", "busybox")
    host = docker.inspect(name)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (64 * MIB, 128 * MIB, 32 * MIB)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "1m"], "Minimum memory limit allowed is 6MB"),
        (
            ["--memory", "64m", "--memory-swap", "32m"],
            "Minimum memoryswap limit should be larger than memory limit",
        ),
        (["--memory-swap", "64m"], "You should always set the Memory limit when using Memoryswap limit"),
        (["--cpus", "1000"], "Range of CPUs is from 0.01 to"),
        (["--cpuset-cpus", "900"], "Requested CPUs are not available"),
        (["--cpu-shares", "-1"], "shares"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_impossible_limits_are_refused(docker: DockerCli, options: list[str], message: str) -> None:
    done = docker("run", "--rm", *options, "busybox", "true")
    assert done.returncode == 125
    assert message.lower() in done.stderr.lower()


def test_the_number_of_processes_is_limited(docker: DockerCli) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done"
    done = docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr


def test_a_container_reads_its_own_limits_and_no_other_container_s(docker: DockerCli) -> None:
    script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2> /dev/null; ls -d */*/ */"
    done = docker("run", "--rm", "--memory", "64m", "busybox", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[0] == str(64 * MIB)
    assert not [line for line in lines if line.count("/") > 1]


def test_the_processors_are_limited_to_a_set(docker: DockerCli) -> None:
    first = min(os.sched_getaffinity(0))
    text = docker.out(
        "run",
        "--rm",
        "--cpuset-cpus",
        str(first),
        "busybox",
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    )
    assert text.split()[1] == str(first)


def test_cpus_and_shares_are_stored(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "--cpus", "0.5", "--cpu-shares", "512", "busybox")
    host = docker.inspect(name)["HostConfig"]
    assert (host["NanoCpus"], host["CpuShares"]) == (500_000_000, 512)


def test_update_changes_a_running_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "--memory", "64m", "busybox", "sleep", "1000")
    assert docker.out("update", "--memory", "32m", "--memory-swap", "64m", "--pids-limit", "7", name) == name
    host = docker.inspect(name)["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (32 * MIB, 7)
    stats = docker.out("stats", "--no-stream", "--format", "{{.MemUsage}}", name)
    assert stats.endswith("/ 32MiB")


def test_update_changes_the_restart_policy(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    docker.out("update", "--restart", "on-failure:3", name)
    policy = docker.inspect(name)["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_stats_shows_each_running_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "--memory", "64m", "busybox", "sleep", "1000")
    row = docker.out("stats", "--no-stream", "--format", "{{.Name}}|{{.MemUsage}}|{{.PIDs}}|{{.NetIO}}")
    fields = dict(zip(("name", "memory", "pids", "network"), row.split("|"), strict=True))
    assert fields["name"] == name
    assert fields["memory"].endswith("/ 64MiB")
    assert fields["pids"] == "1"


def test_stats_of_the_api_have_docker_s_members(daemon: PrivateDaemon, name: str) -> None:
    daemon.docker.out("run", "-d", "--name", name, "busybox", "sleep", "1000")
    stats = daemon.api.get(f"/v1.43/containers/{name}/stats", stream="false")
    assert {
        "read",
        "preread",
        "cpu_stats",
        "precpu_stats",
        "memory_stats",
        "pids_stats",
        "networks",
        "name",
    } <= set(stats)
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert stats["cpu_stats"]["online_cpus"] == len(os.sched_getaffinity(0))
    assert stats["memory_stats"]["usage"] > 0
    assert stats["memory_stats"]["limit"] > 0


def test_the_cpu_quota_holds(docker: DockerCli) -> None:
    script = "timeout 1 sh -c 'while :; do :; done'; cut -d' ' -f16,17 /proc/self/stat"
    text = docker.out("run", "--rm", "--cpus", "0.2", "busybox", "sh", "-c", script)
    ticks = sum(map(int, text.split()))
    assert ticks < 60
