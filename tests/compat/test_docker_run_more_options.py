"""docker run: options that are used less often."""

from __future__ import annotations

import json
import os

import pytest

from tests.harness.docker_cli import DockerCli


@pytest.mark.parametrize(
    "options",
    [
        ["--userns", "host"],
        ["--isolation", "default"],
        ["--platform", "linux/amd64"],
        ["--cgroupns", "host"],
        ["--cgroupns", "private"],
        ["--device-cgroup-rule", "c 1:7 rwm"],
        ["--annotation", "a=b"],
        ["--blkio-weight", "300"],
        ["--memory-swappiness", "0"],
        ["--memory", "64m", "--oom-kill-disable"],
        ["--security-opt", "apparmor=unconfined"],
        ["--security-opt", "label=disable"],
        ["--security-opt", "systempaths=unconfined"],
        ["--ulimit", "nproc=100"],
        ["--domainname", "example.org"],
        ["--mac-address", "02:42:ac:11:00:99"],
        ["--dns", "192.0.2.1", "--dns-option", "ndots:1"],
        ["--expose", "80"],
        ["--ipc", "none"],
        ["--no-healthcheck"],
        ["--cpu-period", "50000", "--cpu-quota", "25000"],
        ["--log-opt", "labels=a", "--label", "a=b"],
        ["--stop-timeout", "3", "--stop-signal", "SIGQUIT"],
        ["--sig-proxy=false"],
        ["--quiet"],
        ["--add-host", "host.docker.internal:host-gateway"],
    ],
    ids=lambda options: "_".join(options).replace("/", "|"),
)
def test_an_option_is_accepted(docker: DockerCli, options: list[str]) -> None:
    assert docker.out("run", "--rm", *options, "busybox", "echo", "fine") == "fine"


def test_the_domain_name_joins_the_host_name(docker: DockerCli) -> None:
    options = ("--hostname", "island", "--domainname", "example.org")
    assert "island.example.org" in docker.out("run", "--rm", *options, "busybox", "cat", "/etc/hosts")


def test_a_mac_address_is_used(docker: DockerCli) -> None:
    text = docker.out(
        "run", "--rm", "--mac-address", "02:42:ac:11:00:77", "busybox", "cat", "/sys/class/net/eth0/address"
    )
    assert text == "02:42:ac:11:00:77"


def test_the_host_gateway_is_an_address(docker: DockerCli) -> None:
    text = docker.out(
        "run", "--rm", "--add-host", "gate:host-gateway", "busybox", "grep", "gate", "/etc/hosts"
    )
    assert text.split()[0].count(".") == 3


def test_the_cpu_quota_is_in_the_cgroup(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "--cpu-period", "50000", "--cpu-quota", "25000", "busybox")
    host = docker.inspect(name)["HostConfig"]
    assert (host["CpuPeriod"], host["CpuQuota"]) == (50000, 25000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cpus", "1", "--cpu-quota", "1000"], "Conflicting options: Nano CPUs and CPU"),
        (["--network", "host", "--network-alias", "x"], "network-scoped alias"),
        (["--security-opt", "nonsense"], "security-opt"),
        (["--ipc", "container:nobody-here"], "No such container: nobody-here"),
        (["--network", "container:nobody-here"], "No such container: nobody-here"),
        (["--stop-signal", "SIGNOPE"], "SIGNOPE"),
        (["--sysctl", "nonsense"], "nonsense"),
        (["--volumes-from", "nobody-here"], "No such container: nobody-here"),
        (["--device-cgroup-rule", "nonsense"], "nonsense"),
        (["--runtime", "nonsense"], "nonsense"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_refused_in_words_that_name_it(
    docker: DockerCli, options: list[str], message: str
) -> None:
    done = docker("run", "--rm", *options, "busybox", "true")
    assert done.returncode in (125, 126, 127)
    assert message.lower() in done.stderr.lower()


def test_the_events_of_a_run_and_their_attributes(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "-l", "a=b", "busybox", "sh", "-c", "exit 0")
    until = docker.out("run", "--rm", "busybox", "date", "+%s")
    text = docker.out(
        *("events", "--since", "0", "--until", str(int(until) + 1), "--filter", f"container={name}"),
        *("--filter", "event=die", "--format", "{{json .}}"),
    )
    event = json.loads(text.splitlines()[-1])
    attributes = event["Actor"]["Attributes"]
    assert event["Type"] == "container"
    assert {"image": "busybox", "name": name, "exitCode": "0", "a": "b"}.items() <= attributes.items()


def test_info_and_version_describe_the_host(docker: DockerCli) -> None:
    info = json.loads(docker.out("info", "--format", "{{json .}}"))
    assert info["NCPU"] == len(os.sched_getaffinity(0))
    assert info["OSType"] == "linux"
    assert info["KernelVersion"] == os.uname().release
    version = json.loads(docker.out("version", "--format", "{{json .}}"))
    assert version["Server"]["Os"] == "linux"
    assert version["Server"]["ApiVersion"] >= "1.50"
