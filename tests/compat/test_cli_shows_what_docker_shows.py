"""The same answers of an API, shown by the real docker command line and by seom: equal outputs.

No daemon takes part: a small server gives both clients the same prepared answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.canned_api import CannedApi
from tests.harness.docker_cli import DockerCli
from tests.harness.seom_cli import SeomCli

ID = "ec13d836444078a815b04ac7e46601072efdf719d14bec8e8ff060e590ab4ff2"
IMAGE = "sha256:f2815a6a12f8d8b0a3a1c9e0b1bbd4f3f30a3f4b7f6f0d1f3a5a1d7a8e2b9c11"
NOW = int(time.time())

CONTAINER: dict[str, Any] = {
    "Id": ID,
    "Created": "2024-05-01T10:20:30.123456789Z",
    "Path": "sleep",
    "Args": ["1000"],
    "State": {"Status": "running", "Running": True, "Paused": False, "Pid": 42, "ExitCode": 0, "Error": ""},
    "Name": "/web",
    "Image": IMAGE,
    "Size": 3,
    "Mounts": [
        {"Type": "volume", "Name": "v", "Source": "/a", "Destination": "/data", "RW": True},
        {"Type": "bind", "Source": "/b", "Destination": "/c", "RW": False},
    ],
    "Config": {
        "Tty": False,
        "Env": ["A=1", "B=2"],
        "Labels": {"com.x": "y", "k": "v"},
        "Cmd": ["sleep", "1000"],
    },
    "HostConfig": {"NetworkMode": "bridge", "Memory": 67108864},
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
        },
        "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
    },
}
ANSWERS: dict[str, Any] = {
    "GET /_ping": b"OK",
    "HEAD /_ping": b"OK",
    "GET /containers/json": [
        {
            "Id": ID,
            "Names": ["/web", "/other/web"],
            "Image": "debian:12",
            "ImageID": IMAGE,
            "Command": "sleep 1000 'with a long argument'",
            "Created": NOW - 7300,
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 9001, "PublicPort": 9001, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 9000, "PublicPort": 9000, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
                {"PrivatePort": 444, "Type": "tcp"},
                {"PrivatePort": 53, "Type": "udp"},
            ],
            "SizeRw": 12288,
            "SizeRootFs": 123456789,
            "Labels": {"b": "2", "a": "1"},
            "State": "running",
            "Status": "Up 2 hours",
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {}, "aux": {}}},
            "Mounts": [
                {"Type": "volume", "Name": "avolumewithalongname", "Driver": "local"},
                {"Type": "bind", "Source": "/srv"},
            ],
        },
        {
            "Id": "f" + ID[1:],
            "Names": ["/db"],
            "Image": IMAGE,
            "ImageID": IMAGE,
            "Command": "true",
            "Created": NOW - 86400 * 40,
            "Ports": [],
            "Labels": {},
            "State": "exited",
            "Status": "Exited (0) 5 weeks ago",
            "HostConfig": {"NetworkMode": "none"},
            "NetworkSettings": {"Networks": {"none": {}}},
            "Mounts": [],
        },
    ],
    "GET /containers/web/json": CONTAINER,
    "GET /containers/web/changes": [
        {"Kind": 0, "Path": "/etc"},
        {"Kind": 1, "Path": "/etc/new"},
        {"Kind": 2, "Path": "/old"},
    ],
    "GET /containers/web/top": {
        "Titles": ["UID", "PID", "CMD"],
        "Processes": [["root", "11897", "sleep 1000"], ["a-user-with-a-very-long-name", "2", "x"]],
    },
    "GET /images/json": [
        {
            "Id": IMAGE,
            "RepoTags": ["debian:12", "debian:latest"],
            "RepoDigests": ["debian@sha256:" + "ab" * 32],
            "Created": NOW - 3 * 86400,
            "Size": 123456789,
            "SharedSize": -1,
            "Containers": 2,
            "Labels": {},
        },
        {
            "Id": "sha256:" + "cd" * 32,
            "RepoTags": ["reg.example:5000/d:1"],
            "RepoDigests": [],
            "Created": NOW - 86400 * 20,
            "Size": 45_000,
            "SharedSize": -1,
            "Containers": 0,
        },
        {
            "Id": "sha256:" + "ef" * 32,
            "RepoTags": [],
            "RepoDigests": [],
            "Created": NOW - 330,
            "Size": 999,
            "SharedSize": -1,
            "Containers": -1,
            "Labels": None,
        },
    ],
    "GET /images/debian/history": [
        {
            "Id": IMAGE,
            "Created": NOW - 630,
            "CreatedBy": 'CMD ["bash"]',
            "Size": 0,
            "Comment": "",
            "Tags": None,
        },
        {
            "Id": "<missing>",
            "Created": NOW - 86400,
            "CreatedBy": "/bin/sh -c #(nop) ADD file:0123456789abcdef0123456789abcdef in / ",
            "Size": 78123456,
            "Comment": "a comment",
            "Tags": None,
        },
    ],
    "GET /networks": [
        {
            "Name": "net10",
            "Id": ID,
            "Driver": "bridge",
            "Scope": "local",
            "Created": "2024-05-01T10:20:30.5Z",
        },
        {
            "Name": "net2",
            "Id": ID[::-1],
            "Driver": "bridge",
            "Scope": "local",
            "EnableIPv6": True,
            "Labels": {"a": "b"},
        },
        {"Name": "bridge", "Id": "a" * 64, "Driver": "bridge", "Scope": "local", "EnableIPv4": True},
    ],
    "GET /networks/net2": {
        "Name": "net2",
        "Id": ID,
        "Driver": "bridge",
        "Containers": {},
        "Options": {"o": "1"},
    },
    "GET /volumes": {
        "Volumes": [
            {
                "Name": "v10",
                "Driver": "local",
                "Mountpoint": "/m/v10",
                "Scope": "local",
                "Labels": {"a": "b"},
            },
            {"Name": "v2", "Driver": "local", "Mountpoint": "/m/v2", "Scope": "local", "Labels": None},
        ],
        "Warnings": None,
    },
    "GET /system/df": {
        "LayersSize": 300_000_000,
        "Images": [
            {
                "Id": IMAGE,
                "RepoTags": ["debian:12"],
                "Created": NOW - 650,
                "Size": 200,
                "SharedSize": 50,
                "Containers": 1,
            },
            {
                "Id": IMAGE,
                "RepoTags": ["x:1"],
                "Created": NOW - 650,
                "Size": 100,
                "SharedSize": 50,
                "Containers": 0,
            },
        ],
        "Containers": [
            {
                "Id": ID,
                "Names": ["/web"],
                "Image": "x",
                "State": "running",
                "SizeRw": 1000,
                "Created": NOW - 50,
            },
            {
                "Id": ID,
                "Names": ["/old"],
                "Image": "x",
                "State": "exited",
                "SizeRw": 3000,
                "Created": NOW - 50,
            },
        ],
        "Volumes": [
            {"Name": "v", "Driver": "local", "UsageData": {"Size": 4096, "RefCount": 1}},
            {"Name": "w", "Driver": "local", "UsageData": {"Size": 8192, "RefCount": 0}},
        ],
        "BuildCache": [],
    },
    "GET /events": b"".join(
        json.dumps(event).encode() + b"\n"
        for event in (
            {
                "Type": "container",
                "Action": "start",
                "Actor": {"ID": ID, "Attributes": {"image": "debian", "name": "web"}},
                "scope": "local",
                "time": NOW,
                "timeNano": NOW * 1_000_000_000 + 12345,
            },
            {
                "Type": "network",
                "Action": "connect",
                "Actor": {"ID": "n", "Attributes": {}},
                "scope": "local",
                "time": NOW,
                "timeNano": NOW * 1_000_000_000,
            },
        )
    ),
    "GET /info": {"ServerVersion": "1.2", "Name": "host", "NCPU": 2, "Driver": "overlay2"},
    "GET /containers/web/stats": {
        "read": "2024-05-01T10:20:30Z",
        "id": ID,
        "name": "/web",
        "pids_stats": {"current": 7},
        "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
        "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
        "memory_stats": {"usage": 5_000_000, "limit": 1_000_000_000, "stats": {"inactive_file": 1_000_000}},
        "networks": {"eth0": {"rx_bytes": 1234, "tx_bytes": 99}, "eth1": {"rx_bytes": 1, "tx_bytes": 1}},
        "blkio_stats": {
            "io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 10}]
        },
    },
}


def stream(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


ANSWERS["POST /images/create"] = stream(
    {"status": "Pulling from library/debian", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "Downloading", "progressDetail": {"current": 10, "total": 99}, "id": "0123456789ab"},
    {"status": "Verifying Checksum", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "Download complete", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "Extracting", "progressDetail": {"current": 99, "total": 99}, "id": "0123456789ab"},
    {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "Digest: sha256:" + "ab" * 32},
    {"status": "Status: Downloaded newer image for debian:latest"},
)
ANSWERS["POST /images/reg.example/x/push"] = stream(
    {"status": "The push refers to repository [reg.example/x]"},
    {"status": "Preparing", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "Pushing", "progressDetail": {"current": 10, "total": 99}, "id": "0123456789ab"},
    {"status": "Pushed", "progressDetail": {}, "id": "0123456789ab"},
    {"status": "1: digest: sha256:" + "ab" * 32 + " size: 528"},
    {"progressDetail": {}, "aux": {"Tag": "1", "Digest": "sha256:" + "ab" * 32, "Size": 528}},
)
ANSWERS["POST /images/reg.example/broken/push"] = stream(
    {"status": "The push refers to repository [reg.example/broken]"},
    {"errorDetail": {"message": "denied: no access"}, "error": "denied: no access"},
)
ANSWERS["POST /images/load"] = stream({"stream": "Loaded image: debian:12\n"})

ANSWERS["POST /containers/create"] = (404, {"message": "No such image: debian:latest"})

COMMANDS: list[list[str]] = [
    ["pull", "debian"],
    ["pull", "-q", "debian:12"],
    ["pull", "-a", "debian:12"],
    ["pull", "reg.example/x@sha256:" + "ab" * 32],
    ["push", "reg.example/x:1"],
    ["push", "-q", "reg.example/x:1"],
    ["push", "reg.example/x"],
    ["push", "reg.example/broken"],
    ["load", "-i", "/dev/null"],
    ["run", "--rm", "debian"],
    ["create", "--pull", "always", "debian"],
    ["ps"],
    ["ps", "-a", "-q"],
    ["ps", "--no-trunc"],
    ["ps", "-s"],
    ["container", "ls", "--format", "table {{.Names}}\t{{.Ports}}\t{{.RunningFor}}"],
    ["ps", "--format", r"table {{.ID}}\t{{upper .Names}}"],
    [
        "ps",
        "--format",
        "{{.Names}} {{.Mounts}} {{.Labels}} {{.LocalVolumes}} {{.State}} {{.Size}}",
    ],
    ["ps", "--format", '{{.Label "a"}}|{{.Command}}|{{.Image}}|{{.CreatedAt}}'],
    ["ps", "--no-trunc", "--format", "{{json .Mounts}} {{.Command}} {{.Names}}"],
    ["images", "--format", "{{.Nothing"],
    ["images"],
    ["images", "-q"],
    ["images", "--digests"],
    ["images", "--no-trunc"],
    ["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.CreatedAt}} {{.CreatedSince}}"],
    ["images", "--format", "json"],
    ["history", "debian"],
    ["history", "--no-trunc", "debian"],
    ["history", "-q", "debian"],
    ["history", "--human=false", "debian"],
    ["history", "--format", "json", "debian"],
    ["network", "ls"],
    ["network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.IPv6}} {{.Labels}} {{.Internal}}"],
    ["network", "ls", "-q"],
    ["network", "inspect", "net2"],
    ["network", "inspect", "-f", "{{.Options.o}}{{.Driver}}", "net2"],
    ["volume", "ls"],
    ["volume", "ls", "-q"],
    ["volume", "ls", "--format", "{{.Name}} {{.Mountpoint}} {{.Labels}} {{.Links}} {{.Size}}"],
    ["volume", "ls", "--format", "json"],
    ["system", "df"],
    ["system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"],
    ["system", "df", "--format", "json"],
    ["events", "--until", "1s"],
    [
        "events",
        "--until",
        "1s",
        "--format",
        "{{.Type}}/{{.Action}} {{.Actor.Attributes.name}} {{json .Actor}}",
    ],
    ["diff", "web"],
    ["top", "web"],
    ["port", "web"],
    ["port", "web", "80"],
    ["port", "web", "81"],
    ["stats", "--no-stream", "web"],
    [
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.BlockIO}}",
        "web",
    ],
    ["inspect", "nothing"],
    ["container", "inspect", "nothing"],
    ["info", "--format", "{{.ServerVersion}} {{.NCPU}} {{json .Name}}"],
]
TEMPLATES = [
    "{{.Name}} {{.State.Running}} {{.Size}}",
    "{{.Config.Env}} {{.Config.Cmd}} {{.Args}}",
    "{{json .Config.Labels}} {{json .Args}}",
    "{{range .Mounts}}{{.Source}}:{{.Destination}};{{end}}",
    "{{range $i, $m := .Mounts}}{{$i}}{{$m.Source}}{{$.Name}} {{end}}",
    "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}",
    "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    "{{if .State.Running}}up{{else}}down{{end}}{{if .State.Error}}bad{{else if eq .State.Pid 42}}pid{{end}}",
    "{{with .State}}{{.Pid}}{{end}}",
    '{{index .Config.Labels "com.x"}}|{{index .Config.Labels "none"}}|{{.Config.Labels.k}}',
    '{{(index (index .NetworkSettings.Ports "80/tcp") 1).HostPort}}',
    "{{len .Mounts}}{{len .Name}}",
    '{{printf "%s|%-6s|%6s|%q|%v" .Name "x" "y" .Path .State.Running}}',
    '{{join .Config.Env ","}} {{split "a:b" ":"}} {{upper "a"}}{{lower "B"}}{{title "hello"}}',
    "{{print 1 2}}{{print .Path .Name}}{{println .Path 1}}{{truncate .Path 2}}{{pad .Path 1 2}}|",
    "{{and .Path .Name}} {{or .State.Error .Path}} {{not .State.Error}}",
    "{{$x := .Path}}{{$x}}{{$x = .Name}}{{$x}}",
    "a  {{- .Path -}}  b {{/* c */}} d",
    "{{if .State.Health}}x{{else}}no health{{end}}",
    "{{if and .State.Running (gt .State.Pid 2) (lt .State.Pid 400)}}y{{end}} {{ne .Path .Name}}",
    "{{slice .Name 1 3}} {{html .Path}} {{`raw`}}",
    '{{.HostConfig.Memory}} {{.HostConfig.NetworkMode | printf "%q"}}',
    "{{.Foo}}",
    "{{.State.Foo}}",
    "{{.State.Health.Status}}",
    "{{index .Mounts 5}}",
    "{{nothing .Name}}",
    "{{.Name",
    "{{if .Name}}",
    "{{end}}",
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedApi]:
    with CannedApi(tmp_path_factory.mktemp("api") / "s", ANSWERS) as api:
        yield api


def shown(cli: DockerCli, argv: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, the two programs' own names made equal."""
    done = cli(*argv)
    stdout = done.stdout.replace("\\u003e", ">").replace("\\u003c", "<")
    stderr = done.stderr.replace("See 'docker", "Run 'docker").replace("docker", "seom")
    return done.returncode, stdout, stderr


def both(api: CannedApi, config: Path, argv: list[str]) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    return shown(DockerCli(api.path, config), argv), shown(SeomCli(api.path, config), argv)


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_listing(api: CannedApi, tmp_path: Path, argv: list[str]) -> None:
    docker, seom = both(api, tmp_path, argv)
    assert seom == docker


@pytest.mark.parametrize("template", TEMPLATES)
def test_inspect_template(api: CannedApi, tmp_path: Path, template: str) -> None:
    docker, seom = both(api, tmp_path, ["inspect", "--type", "container", "--format", template, "web"])
    assert seom == docker


@pytest.mark.parametrize("options", [[], ["-f", "json"]], ids=str)
def test_inspect_gives_the_whole_document(api: CannedApi, tmp_path: Path, options: list[str]) -> None:
    docker, seom = both(api, tmp_path, ["inspect", *options, "web"])
    assert json.loads(seom[1]) == json.loads(docker[1])


WRONG: list[list[str]] = [
    ["run"],
    ["run", "--bogus"],
    ["run", "-Q", "x"],
    ["run", "--name"],
    ["run", "-e"],
    ["run", "-e", "=x", "x"],
    ["run", "-m", "abc", "x"],
    ["run", "--cpus", "x", "x"],
    ["run", "--health-interval", "x", "x"],
    ["run", "-p", "99999:80", "x"],
    ["run", "-p", "80/foo", "x"],
    ["run", "--mount", "foo", "x"],
    ["run", "--mount", "type=bind,src=/a", "x"],
    ["run", "--ulimit", "x", "x"],
    ["run", "--add-host", "foo", "x"],
    ["run", "-a", "foo", "x"],
    ["run", "-l", "=x", "x"],
    ["run", "-d", "-a", "stdin", "x"],
    ["run", "-it", "x"],
    ["run", "--rm", "--restart", "always", "x"],
    ["run", "--label-file", "/nope", "x"],
    ["run", "--memory-swappiness", "400", "x"],
    ["run", "--no-healthcheck", "--health-cmd", "x", "x"],
    ["run", "--security-opt", "foo", "x"],
    ["run", "--security-opt", "seccomp=/nope", "x"],
    ["ps", "x", "y"],
    ["ps", "-f", "foo"],
    ["stop", "-t", "x", "a"],
    ["foo"],
    ["rm"],
    ["cp", "a"],
    ["cp", "a", "b"],
    ["cp", "a:b", "c:d"],
    ["exec", "a"],
    ["exec", "-it", "web", "b"],
    ["port"],
    ["tag", "a"],
    ["network", "create"],
    ["volume", "create", "a", "b"],
    ["--bogus"],
    ["update", "web"],
]


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_a_wrong_command_line_is_refused_alike(api: CannedApi, tmp_path: Path, argv: list[str]) -> None:
    docker, seom = both(api, tmp_path, argv)
    assert seom[0] == docker[0]
    assert seom[2].replace("SRun", "Run") == docker[2].replace("SRun", "Run")


def flag_names(text: str) -> set[str]:
    words = (line.split() for line in text.splitlines() if line.startswith("  ") and "--" in line[:12])
    return {word.strip(",") for line in words for word in line[:2] if word.startswith("-")}


COMPARED = (
    *("run", "create", "exec", "ps", "attach", "start", "stop", "restart", "kill", "rm", "wait", "rename"),
    *("update", "logs", "stats", "top", "port", "diff", "cp", "export", "commit", "inspect", "images"),
    *("history", "tag", "rmi", "pull", "push", "save", "load", "import", "login", "logout", "events"),
    *("version", "info"),
)
NOT_HERE = {
    *("--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"),  # Windows
    *("--checkpoint", "--checkpoint-dir", "--disable-content-trust", "--kernel-memory"),
    *("--tree", "--use-api-socket", "--platform", "--help"),
}


@pytest.mark.parametrize("command", COMPARED)
def test_no_flag_of_docker_is_missing(api: CannedApi, tmp_path: Path, command: str) -> None:
    docker, seom = both(api, tmp_path, [command, "--help"])
    assert flag_names(docker[1]) - flag_names(seom[1]) <= NOT_HERE
