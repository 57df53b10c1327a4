"""Many clients doing everything to a few containers at once: refusals are fine, failures and leaks not."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.http_client import ApiClient

CLIENTS = 8
REQUESTS_EACH = 60
NAMES = ["one", "two", "three", "four"]

CREATE = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"],
    "Volumes": {"/data": {}},
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    "ExposedPorts": {"80/tcp": {}},
}


def request_of(generator: random.Random, client: ApiClient) -> tuple[str, int, str]:
    """Send one request chosen at random: (what, status, message)."""
    name = generator.choice(NAMES)
    path = f"/containers/{name}"
    choices = [
        ("POST", f"/containers/create?name={name}", CREATE),
        ("POST", f"/containers/create?name={name}", CREATE),
        ("POST", f"{path}/start", None),
        ("POST", f"{path}/start", None),
        ("POST", f"{path}/stop?t=0", None),
        ("POST", f"{path}/kill", None),
        ("POST", f"{path}/restart?t=0", None),
        ("POST", f"{path}/pause", None),
        ("POST", f"{path}/unpause", None),
        ("POST", f"{path}/rename?name={generator.choice(NAMES)}", None),
        ("POST", f"{path}/update", {"Memory": 64 << 20, "MemorySwap": 128 << 20}),
        ("POST", f"{path}/exec", {"Cmd": ["true"]}),
        ("POST", f"/commit?container={name}&repo=made", {}),
        ("POST", "/networks/extra/connect", {"Container": name}),
        ("POST", "/networks/extra/disconnect", {"Container": name, "Force": True}),
        ("GET", f"{path}/json", None),
        ("GET", f"{path}/stats?stream=0&one-shot=1", None),
        ("GET", f"{path}/top", None),
        ("GET", "/containers/json?all=1&size=1", None),
        ("DELETE", f"{path}?force=1&v=1", None),
        ("DELETE", f"{path}?v=1", None),
        ("POST", "/containers/prune", None),
        ("POST", "/images/prune", None),
        ("POST", "/volumes/prune", None),
    ]
    method, target, body = generator.choice(choices)
    answer = client.request(method, target, body)
    return f"{method} {target}", answer.status, answer.body.decode()[:300]


@pytest.mark.parametrize("seed", [1, 2])
def test_clients_that_get_in_each_other_s_way_break_nothing(own_daemon: PrivateDaemon, seed: int) -> None:
    own_daemon.docker.out("run", "--rm", "busybox", "true")
    own_daemon.docker.out("network", "create", "extra")
    before = own_daemon.leftovers()

    def client(number: int) -> list[tuple[str, int, str]]:
        generator = random.Random(seed * 1000 + number)
        connection = ApiClient(own_daemon.socket, timeout_s=100)
        try:
            return [request_of(generator, connection) for _ in range(REQUESTS_EACH)]
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [answer for each in clients.map(client, range(CLIENTS)) for answer in each]
    assert [answer for answer in answers if answer[1] >= 500] == [], own_daemon.log[-3000:]
    assert sum(answer[1] < 300 for answer in answers) > 50
    own_daemon.remove_containers()
    assert not own_daemon.wait_for_leftovers(before, processes=False)
    assert "Traceback" not in own_daemon.log, own_daemon.log[-3000:]
    # Pruned containers leave their anonymous volumes, as with Docker; nobody must hold them any more.
    own_daemon.docker.out("volume", "prune", "--force")
    assert own_daemon.docker.out("volume", "ls", "-q") == ""
    assert own_daemon.docker.out("run", "--rm", "busybox", "echo", "fine") == "fine"
