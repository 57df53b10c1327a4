"""The HTTP API and bad input: the right status, a message, and nothing changed."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.http_client import ApiClient
from tests.harness.images import add_file, busybox_layer, digest, docker_archive

JSON = {"Content-Type": "application/json"}
TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture
def unchanged(api: ApiClient) -> Iterator[None]:
    """Nothing that can be listed differs afterwards."""

    def everything() -> list[object]:
        containers = sorted(each["Id"] for each in api.get("/containers/json", all="1"))
        images = sorted(str(each["RepoTags"]) for each in api.get("/images/json"))
        networks = sorted(each["Name"] for each in api.get("/networks"))
        volumes = sorted(each["Name"] for each in api.get("/volumes")["Volumes"] or [])
        return [containers, images, networks, volumes]

    before = everything()
    yield
    assert everything() == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b"[]", 400),
        (b'{"Image": 7}', 400),
        (b'{"Image": "busybox", "Env": "A=b"}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Memory": "lots"}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"PortBindings": {"80": [{"HostPort": "x"}]}}}', 400),
        (b'{"Image": "no-such-image"}', 404),
        (b'{"Image": "UPPER CASE"}', 400),
        (b'{"Image": "busybox", "HostConfig": {"CapAdd": ["CAP_NO"]}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "often"}}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Memory": -5}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"IpcMode": "nonsense"}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"PidMode": "nonsense"}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Binds": ["/a:/b:/c:/d"]}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Binds": ["/tmp:relative"]}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "no", "Target": "/x"}]}}', 400),
        (b'{"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "bind", "Target": "/x"}]}}', 400),
        (b'{"Image": "busybox", "StopSignal": "SIGNOPE"}', 400),
        (b'{"Image": "busybox", "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}}', 400),
        (b'{"Image": "busybox", "Cmd": []} trailing', 400),
    ],
    ids=lambda value: value.decode()[-60:].replace("/", "|") if isinstance(value, bytes) else "",
)
@pytest.mark.usefixtures("unchanged")
def test_a_bad_create_request_is_refused(api: ApiClient, body: bytes, status: int) -> None:
    answer = api.request("POST", "/v1.43/containers/create", body, headers=JSON)
    # dockerd answers a few of these with 500.
    assert answer.status in (status, 500), answer.body
    assert answer.message


def test_unknown_members_are_ignored(api: ApiClient) -> None:
    answer = api.post("/v1.43/containers/create", {"Image": "busybox", "NoSuchMember": {"x": [1]}})
    assert answer.status == 201, answer.body


@pytest.mark.parametrize("name", ["a", "-x", "../x", "a b", "%00x", "ä1"])
@pytest.mark.usefixtures("unchanged")
def test_bad_names_are_refused(api: ApiClient, name: str) -> None:
    answer = api.post("/v1.43/containers/create", {"Image": "busybox"}, name=name)
    assert answer.status == 400, answer.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1.43/containers/nobody/json", 404),
        ("POST", "/v1.43/containers/nobody/start", 404),
        ("DELETE", "/v1.43/containers/nobody", 404),
        ("GET", "/v1.43/images/nobody/json", 404),
        ("DELETE", "/v1.43/images/nobody", 404),
        ("GET", "/v1.43/networks/nobody", 404),
        ("GET", "/v1.43/volumes/nobody", 404),
        ("GET", "/v1.43/exec/nobody/json", 404),
        ("GET", "/v1.43/no/such/path", 404),
        ("GET", "/v1.43/containers/json?filters=%7B", 400),
        ("GET", "/v1.43/containers/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D", 400),
        ("GET", "/v1.43/containers/json?limit=x", 400),
        ("GET", "/v1.43/images/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D", 400),
        ("GET", "/v9.99/containers/json", 400),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_what_is_not_there_or_cannot_be_read(api: ApiClient, method: str, path: str, status: int) -> None:
    answer = api.request(method, path)
    assert answer.status in (status, 500), answer.body
    assert answer.message


def test_path_traversal_in_an_id_finds_nothing(api: ApiClient) -> None:
    for path in ("/containers/..%2f..%2fetc/json", "/images/..%2f..%2f/json", "/volumes/..%2f..%2fetc"):
        assert api.request("GET", path).status in (301, 400, 404), path


@pytest.mark.usefixtures("unchanged")
def test_an_ambiguous_id_is_refused(api: ApiClient) -> None:
    made = [api.post("/containers/create", {"Image": "busybox"}).json()["Id"] for _ in range(40)]
    try:
        first = next(each[0] for each in made if sum(other[0] == each[0] for other in made) > 1)
        answer = api.request("GET", f"/containers/{first}/json")
        assert answer.status in (400, 404), answer.body
        assert "multiple" in answer.message.lower() or "ambiguous" in answer.message.lower()
    finally:
        for identity in made:
            api.delete(f"/containers/{identity}")


def layer_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o755
    return member


def hostile_archives() -> dict[str, bytes]:
    """docker-archives that `load` must refuse."""
    good = docker_archive([layer_of((entry("file"), b"unique content"))], ["t-hostile:1"])
    wrong = bytearray(good)
    place = wrong.index(b"unique")
    wrong[place : place + 6] = b"UNIQUE"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        manifest = [{"Config": "../../../etc/passwd", "RepoTags": ["t-hostile:1"], "Layers": ["/etc/passwd"]}]
        add_file(archive, "manifest.json", json.dumps(manifest).encode())
    return {
        "not a tar at all": b"x" * 2000,
        "truncated": good[: len(good) // 2],
        "a layer whose digest is wrong": bytes(wrong),
        "a manifest that points outside": stream.getvalue(),
    }


@pytest.mark.parametrize("kind", list(hostile_archives()))
@pytest.mark.usefixtures("unchanged")
def test_load_refuses_a_hostile_archive(api: ApiClient, kind: str) -> None:
    answer = api.request("POST", "/images/load", hostile_archives()[kind], headers=TAR)
    assert answer.status >= 400 or b"error" in answer.body, answer.body


def escaping_layers(outside: Path) -> dict[str, bytes]:
    """Layers that try to write outside of their root."""
    target = str(outside / "written")
    return {
        "dotdot": layer_of((entry(f"../../../../../../../..{target}"), b"x")),
        "absolute": layer_of((entry(target), b"x")),
        "symlink": layer_of(
            (entry("link", tarfile.SYMTYPE, str(outside)), b""), (entry("link/written"), b"x")
        ),
        "relative symlink": layer_of(
            (entry("link", tarfile.SYMTYPE, f"../../../../../../../..{outside}"), b""),
            (entry("link/written"), b"x"),
        ),
        "hard link": layer_of(
            (entry("hard", tarfile.LNKTYPE, "/etc/hostname"), b""), (entry("hard"), b"changed")
        ),
        "hard link over dotdot": layer_of(
            (entry("hard", tarfile.LNKTYPE, "../../../../../../etc/hostname"), b"")
        ),
    }


@pytest.mark.parametrize("kind", list(escaping_layers(Path("/"))))
def test_no_layer_writes_outside_of_its_root(
    daemon: PrivateDaemon, name: str, tmp_path: Path, kind: str
) -> None:
    host_name = Path("/etc/hostname").read_bytes()
    layer = escaping_layers(tmp_path)[kind]
    archive = docker_archive([busybox_layer(), layer], [f"{name}:1"], Cmd=["sh"])
    daemon.api.request("POST", "/images/load", archive, headers=TAR)
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc/hostname").read_bytes() == host_name
    daemon.docker("run", "--rm", f"{name}:1", "sh", "-c", "echo x > /written; echo x > /hard")
    assert Path("/etc/hostname").read_bytes() == host_name
    daemon.docker("rmi", "-f", f"{name}:1")


@pytest.mark.parametrize("path", ["/../../../../../../etc", "/escape", "/escape/.."])
def test_an_archive_put_into_a_container_stays_inside(
    daemon: PrivateDaemon, name: str, tmp_path: Path, path: str
) -> None:
    daemon.docker.out(
        "run", "-d", "--name", name, "busybox", "sh", "-c", f"ln -s {tmp_path} /escape; sleep 1000"
    )
    daemon.docker.out("exec", name, "sh", "-c", "until test -L /escape; do :; done")
    archive = layer_of((entry("../../../../../../../../written"), b"x"), (entry("plain"), b"x"))
    daemon.api.request("PUT", f"/containers/{name}/archive", archive, query={"path": path}, headers=TAR)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/etc/plain").exists()
    assert not Path("/written").exists()


def test_an_archive_that_is_none_is_refused(daemon: PrivateDaemon, name: str) -> None:
    daemon.docker.out("create", "--name", name, "busybox")
    answer = daemon.api.request(
        "PUT", f"/containers/{name}/archive", b"not a tar" * 1000, query={"path": "/tmp"}, headers=TAR
    )
    assert answer.status in (400, 500), answer.body
    answer = daemon.api.request(
        "PUT", f"/containers/{name}/archive", b"", query={"path": "/no/such"}, headers=TAR
    )
    assert answer.status == 404, answer.body


@pytest.mark.parametrize(
    "text",
    [
        b"GET\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ],
    ids=["no path", "zeros", "version", "negative length", "long path", "many headers"],
)
def test_bytes_that_are_no_request_do_no_harm(daemon: PrivateDaemon, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(daemon.socket))
        try:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert daemon.api.request("GET", "/_ping").status == 200


def test_an_image_with_a_wrong_digest_is_refused(api: ApiClient) -> None:
    config: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    config["rootfs"]["diff_ids"] = [f"sha256:{digest(b'something else')}"]
    text = json.dumps(config).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, "config.json", text)
        add_file(archive, "layer.tar", layer_of((entry("another file"), b"x")))
        manifest = [{"Config": "config.json", "RepoTags": ["t-wrong:1"], "Layers": ["layer.tar"]}]
        add_file(archive, "manifest.json", json.dumps(manifest).encode())
    answer = api.request("POST", "/images/load", stream.getvalue(), headers=TAR)
    assert answer.status >= 400 or b"error" in answer.body
    assert api.request("GET", "/images/t-wrong:1/json").status == 404
