"""The Python SDK (docker-py) at the daemon's socket."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import docker as docker_py
import pytest
from docker import errors

from tests.harness.daemon import PrivateDaemon
from tests.harness.images import add_file, busybox_archive


@pytest.fixture
def client(daemon: PrivateDaemon) -> Iterator[Any]:
    sdk = docker_py.DockerClient(base_url=f"unix://{daemon.socket}", timeout=30)
    yield sdk
    sdk.close()


def test_versions_are_negotiated(client: Any) -> None:
    assert client.ping() is True
    assert client.version()["ApiVersion"]
    assert client.info()["Containers"] >= 0


def test_run_returns_the_output(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"


def test_run_raises_what_the_container_says_on_failure(client: Any) -> None:
    with pytest.raises(errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert b"why" in caught.value.stderr


def test_a_container_s_life(client: Any, name: str) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], name=name, detach=True, labels={"a": "b"})
    assert container.status in ("created", "running")
    container.reload()
    assert (container.status, container.labels["a"]) == ("running", "b")
    assert container.exec_run(["sh", "-c", "echo out; exit 4"]) == (4, b"out\n")
    assert [each.name for each in client.containers.list(filters={"name": name})] == [name]
    assert container.stats(stream=False)["memory_stats"]["usage"] > 0
    assert container.top()["Processes"][0][-1].endswith("sleep 1000")
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(errors.NotFound):
        client.containers.get(name)


def test_logs_are_followed(client: Any, name: str) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo a; echo b"], name=name, detach=True)
    assert b"".join(container.logs(stream=True, follow=True)) == b"a\nb\n"


def test_streams_of_an_exec_are_separate(client: Any, name: str) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], name=name, detach=True)
    found = container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert found.output == (b"out\n", b"err\n")


def test_a_socket_is_attached_both_ways(client: Any, name: str) -> None:
    container = client.containers.create("busybox", ["cat"], name=name, stdin_open=True, tty=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"typed\n")
    assert b"typed" in stream._sock.recv(100)
    stream.close()


def test_files_go_in_and_out(client: Any, name: str) -> None:
    container = client.containers.create("busybox", name=name)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, "file", b"content")
    assert container.put_archive("/tmp", stream.getvalue())
    chunks, stat = container.get_archive("/tmp/file")
    assert (stat["name"], stat["size"]) == ("file", 7)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.extractfile("file")
        assert member is not None and member.read() == b"content"


def test_images_are_loaded_tagged_saved_and_removed(client: Any, name: str) -> None:
    (image,) = client.images.load(busybox_archive())
    assert image.tag(name, "1")
    saved = b"".join(client.images.get(f"{name}:1").save(named=f"{name}:1"))
    client.images.remove(f"{name}:1")
    client.images.load(saved)
    assert client.images.get(f"{name}:1").id == image.id
    client.images.remove(f"{name}:1")
    with pytest.raises(errors.ImageNotFound):
        client.images.get(f"{name}:1")


def test_networks_and_volumes(client: Any, name: str) -> None:
    network = client.networks.create(name, driver="bridge")
    volume = client.volumes.create(name, labels={"a": "b"})
    try:
        container = client.containers.run(
            "busybox",
            ["sleep", "1000"],
            network=name,
            volumes={name: {"bind": "/data", "mode": "rw"}},
            detach=True,
        )
        network.reload()
        assert [each.id for each in network.containers] == [container.id]
        assert volume.attrs["Labels"] == {"a": "b"}
        container.remove(force=True)
    finally:
        network.remove()
        volume.remove()


def test_events_arrive(client: Any, name: str) -> None:
    events = client.events(decode=True, filters={"container": name})
    client.containers.run("busybox", ["true"], name=name, remove=True)
    actions = []
    for event in events:
        actions.append(event["Action"])
        if event["Action"] == "destroy":
            break
    assert [each for each in actions if each in ("create", "start", "die", "destroy")] == [
        *("create", "start", "die", "destroy"),
    ]
    events.close()


def test_an_image_is_built(client: Any, name: str) -> None:
    dockerfile = io.BytesIO(f"FROM busybox\nRUN echo {name} > /made\nCMD cat /made\n".encode())
    image, lines = client.images.build(fileobj=dockerfile, tag=name, rm=True)
    assert image.tags == [f"{name}:latest"]
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert client.containers.run(name, remove=True).decode() == f"{name}\n"
    client.images.remove(name)
    with pytest.raises(errors.BuildError, match="returned a non-zero code: 5"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 5\n"), rm=True)
