"""docker login, pull, push and logout, docker-py and skopeo, against Debian's docker-registry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as docker_sdk
import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient
from tests.harness.images import busybox_layer
from tests.harness.published import Published, make_layer, publish, publish_index
from tests.harness.registry import PASSWORD, USER, Authority, Registry, TokenServer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, shared_daemon: PrivateDaemon) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("plain"), network=shared_daemon.network) as registry:
        yield registry


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, shared_daemon: PrivateDaemon, authority: Authority
) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("secured")
    with Registry(folder, authority=authority, password=True, network=shared_daemon.network) as registry:
        yield registry


@pytest.fixture(scope="module")
def tokens(
    tmp_path_factory: pytest.TempPathFactory, shared_daemon: PrivateDaemon, authority: Authority
) -> Iterator[Registry]:
    server = TokenServer(authority, shared_daemon.network)
    folder = tmp_path_factory.mktemp("tokens")
    with Registry(folder, tokens=server, network=shared_daemon.network) as registry:
        yield registry
    server.close()


@pytest.fixture(autouse=True)
def remove_images(daemon: PrivateDaemon, api: ApiClient) -> Iterator[None]:
    """What a test brought into the shared daemon goes with it: others count images."""
    before = {image["Id"] for image in api.get("/images/json")}
    yield
    daemon.remove_containers()
    for image in api.get("/images/json"):
        for tag in image["RepoTags"] or []:
            if tag.startswith("127.0.0.1:"):
                api.delete(f"/images/{tag}", force="1")
        if image["Id"] not in before:
            api.delete(f"/images/{image['Id']}", force="1")


@pytest.fixture
def image(plain: Registry, name: str) -> Published:
    """An image that can be run and that no other test has."""
    marker = make_layer(name, 20_000)
    return publish(plain, f"team/{name}", "v1", [busybox_layer(), marker])


def lines_of(api: ApiClient, path: str, **query: str) -> list[dict[str, Any]]:
    """The progress lines of a POST."""
    answer = api.post(path, **query)
    assert answer.status == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


def test_a_pulled_image_runs(docker: DockerCli, image: Published) -> None:
    out = docker.out("pull", image.name)
    assert out.splitlines()[0] == f"v1: Pulling from {image.name.split('/', 1)[1].rpartition(':')[0]}"
    assert f"Digest: {image.digest}" in out
    assert f"Status: Downloaded newer image for {image.name}" in out
    assert docker.out("run", "--rm", image.name, "cat", "/var/www/index.html") == "hello from the island"
    assert docker.inspect(image.name, "image")["RepoDigests"] == [
        f"{image.name.rpartition(':')[0]}@{image.digest}"
    ]
    assert f"Status: Image is up to date for {image.name}" in docker.out("pull", image.name)


def test_run_pulls_what_is_missing(docker: DockerCli, image: Published) -> None:
    done = docker("run", "--rm", image.name, "echo", "pulled")
    assert (done.returncode, done.stdout) == (0, "pulled\n")
    assert f"Unable to find image '{image.name}' locally" in done.stderr
    assert docker("run", "--rm", "--pull", "never", image.name, "true").returncode == 0
    assert "Image is up to date" in docker("run", "--rm", "--pull", "always", image.name, "true").stderr


def test_an_image_is_pulled_by_digest_without_a_tag(docker: DockerCli, image: Published) -> None:
    name = f"{image.name.rpartition(':')[0]}@{image.digest}"
    assert docker.out("pull", "-q", name) == name
    assert docker.inspect(name, "image")["RepoTags"] == []
    assert docker.out("run", "--rm", name, "echo", "by digest") == "by digest"


def test_what_is_pushed_can_be_pulled_again(docker: DockerCli, plain: Registry, name: str) -> None:
    target = f"{plain.host}/pushed/{name}:v2"
    docker.out("tag", "busybox", target)
    image_id = docker.inspect(target, "image")["Id"]
    lines = docker.out("push", target).splitlines()
    assert lines[0] == f"The push refers to repository [{plain.host}/pushed/{name}]"
    assert lines[-1].startswith("v2: digest: sha256:") and " size: " in lines[-1]
    assert "Layer already exists" in docker.out("push", target)
    docker.out("rmi", target)
    docker.out("pull", target)
    assert docker.inspect(target, "image")["Id"] == image_id


def test_a_committed_image_is_pushed_and_pulled(docker: DockerCli, plain: Registry, name: str) -> None:
    target = f"{plain.host}/committed/{name}"
    docker.out("run", "--name", name, "busybox", "sh", "-c", "echo committed > /note")
    docker.out("commit", name, target)
    docker.out("push", target)
    docker.out("rmi", target)
    assert docker.out("run", "--rm", target, "cat", "/note") == "committed"


def test_all_tags_are_pushed_and_pulled(docker: DockerCli, plain: Registry, name: str) -> None:
    repository = f"{plain.host}/tags/{name}"
    for tag in ("one", "two"):
        docker.out("tag", "busybox", f"{repository}:{tag}")
    docker.out("push", "-a", repository)
    docker.out("rmi", f"{repository}:one", f"{repository}:two")
    docker.out("pull", "-a", repository)
    found = docker.out("images", "--format", "{{.Tag}}", repository).splitlines()
    assert sorted(found) == ["one", "two"]


def test_the_platform_of_an_index_is_chosen(docker: DockerCli, plain: Registry, name: str) -> None:
    repository = f"multi/{name}"
    images = {
        f"linux/{architecture}": publish(
            plain, repository, architecture, [make_layer(architecture)], architecture=architecture
        )
        for architecture in ("amd64", "arm64")
    }
    publish_index(plain, repository, "v1", images)
    target = f"{plain.host}/{repository}:v1"
    for platform, image in images.items():
        docker.out("pull", "--platform", platform, target)
        assert docker.inspect(target, "image")["Id"] == image.id
    done = docker("pull", "--platform", "linux/s390x", target)
    assert done.returncode == 1
    assert "no matching manifest for linux/s390x in the manifest list entries" in done.stderr


def test_login_lets_push_and_pull_and_logout_ends_it(docker: DockerCli, secured: Registry, name: str) -> None:
    target = f"{secured.host}/private/{name}"
    docker.out("tag", "busybox", target)
    refused = docker("push", target)
    assert refused.returncode == 1 and refused.stderr.strip() == "no basic auth credentials"
    login = docker("login", "-u", USER, "--password-stdin", secured.host, input=PASSWORD)
    assert login.returncode == 0 and "Login Succeeded" in login.stdout
    try:
        docker.out("push", target)
        docker.out("rmi", target)
        docker.out("pull", target)
    finally:
        docker.out("logout", secured.host)
    refused = docker("pull", target)
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith("no basic auth credentials")


def test_a_wrong_password_does_not_log_in(docker: DockerCli, secured: Registry, tokens: Registry) -> None:
    for registry in (secured, tokens):
        login = docker("login", "-u", USER, "--password-stdin", registry.host, input="wrong")
        assert login.returncode == 1
        assert login.stderr.startswith("Error response from daemon: ")
        assert "login attempt to" in login.stderr or "incorrect username or password" in login.stderr


def test_a_token_registry_keeps_an_identity_token_and_lets_push(
    docker: DockerCli, tokens: Registry, name: str
) -> None:
    target = f"{tokens.host}/tokens/{name}"
    docker.out("tag", "busybox", target)
    refused = docker("push", target)
    assert refused.returncode == 1
    assert refused.stderr.strip() == "denied: requested access to the resource is denied"
    docker.out("login", "-u", USER, "--password-stdin", tokens.host, input=PASSWORD)
    try:
        configuration = json.loads((Path(docker.environment["DOCKER_CONFIG"]) / "config.json").read_text())
        assert configuration["auths"][tokens.host]["identitytoken"]
        docker.out("push", target)
    finally:
        docker.out("logout", tokens.host)
    docker.out("rmi", target)
    docker.out("pull", target)


@pytest.mark.parametrize("tag", ["", ":v9", "@sha256:" + "0" * 64])
def test_an_unknown_image_is_reported_as_docker_does(docker: DockerCli, plain: Registry, tag: str) -> None:
    done = docker("pull", f"{plain.host}/no/such{tag}")
    assert done.returncode == 1
    shown = f"{plain.host}/no/such{tag or ':latest'}"
    assert done.stderr.strip() == (
        f"Error response from daemon: manifest for {shown} not found: manifest unknown: manifest unknown"
    )


def test_a_push_without_an_image_is_refused_in_the_stream(docker: DockerCli, plain: Registry) -> None:
    done = docker("push", f"{plain.host}/no/image:v1")
    assert done.returncode == 1
    assert done.stdout.strip() == f"The push refers to repository [{plain.host}/no/image]"
    assert done.stderr.strip() == (f"An image does not exist locally with the tag: {plain.host}/no/image")


def test_docker_hub_out_of_reach_is_an_error_and_no_hang(docker: DockerCli) -> None:
    done = docker("pull", "no-such-image-here", timeout_s=50)
    assert done.returncode == 1
    assert 'Get "https://registry-1.docker.io/v2/"' in done.stderr


def test_an_error_before_the_first_line_has_a_status(api: ApiClient, plain: Registry) -> None:
    answer = api.post("/images/create", fromImage=f"{plain.host}/no/such", tag="v1")
    assert answer.status == 404 and "manifest unknown" in answer.message
    assert api.post("/images/create", fromImage="UPPER", tag="x").status == 400
    assert api.post("/images/create", fromImage=f"{plain.host}/no/such", platform="a/b/c/d/e").status == 400


def test_a_malformed_account_header_counts_as_none(api: ApiClient, image: Published) -> None:
    answer = api.request(
        "POST",
        "/images/create",
        query={"fromImage": image.name},
        headers={"X-Registry-Auth": "not base64"},
    )
    assert answer.status == 200 and b"errorDetail" not in answer.body


def test_the_registrys_view_of_an_image_is_shown_without_pulling(api: ApiClient, image: Published) -> None:
    found = api.get(f"/distribution/{image.name}/json")
    assert found["Descriptor"]["digest"] == image.digest
    assert found["Descriptor"]["size"] == len(image.manifest)


def test_pull_and_push_are_events(docker: DockerCli, image: Published) -> None:
    docker.out("pull", image.name)
    docker.out("push", image.name)
    soon = f"{time.time() + 0.5:.3f}"
    events = docker.out("events", "--since", "5m", "--until", soon, "--filter", "type=image")
    seen = [line.split()[2] for line in events.splitlines() if f" {image.name} " in line]
    assert seen == ["pull", "push"]


def test_docker_py_pulls_and_pushes(daemon: PrivateDaemon, image: Published, plain: Registry) -> None:
    client = docker_sdk.DockerClient(base_url=f"unix://{daemon.socket}")
    try:
        pulled = client.images.pull(image.name)
        assert pulled.id == image.id
        repository = image.name.rpartition(":")[0] + "-copy"
        pulled.tag(repository, "v2")
        lines = list(client.images.push(repository, tag="v2", stream=True, decode=True))
        result = next(line["aux"] for line in lines if "aux" in line)
        assert result["Tag"] == "v2" and result["Digest"].startswith("sha256:")
        with pytest.raises(docker_sdk.errors.NotFound):
            client.images.pull(f"{plain.host}/no/such", tag="v1")
    finally:
        client.close()


def test_docker_py_logs_in_and_uses_the_account(daemon: PrivateDaemon, secured: Registry, name: str) -> None:
    client = docker_sdk.DockerClient(base_url=f"unix://{daemon.socket}")
    try:
        with pytest.raises(docker_sdk.errors.APIError, match="login attempt to"):
            client.login(USER, "wrong", registry=secured.host)
        answer = client.login(USER, PASSWORD, registry=secured.host)
        assert answer["Status"] == "Login Succeeded"
        repository = f"{secured.host}/sdk/{name}"
        client.images.get("busybox").tag(repository, "v1")
        lines = list(client.images.push(repository, tag="v1", stream=True, decode=True))
        assert not [line for line in lines if "error" in line]
        client.images.remove(f"{repository}:v1")
        assert client.images.pull(repository, tag="v1").id == client.images.get("busybox").id
    finally:
        client.close()


def test_skopeo_reads_what_was_pushed_and_its_copy_is_pulled(
    daemon: PrivateDaemon, plain: Registry, name: str, tmp_path: Path, needs_program: Callable[[str], str]
) -> None:
    skopeo = needs_program("skopeo")
    source = f"{plain.host}/skopeo/{name}:v1"
    daemon.docker.out("tag", "busybox", source)
    image_id = daemon.docker.inspect("busybox", "image")["Id"]
    daemon.docker.out("push", source)
    seen = daemon.network.run([skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{source}"])
    assert json.loads(seen.stdout)["config"]["digest"] == image_id
    copy = f"{plain.host}/skopeo/{name}-copy:v1"
    copied = daemon.network.run(
        [
            *(skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"),
            *("--format", "oci", f"docker://{source}", f"docker://{copy}"),
        ]
    )
    assert copied.returncode == 0, copied.stderr
    assert daemon.docker.out("run", "--rm", copy, "echo", "copied") == "copied"
