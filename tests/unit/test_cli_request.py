"""From the flags of run to the create request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from seom.cli import flags, port_syntax, request_syntax
from seom.cli.container_options import RUN_FLAGS
from seom.cli.container_request import build_request
from seom.cli.errors import CommandError


def request(*argv: str) -> dict[str, Any]:
    options, (image, *command) = flags.parse(RUN_FLAGS, argv, interspersed=False)
    return build_request(options, image, command, options.on("detach"))


def test_a_plain_run_attaches_its_output() -> None:
    body = request("debian", "ls", "-l")
    assert body["Image"] == "debian"
    assert body["Cmd"] == ["ls", "-l"]
    assert [body[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr")] == [False, True, True]
    assert body["HostConfig"]["NetworkMode"] == "default"
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}


def test_interactive_opens_stdin_once_and_detached_attaches_nothing() -> None:
    body = request("-it", "debian")
    assert (body["OpenStdin"], body["StdinOnce"], body["AttachStdin"], body["Tty"]) == (
        True,
        True,
        True,
        True,
    )
    body = request("-di", "debian")
    assert (body["OpenStdin"], body["StdinOnce"], body["AttachStdout"]) == (True, False, False)


def test_environment_comes_from_files_flags_and_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nA=1\n\nFROM_HERE\nABSENT\nB=x y\n")
    monkeypatch.setenv("FROM_HERE", "here")
    body = request("--env-file", str(file), "-e", "C=3", "-e", "FROM_HERE", "-e", "ABSENT", "x")
    assert body["Env"] == ["A=1", "FROM_HERE=here", "B=x y", "C=3", "FROM_HERE=here"]


def test_volumes_are_binds_or_anonymous() -> None:
    body = request("-v", "/a:/b:ro", "-v", "./c:/d", "-v", "name:/e", "-v", "/anonymous", "x")
    assert body["HostConfig"]["Binds"] == ["/a:/b:ro", f"{os.getcwd()}/c:/d", "name:/e"]
    assert body["Volumes"] == {"/anonymous": {}}


def test_mounts() -> None:
    mount = "type=volume,source=v,target=/x,readonly,volume-opt=a=b,volume-label=l=1,volume-nocopy"
    assert request_syntax.parse_mount(mount) == {
        "Type": "volume",
        "Source": "v",
        "Target": "/x",
        "ReadOnly": True,
        "VolumeOptions": {"DriverConfig": {"Options": {"a": "b"}}, "Labels": {"l": "1"}, "NoCopy": True},
    }
    assert request_syntax.parse_mount("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777") == {
        "Type": "tmpfs",
        "Target": "/t",
        "TmpfsOptions": {"SizeBytes": 67108864, "Mode": 0o1777},
    }
    assert request_syntax.parse_mount('type=bind,"src=/with,comma",dst=/b')["Source"] == "/with,comma"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,src=/a", "target is required"),
        ("type=bind,src=/a,dst=/b,xyz=1", "unexpected key 'xyz' in 'xyz=1'"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=bind,src=/a,dst=/b,readonly=foo", "invalid value for readonly: foo"),
    ],
)
def test_wrong_mounts_are_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        request_syntax.parse_mount(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80/udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        ("8000-8010:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}),
        (
            "8000-8001:80-81",
            {"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": [{"HostIp": "", "HostPort": "8001"}]},
        ),
        ("target=80,published=8080,protocol=udp", {"80/udp": [{"HostIp": "", "HostPort": "8080"}]}),
    ],
)
def test_published_ports(text: str, expected: dict[str, list[dict[str, str]]]) -> None:
    assert port_syntax.parse_published(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99999:80", "invalid hostPort: 99999"),
        ("abc", "invalid containerPort: abc"),
        ("80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("80-90:70-75", "invalid ranges specified for container and host Ports: 70-75 and 80-90"),
    ],
)
def test_wrong_ports_are_explained(text: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        port_syntax.parse_published(text)
    assert (caught.value.message, caught.value.status) == (message, 125)


def test_limits_are_sent_only_when_given() -> None:
    host = request("-m", "64m", "--cpus", "1.5", "--pids-limit", "-1", "x")["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (67108864, 1_500_000_000, -1)
    assert "CpuShares" not in host


def test_networks() -> None:
    body = request("--network", "name=n1,alias=a,ip=10.0.0.5,gw-priority=3", "--network-alias", "b", "x")
    assert body["HostConfig"]["NetworkMode"] == "n1"
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "n1": {"Aliases": ["a", "b"], "GwPriority": 3, "IPAMConfig": {"IPv4Address": "10.0.0.5"}}
    }
    body = request("--network", "n1", "--network", "n2", "x")
    assert set(body["NetworkingConfig"]["EndpointsConfig"]) == {"n1", "n2"}


def test_health_checks() -> None:
    health = request("--health-cmd", "true", "--health-interval", "2s", "--health-retries", "4", "x")[
        "Healthcheck"
    ]
    assert health == {"Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000, "Retries": 4}
    assert request("--no-healthcheck", "x")["Healthcheck"] == {"Test": ["NONE"]}
    assert "Healthcheck" not in request("x")


def test_a_seccomp_profile_is_sent_by_content(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    options = request("--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges", "x")
    assert options["HostConfig"]["SecurityOpt"] == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
        "no-new-privileges",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rm", "--restart", "always", "x"], "conflicting options: cannot specify both --restart and --rm"),
        (
            ["--no-healthcheck", "--health-cmd", "y", "x"],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (["--memory-swappiness", "400", "x"], "invalid value: 400. Valid memory swappiness range is 0-100"),
        (["--device", "x", "x"], "x is not an absolute path"),
        (["--env-file", "/nope", "x"], "open /nope: no such file or directory"),
        (["--network=", "x"], "no name set for network"),
    ],
)
def test_contradictions_are_refused_before_the_daemon_is_asked(argv: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        request(*argv)
    assert (caught.value.message, caught.value.status) == (message, 125)


def test_ulimits_devices_and_throttles() -> None:
    assert request_syntax.parse_ulimit("nofile=10:20") == {"Name": "nofile", "Soft": 10, "Hard": 20}
    assert request_syntax.parse_ulimit("core=-1")["Hard"] == -1
    assert request_syntax.parse_device("/dev/a:/dev/b:r") == {
        "PathOnHost": "/dev/a",
        "PathInContainer": "/dev/b",
        "CgroupPermissions": "r",
    }
    assert request_syntax.parse_device("/dev/a:rw")["CgroupPermissions"] == "rw"
    assert request_syntax.parse_throttle("/dev/a:1mb") == {"Path": "/dev/a", "Rate": 1048576}
    assert request_syntax.parse_extra_host("h=[::1]") == "h:::1"
