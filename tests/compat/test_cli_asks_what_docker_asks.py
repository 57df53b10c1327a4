"""The same command line given to docker and to seom: equal requests reach the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.canned_api import CannedApi, Question
from tests.harness.docker_cli import DockerCli
from tests.harness.seom_cli import SeomCli

ID = "ab" * 32
ANSWERS: dict[str, Any] = {
    "GET /_ping": b"OK",
    "HEAD /_ping": b"OK",
    "GET /info": {"OSType": "linux"},
    "POST /containers/create": (201, {"Id": ID, "Warnings": []}),
    "POST /containers/web/exec": (201, {"Id": ID}),
    "GET /containers/web/json": {"Id": "web", "Config": {"Tty": False}, "State": {"Running": True}},
    f"POST /exec/{ID}/start": b"",
    f"POST /containers/{ID}/start": (204, b""),
    "POST /containers/web/update": {"Warnings": []},
    "POST /containers/web/stop": (204, b""),
    "POST /containers/web/restart": (204, b""),
    "POST /containers/web/kill": (204, b""),
    "DELETE /containers/web": (204, b""),
    "POST /networks/create": (201, {"Id": ID}),
    "POST /networks/n/connect": b"",
    "POST /networks/n/disconnect": b"",
    "POST /volumes/create": (201, {"Name": "v"}),
    "GET /containers/json": [],
    "GET /images/json": [],
    "POST /commit": (201, {"Id": ID}),
    "POST /images/debian/tag": (201, b""),
    "DELETE /images/debian": [],
    "GET /containers/web/logs": b"",
    "GET /events": b"",
    "GET /images/get": b"",
    "GET /images/debian/history": [],
    "GET /images/debian/json": {"Id": "x"},
    "POST /images/reg.example/d/push": b"",
    "POST /images/create": b"",
    "POST /images/prune": {},
    "POST /containers/prune": {},
    "POST /volumes/prune": {},
    "GET /containers/web/top": {"Titles": ["PID"], "Processes": []},
}

CREATED: list[list[str]] = [
    ["debian"],
    ["-it", "debian", "bash", "-l"],
    ["-i", "-a", "stdin", "-a", "stdout", "debian"],
    ["--name", "n", "-h", "host", "--domainname", "d.example", "-u", "1:2", "-w", "/w", "debian"],
    ["-e", "A=1", "-e", "B=", "--entrypoint", "", "debian", "x"],
    ["--entrypoint", "/bin/sh", "-l", "a=b", "-l", "c", "--label", "d=e=f", "debian", "-c", "ls"],
    ["-v", "/a:/b:ro", "-v", "./rel:/c", "-v", "vol:/d:nocopy", "-v", "/anonymous", "debian"],
    ["--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave", "debian"],
    ["--mount", "type=volume,source=v,target=/x,volume-opt=a=b,volume-label=l=1,volume-nocopy", "debian"],
    ["--mount", "type=volume,source=v,target=/x,volume-subpath=sub,volume-driver=local", "debian"],
    ["--mount", "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777", "--tmpfs", "/u:size=1m", "debian"],
    ["--tmpfs", "/plain", "--shm-size", "128m", "--read-only", "--storage-opt", "size=1G", "debian"],
    ["-p", "80", "-p", "8080:81", "-p", "127.0.0.1:53:53/udp", "-p", "9000-9001:9000-9001", "debian"],
    ["-p", "[::1]:80:80", "-p", "8000-8010:90", "--expose", "70-72", "-P", "debian"],
    [
        "--network",
        "n",
        "--network-alias",
        "a",
        "--ip",
        "10.0.0.5",
        "--mac-address",
        "02:00:00:00:00:01",
        "debian",
    ],
    ["--network", "name=n,alias=a,driver-opt=k=v,gw-priority=2", "--network", "m", "debian"],
    ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--userns", "host", "debian"],
    ["--network", "container:web", "--pid", "container:web", "--cgroupns", "private", "debian"],
    ["--add-host", "a:1.2.3.4", "--add-host", "b=::1", "--add-host", "c:host-gateway", "debian"],
    ["--dns", "1.1.1.1", "--dns-search", "x.example", "--dns-option", "ndots:2", "debian"],
    ["-m", "64m", "--memory-swap", "-1", "--memory-reservation", "32m", "--memory-swappiness", "0", "debian"],
    [
        "--cpus",
        "1.5",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--cpu-period",
        "1000",
        "--cpu-quota",
        "500",
        "debian",
    ],
    ["--pids-limit", "100", "--oom-kill-disable", "--oom-score-adj", "5", "--blkio-weight", "100", "debian"],
    ["--device-read-bps", "/dev/sda:1mb", "--device-write-iops", "/dev/sda:100", "debian"],
    ["--ulimit", "nofile=10:20", "--ulimit", "core=-1", "--sysctl", "net.ipv4.ip_forward=1", "debian"],
    ["--cap-add", "NET_ADMIN", "--cap-drop", "ALL", "--privileged", "--group-add", "audio", "debian"],
    ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "debian"],
    ["--security-opt", "systempaths=unconfined", "--security-opt", "apparmor:x", "debian"],
    [
        "--device",
        "/dev/null",
        "--device",
        "/dev/zero:/dev/z:r",
        "--device-cgroup-rule",
        "c 1:3 rwm",
        "debian",
    ],
    ["--restart", "on-failure:3", "--stop-signal", "SIGINT", "--stop-timeout", "5", "--init", "debian"],
    ["--restart", "unless-stopped", "--log-driver", "json-file", "--log-opt", "max-size=1m", "debian"],
    [
        "--rm",
        "--annotation",
        "a=b",
        "--runtime",
        "r",
        "--isolation",
        "default",
        "--cgroup-parent",
        "p",
        "debian",
    ],
    ["--health-cmd", "true", "--health-interval", "1s", "--health-retries", "2", "debian"],
    ["--health-timeout", "3s", "--health-start-period", "4s", "--health-start-interval", "5s", "debian"],
    ["--no-healthcheck", "--volumes-from", "web", "--volume-driver", "local", "--link", "web:w", "debian"],
    [
        "--platform",
        "linux/arm64",
        "--link-local-ip",
        "169.254.1.1",
        "--ip6",
        "fd00::5",
        "--network",
        "n",
        "debian",
    ],
]

OTHERS: list[tuple[list[str], str, str]] = [
    (
        ["exec", "-d", "-u", "1", "-w", "/w", "-e", "A=1", "--privileged", "web", "ls", "-l"],
        "POST",
        "/containers/web/exec",
    ),
    (["exec", "-dt", "web", "ls"], "POST", "/containers/web/exec"),
    (["update", "-m", "1g", "--cpus", "2", "--restart", "always", "web"], "POST", "/containers/web/update"),
    (["stop", "-t", "3", "-s", "INT", "web"], "POST", "/containers/web/stop"),
    (["restart", "web"], "POST", "/containers/web/restart"),
    (["kill", "-s", "HUP", "web"], "POST", "/containers/web/kill"),
    (["rm", "-fv", "web"], "DELETE", "/containers/web"),
    (["ps", "-a", "-n", "3", "-f", "name=x", "-f", "label=a=b"], "GET", "/containers/json"),
    (["ps", "-s"], "GET", "/containers/json"),
    (["images", "-a", "-f", "dangling=true", "deb*"], "GET", "/images/json"),
    (
        ["commit", "-a", "me", "-m", "text", "-c", "ENV A=b", "-p=false", "web", "reg.example/x:1"],
        "POST",
        "/commit",
    ),
    (["tag", "debian", "reg.example:5000/x:1"], "POST", "/images/debian/tag"),
    (["rmi", "-f", "--no-prune", "debian"], "DELETE", "/images/debian"),
    (["logs", "-t", "-n", "5", "--since", "2024-01-01T00:00:00Z", "web"], "GET", "/containers/web/logs"),
    (["logs", "--details", "--until", "1700000000", "web"], "GET", "/containers/web/logs"),
    (["events", "--since", "1700000000", "--until", "1700000001", "-f", "type=image"], "GET", "/events"),
    (["image", "prune", "-af", "--filter", "until=1h"], "POST", "/images/prune"),
    (["container", "prune", "-f", "--filter", "label=x"], "POST", "/containers/prune"),
    (["volume", "prune", "-af"], "POST", "/volumes/prune"),
    (["volume", "create", "-o", "type=tmpfs", "--label", "a=b", "v"], "POST", "/volumes/create"),
    (
        ["network", "create", "--internal", "--attachable", "--label", "a", "-o", "k=v", "n"],
        "POST",
        "/networks/create",
    ),
    (
        [
            *("network", "create", "--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1"),
            *(
                "--ip-range",
                "10.1.2.0/24",
                "--aux-address",
                "h=10.1.0.9",
                "--ipv6",
                "--subnet",
                "fd01::/64",
                "n",
            ),
        ],
        "POST",
        "/networks/create",
    ),
    (
        ["network", "connect", "--alias", "a", "--ip", "10.0.0.7", "--driver-opt", "k=v", "n", "web"],
        "POST",
        "/networks/n/connect",
    ),
    (["network", "disconnect", "-f", "n", "web"], "POST", "/networks/n/disconnect"),
    (["save", "--platform", "linux/arm64/v8", "debian", "b"], "GET", "/images/get"),
    (["history", "--platform", "linux/arm64", "debian"], "GET", "/images/debian/history"),
    (["image", "inspect", "--platform", "linux/amd64", "debian"], "GET", "/images/debian/json"),
    (["push", "--platform", "linux/amd64", "reg.example/d:1"], "POST", "/images/reg.example/d/push"),
    (["pull", "--platform", "linux/amd64", "reg.example/d:12"], "POST", "/images/create"),
    (
        ["import", "-m", "text", "-c", "ENV A=b", "--platform", "linux/arm64", "-", "x"],
        "POST",
        "/images/create",
    ),
    (["top", "web", "-o", "pid"], "GET", "/containers/web/top"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedApi]:
    with CannedApi(tmp_path_factory.mktemp("api") / "s", ANSWERS) as api:
        yield api


def meaningful(value: Any) -> Any:
    """Without what says nothing: null, empty, zero, false, defaults; lists sorted where no order is meant."""
    if isinstance(value, dict):
        kept = {name: meaningful(item) for name, item in value.items() if name != "ConsoleSize"}
        for name in kept.keys() & {"Env", "CapAdd", "CapDrop", "Ulimits", "Binds"} | (
            {"Config"} if "Driver" in kept else set()
        ):
            kept[name] = sorted(kept.get(name) or (), key=str)
        return {name: item for name, item in kept.items() if item not in (None, "", 0, False, [], {}, -1)}
    return [meaningful(item) for item in value] if isinstance(value, list) else value


def asked(cli: DockerCli, api: CannedApi, argv: list[str], method: str, path: str) -> Question:
    before = len(api.questions)
    done = cli(*argv)
    assert done.returncode == 0, done.stderr
    return next(q for q in api.questions[before:] if (q.method, q.path) == (method, path))


def compare(api: CannedApi, config: Path, argv: list[str], method: str, path: str) -> None:
    docker = asked(DockerCli(api.path, config), api, argv, method, path)
    seom = asked(SeomCli(api.path, config), api, argv, method, path)
    assert seom.query == docker.query
    bodies = [meaningful(question.json() if question.body else {}) for question in (seom, docker)]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("argv", CREATED, ids=" ".join)
def test_create(api: CannedApi, tmp_path: Path, argv: list[str]) -> None:
    compare(api, tmp_path, ["create", *argv], "POST", "/containers/create")


@pytest.mark.parametrize(("argv", "method", "path"), OTHERS, ids=[" ".join(case[0]) for case in OTHERS])
def test_request(api: CannedApi, tmp_path: Path, argv: list[str], method: str, path: str) -> None:
    compare(api, tmp_path, argv, method, path)
