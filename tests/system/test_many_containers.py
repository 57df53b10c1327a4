"""Many at once: a hundred idle containers, thirty-two runs in parallel; all come and go without a leak."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.harness.daemon import PrivateDaemon


def test_32_runs_at_once_succeed(own_daemon: PrivateDaemon) -> None:
    own_daemon.docker.out("run", "--rm", "busybox", "true")
    before = own_daemon.leftovers()

    def run(number: int) -> str:
        return own_daemon.docker.out("run", "--rm", "busybox", "echo", str(number), timeout_s=110)

    with ThreadPoolExecutor(32) as clients:
        assert list(clients.map(run, range(32))) == [str(number) for number in range(32)]
    assert own_daemon.docker.out("ps", "-aq") == ""
    assert not own_daemon.wait_for_leftovers(before, processes=False)


def test_a_hundred_containers_start_and_stop_without_a_leak(own_daemon: PrivateDaemon) -> None:
    own_daemon.docker.out("run", "--rm", "busybox", "true")
    before = own_daemon.leftovers()
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    identities = []
    for _ in range(100):
        identities.append(own_daemon.api.post("/containers/create", body).json()["Id"])
        assert own_daemon.api.post(f"/containers/{identities[-1]}/start").status == 204
    running = own_daemon.api.get("/containers/json")
    addresses = {each["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for each in running}
    assert {each["Id"] for each in running} == set(identities)
    assert len(addresses) == 100
    for identity in identities:
        assert own_daemon.api.delete(f"/containers/{identity}", force="1").status == 204
    assert not own_daemon.wait_for_leftovers(before, processes=False)


def test_starts_and_removals_of_the_same_name_in_parallel_leave_one_winner(own_daemon: PrivateDaemon) -> None:
    def create(_: int) -> int:
        return own_daemon.docker("create", "--name", "wanted", "busybox").returncode

    with ThreadPoolExecutor(8) as clients:
        codes = list(clients.map(create, range(8)))
    assert sorted(codes) == [0] + [1] * 7


def test_a_file_of_200_mb_goes_through_cp_and_logs(own_daemon: PrivateDaemon) -> None:
    script = "head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 99"
    own_daemon.docker.out("run", "-d", "--name", "big", "busybox", "sh", "-c", script)
    assert own_daemon.docker.out("wait", "big", timeout_s=100) == "0"
    client = own_daemon.docker.popen("logs", "big")
    assert client.stdout is not None
    size = lines = 0
    while chunk := client.stdout.read(1 << 20):
        size += len(chunk)
        lines += chunk.count(b"\n")
    client.communicate()
    assert size - lines == 100_000_000
