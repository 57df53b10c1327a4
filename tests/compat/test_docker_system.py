"""docker version, info, events, system df; ping, plugins and what a daemon without a swarm answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient


def test_ping_tells_what_the_daemon_can_do(api: ApiClient) -> None:
    for method in ("GET", "HEAD"):
        answer = api.request(method, "/_ping")
        headers = {key.lower(): value for key, value in answer.headers.items()}
        assert answer.status == 200
        assert headers["content-type"].startswith("text/plain")
        assert re.fullmatch(r"1\.\d+", headers["api-version"])
        assert headers["ostype"] == "linux"
        assert headers["docker-experimental"] == "false"
        assert "no-cache" in headers["cache-control"]
        assert headers["swarm"] == "inactive"
    assert api.request("GET", "/_ping").body == b"OK"
    assert api.request("GET", "/v1.40/_ping").status == 200


def test_version_describes_the_server(docker: DockerCli) -> None:
    version = json.loads(docker.out("version", "--format", "json"))["Server"]
    assert version["MinAPIVersion"] == "1.24"
    assert version["KernelVersion"] == os.uname().release
    engine = version["Components"][0]
    assert (engine["Name"], engine["Version"]) == ("Engine", version["Version"])
    assert "Server:" in docker.out("version")


def test_info_describes_the_host(docker: DockerCli, name: str) -> None:
    before = json.loads(docker.out("info", "--format", "json"))
    docker.out("create", "--name", name, "busybox")
    info = json.loads(docker.out("info", "--format", "json"))
    assert info["KernelVersion"] == os.uname().release
    assert info["NCPU"] == int(subprocess.check_output(["nproc"]))
    assert info["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert info["Images"] >= 1
    assert info["ContainersStopped"] >= 1
    assert before["ID"] == info["ID"]
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["CgroupDriver"] == "cgroupfs"
    text = docker.out("info")
    for line in ("Server Version:", "Storage Driver: overlay2", "Cgroup Version:", "Docker Root Dir:"):
        assert line in text


def test_system_df_counts_what_is_there(docker: DockerCli, api: ApiClient, name: str) -> None:
    script = "head -c 5000 /dev/zero > /file; head -c 7000 /dev/zero > /data/file"
    docker.out("run", "--name", name, "-v", f"{name}:/data", "busybox", "sh", "-c", script)
    usage = api.get("/system/df")
    container = next(found for found in usage["Containers"] if found["Names"] == [f"/{name}"])
    assert 5000 <= container["SizeRw"] < 6000
    volume = next(found for found in usage["Volumes"] if found["Name"] == name)
    assert volume["UsageData"] == {"RefCount": 1, "Size": 7000}
    image = next(found for found in usage["Images"] if "busybox:latest" in (found["RepoTags"] or ()))
    assert image["Size"] > 1_000_000
    assert image["Containers"] >= 1
    assert image["SharedSize"] >= 0
    assert usage["LayersSize"] >= image["Size"]
    only = api.get("/system/df", type="volume")
    assert only["Volumes"]
    assert not only.get("Images")
    table = docker.out("system", "df")
    assert [line.split("  ")[0] for line in table.splitlines()] == [
        "TYPE",
        "Images",
        "Containers",
        "Local Volumes",
        "Build Cache",
    ]
    assert name in docker.out("system", "df", "-v")
    docker.out("rm", name)
    docker.out("volume", "rm", name)


def test_events_of_the_past_end_and_are_filtered(docker: DockerCli, name: str) -> None:
    begin = time.time()
    docker.out("create", "--name", name, "-l", f"test={name}", "busybox")
    docker.out("rm", name)

    def actions(*filters: str) -> list[str]:
        flags = [argument for text in filters for argument in ("--filter", text)]
        shown = docker.out(
            *("events", "--since", f"{begin:.6f}", "--until", f"{time.time():.6f}"),
            *("--format", "{{.Action}}", *flags),
        )
        return shown.splitlines()

    assert actions(f"container={name}", "type=container") == ["create", "destroy"]
    assert actions(f"label=test={name}") == ["create", "destroy"]
    assert actions(f"container={name}", "event=destroy") == ["destroy"]
    assert actions(f"container={name}", "image=busybox", "event=create") == ["create"]
    assert actions(f"container={name}", "image=debian") == []
    assert actions(f"container={name}", "type=network") == []


def test_events_keep_the_fields_of_old_clients(api: ApiClient, docker: DockerCli, name: str) -> None:
    identity = docker.out("create", "--name", name, "busybox")
    filters = json.dumps({"container": {identity: True}, "event": {"create": True}})
    query = {"since": "0", "until": f"{time.time() + 0.01:.6f}", "filters": filters}
    answer = api.request("GET", "/v1.43/events", query=query)
    event = json.loads(answer.body.splitlines()[0])
    assert answer.headers["Content-Type"] == "application/json"
    assert (event["status"], event["id"], event["from"]) == ("create", identity, "busybox")
    assert event["Actor"]["Attributes"]["name"] == name
    assert event["scope"] == "local"


def test_wrong_event_requests_are_refused(api: ApiClient) -> None:
    answer = api.request("GET", "/events", query={"since": "5", "until": "1"})
    assert (answer.status, answer.message) == (400, "`since` time (5) cannot be after `until` time (1)")
    answer = api.request("GET", "/events", query={"until": "1", "filters": "junk"})
    assert answer.status == 400
    assert "invalid filter" in answer.message


def test_a_daemon_without_a_swarm_says_so(api: ApiClient, docker: DockerCli) -> None:
    for path in ("/swarm", "/nodes", "/services", "/services/x", "/tasks", "/secrets", "/configs"):
        answer = api.request("GET", path)
        assert answer.status == 503
        assert answer.message.startswith('This node is not a swarm manager. Use "docker swarm init"')
    assert api.request("POST", "/swarm/leave").message == "This node is not part of a swarm"
    assert "This node is not a swarm manager" in docker("service", "ls").stderr


def test_there_are_no_plugins(api: ApiClient) -> None:
    assert api.get("/plugins") == []
    answer = api.request("GET", "/plugins/ceph/json")
    assert (answer.status, answer.message) == (404, 'plugin "ceph" not found')


def test_system_prune_removes_what_is_not_used(docker: DockerCli, name: str) -> None:
    docker.out("create", "--name", name, "-l", f"test={name}", "busybox")
    docker.out("network", "create", "--label", f"test={name}", name)
    text = docker.out("system", "prune", "-f", "--filter", f"label=test={name}")
    assert "Deleted Containers:" in text
    assert f"Deleted Networks:\n{name}" in text
    assert "Total reclaimed space:" in text
