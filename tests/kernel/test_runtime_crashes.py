"""kill -9 of the daemon, the spawner or a monitor: no container, exit code or log line is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seom.containers.runtime import ExitRecord, Runtime, StartRequest, Stdio, Workload
from seom.linux.cgroup import Cgroup
from tests.harness.sandboxes import Client, Host, host, spec

COUNT = 'i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "line $i"; echo "other $i" >&2; done; exit 4'


def lines(request: StartRequest, stream: str) -> list[str]:
    assert request.log is not None
    entries = map(json.loads, Path(request.log.path).read_text().splitlines())
    return [entry["log"] for entry in entries if entry["stream"] == stream]


def first_difference(logged: list[str], word: str) -> tuple[int, list[str]] | None:
    """Where the log is not WORD 1, WORD 2 ... up to 40,000, and what is there."""
    for number, line in enumerate(logged, start=1):
        if line != f"{word} {number}\n":
            return number, logged[number - 2 : number + 2]
    return None if len(logged) == 40_000 else (len(logged), logged[-2:])


async def kill_and_wait(pid: int) -> None:
    """SIGKILL, and wait until the process is gone, if it has not ended by itself."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    os.kill(pid, signal.SIGKILL)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)


async def kill_monitor(workload: Workload) -> None:
    """Kill the monitor, and wait until another one has reported or the workload has ended."""
    while not workload.monitor_pid:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    killed = workload.monitor_pid
    await kill_and_wait(killed)
    while workload.monitor_pid == killed and workload.ended is None:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_every_line_is_logged_once_although_monitors_are_killed_again_and_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            request = made.request(spec("sh", "-c", COUNT % 40_000))
            workload = await made.runtime.start(request)
            kills = 0
            while workload.ended is None:
                await kill_monitor(workload)
                kills += 1
            assert (await workload.wait()).code == 4
            assert kills > 3
            assert first_difference(lines(request, "stdout"), "line") is None
            assert first_difference(lines(request, "stderr"), "other") is None
            assert not Cgroup(request.cgroup).exists()

    asyncio.run(main())


def test_a_replaced_monitor_serves_stdin_and_new_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            request = made.request(spec("cat"), stdio=Stdio(False, True, True))
            workload = await made.runtime.start(request)
            await kill_monitor(workload)
            client = Client()
            await workload.attach(client.attachment(stdin=True))
            await client.send(b"hello\n")
            client.end_input()
            assert await client.read_all() == b"hello\n"
            assert (await workload.wait()).code == 0

    asyncio.run(main())


def test_a_terminal_outlives_its_monitor(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            request = made.request(spec("sh", tty=True), stdio=Stdio(True, True, False))
            workload = await made.runtime.start(request)
            await kill_monitor(workload)
            client = Client()
            await workload.attach(client.attachment(stdin=True))
            await client.send(b"exit 9\n")
            await client.read_all()
            assert (await workload.wait()).code == 9

    asyncio.run(main())


def test_the_spawner_can_be_killed_between_starts(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            first = await made.start(spec("sleep", "1000"))
            assert made.runtime.spawner_pid is not None
            killed = made.runtime.spawner_pid
            await kill_and_wait(killed)
            ended, output = await made.run(spec("echo", "second"))
            assert made.runtime.spawner_pid != killed
            assert (ended.code, output) == (0, "second\n")
            first.signal(signal.SIGKILL)
            assert (await first.wait()).code == 137

    asyncio.run(main())


def test_an_exit_code_survives_the_death_of_spawner_and_monitor(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            request = made.request(spec("sh", "-c", "read line; exit 6"), stdio=Stdio(False, True, True))
            workload = await made.runtime.start(request)
            assert made.runtime.spawner_pid is not None
            await kill_and_wait(made.runtime.spawner_pid)
            await kill_monitor(workload)
            client = Client()
            await workload.attach(client.attachment(stdin=True))
            await client.send(b"\n")
            assert (await workload.wait()).code == 6

    asyncio.run(main())


DAEMON = """
import asyncio, sys
from pathlib import Path
from tests.harness.sandboxes import host, spec
from tests.kernel.test_runtime_crashes import COUNT
async def main():
    async with host(Path(sys.argv[1])) as made:
        request = made.request(spec("sh", "-c", "read line < /fifo; " + COUNT % 1000))
        await made.runtime.start(request)
        print(request.id, request.directory, request.log.path, request.cgroup, made.group, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_new_daemon_finds_the_containers_of_a_killed_one(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON.replace("read line < /fifo", "sleep 0.5"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as daemon:
        assert daemon.stdout is not None
        name, directory, log, group, parent = daemon.stdout.readline().split()
        daemon.kill()

    async def main() -> None:
        runtime = Runtime(tmp_path / "run2", "test")
        await runtime.open()
        try:
            found = await runtime.adopt(name, Path(directory))
            assert isinstance(found, Workload)
            assert found.watch.cgroup == group
            assert (await found.wait()).code == 4
            again = await runtime.adopt(name, Path(directory))
            assert isinstance(again, ExitRecord) and again.code == 4
            assert await runtime.adopt("never", tmp_path / "absent") is None
        finally:
            await runtime.close()

    asyncio.run(main())
    assert len(Path(log).read_text().splitlines()) == 2000
    assert not Cgroup(group).exists()
    Cgroup(parent).remove()


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with host(tmp_path) as made:
            request = made.request(spec("absent"))
            with pytest.raises(Exception, match="executable file not found"):
                await made.runtime.start(request)
            assert not Cgroup(request.cgroup).exists()
            await check_no_descriptors_leak(made)

    asyncio.run(main())
    assert tmp_path.name not in Path("/proc/self/mountinfo").read_text()


async def check_no_descriptors_leak(made: Host) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await made.run(spec("true"))
    assert len(os.listdir("/proc/self/fd")) <= before
