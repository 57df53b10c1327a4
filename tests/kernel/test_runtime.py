"""A container from start to exit, through the real spawner, monitor and kernel."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from seom.containers.runtime import Attachment, StartFailure, StartRequest, Stdio
from seom.linux.cgroup import Cgroup
from tests.harness.sandboxes import Client, Host, spec
from tests.kernel.conftest import OnHost


def log_entries(request: StartRequest) -> list[dict[str, str]]:
    assert request.log is not None
    return [json.loads(line) for line in Path(request.log.path).read_text().splitlines()]


def test_a_program_runs_in_namespaces_of_its_own(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        ended, output = await host.run(
            spec("sh", "-c", "echo $$; hostname; cat /proc/net/dev | wc -l; exit 7")
        )
        assert output.split() == ["1", "sandbox", "3"]
        assert ended.code == 7

    on_host(test)


def test_a_signal_is_reported_as_128_plus_its_number(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        workload = await host.start(spec("sleep", "1000"))
        workload.signal(9)
        assert (await workload.wait()).code == 137

    on_host(test)


@pytest.mark.parametrize(
    ("program", "number", "message"),
    [
        ("absent", 2, 'exec: "absent": executable file not found in $PATH'),
        ("/absent", 2, 'exec: "/absent": stat /absent: no such file or directory'),
        ("/etc/passwd", 13, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 13, 'exec: "/etc": is a directory'),
    ],
)
def test_a_program_that_cannot_be_executed_is_a_start_failure(
    on_host: OnHost, program: str, number: int, message: str
) -> None:
    async def test(host: Host) -> None:
        with pytest.raises(StartFailure) as failure:
            await host.start(spec(program))
        assert (failure.value.stage, failure.value.errno) == ("exec", number)
        assert failure.value.message == message

    on_host(test)


def test_output_is_logged_line_by_line_in_the_json_file_format(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        request = host.request(spec("sh", "-c", 'echo "a<b>"; echo err >&2; printf rest'))
        workload = await host.runtime.start(request)
        await workload.wait()
        entries = log_entries(request)
        texts = sorted((entry["stream"], entry["log"]) for entry in entries)
        assert texts == [("stderr", "err\n"), ("stdout", "a<b>\n"), ("stdout", "rest")]

    on_host(test)


def test_an_attached_client_feeds_stdin_and_half_closes_it(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        request = host.request(spec("sort"), stdio=Stdio(False, True, True))
        workload = await host.runtime.start(request, attachments=[client.attachment(stdin=True)])
        await client.send(b"b\na\n")
        client.end_input()
        assert await client.read_all() == b"a\nb\n"
        assert (await workload.wait()).code == 0

    on_host(test)


def test_an_exec_joins_the_container(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        workload = await host.start(spec("sleep", "1000"))
        client = Client()
        process = spec(
            "sh", "-c", "hostname; (readlink /proc/1/ns/pid; readlink /proc/self/ns/pid) | uniq; exit 5"
        ).process
        assert process is not None
        run = await workload.exec("exec", process, Stdio(False, False, True), [client.attachment()])
        output = (await client.read_all()).decode().split()
        assert output[0] == "sandbox" and len(output) == 2
        assert (await run.wait()).code == 5
        workload.signal(9)
        await workload.wait()

    on_host(test)


def test_a_terminal_is_allocated_inside_and_resized(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        given = spec(
            "sh", "-c", "trap 'stty size; exit' WINCH; tty; stty size; while :; do sleep 0.01; done", tty=True
        )
        request = host.request(given, stdio=Stdio(True, True, False, rows=20, columns=30))
        workload = await host.runtime.start(request, attachments=[client.attachment(stdin=True)])
        assert (await client.read_until(b"20 30")).startswith(b"/dev/pts/0")
        await workload.resize(40, 50)
        assert b"40 50" in await client.read_all()

    on_host(test)


def test_detach_keys_let_a_client_go_while_the_program_runs_on(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        request = host.request(spec("cat", tty=True), stdio=Stdio(True, True, False))
        workload = await host.runtime.start(request, attachments=[client.attachment(stdin=True)])
        await client.send(b"x")
        await client.read_until(b"x")
        await client.send(b"\x10\x11")
        assert await client.read_all() == b""
        assert workload.ended is None
        other = Client()
        attachment: Attachment = other.attachment(stdin=True)
        await workload.attach(attachment)
        await other.send(b"\n\x04")
        await other.read_all()
        await workload.wait()

    on_host(test)


FLOOD_BYTES = 8 * 1024 * 1024


def test_every_client_gets_all_output_in_docker_frames(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        first, second = Client(), Client()
        request = host.request(spec("sh", "-c", "echo out; echo err >&2"))
        attachments = [client.attachment(framed=True) for client in (first, second)]
        workload = await host.runtime.start(request, attachments=attachments)
        for client in (first, second):
            output = await client.read_all()
            assert b"\x01\0\0\0\0\0\0\x04out\n" in output
            assert b"\x02\0\0\0\0\0\0\x04err\n" in output
        await workload.wait()

    on_host(test)


def test_a_slow_client_loses_nothing_and_one_that_stops_reading_is_sent_away(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        stuck, reading = Client(), Client()
        request = host.request(spec("sh", "-c", f"yes 0123456 | head -c {FLOOD_BYTES}"))
        attachments = [client.attachment() for client in (stuck, reading)]
        workload = await host.runtime.start(request, attachments=attachments)
        assert len(await reading.read_all()) == FLOOD_BYTES
        assert (await workload.wait()).code == 0
        assert len(log_entries(request)) == FLOOD_BYTES // 8
        assert len(await stuck.read_all()) < FLOOD_BYTES

    on_host(test)


def test_the_only_client_holds_the_output_back_until_it_reads(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        request = host.request(spec("sh", "-c", f"yes 0123456 | head -c {FLOOD_BYTES}; echo done >&2"))
        workload = await host.runtime.start(request, attachments=[client.attachment()])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await workload.wait()
        output = await client.read_all()
        assert len(output) == FLOOD_BYTES + 5
        assert (await workload.wait()).code == 0

    on_host(test)


def test_stdin_stays_open_for_the_next_client_unless_it_is_for_one(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        workload = await host.runtime.start(
            host.request(spec("head", "-n2"), stdio=Stdio(False, True, False))
        )
        for text in (b"first\n", b"second\n"):
            client = Client()
            await workload.attach(client.attachment(stdin=True))
            await client.send(text)
            client.end_input()
            await client.read_all()
        assert (await workload.wait()).code == 0

    on_host(test)


def test_input_that_came_before_the_attachment_is_passed_on(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        request = host.request(spec("cat"), stdio=Stdio(False, True, True))
        attachment = client.attachment(stdin=True, early_input=b"early ")
        await host.runtime.start(request, attachments=[attachment])
        await client.send(b"late")
        client.end_input()
        assert await client.read_all() == b"early late"

    on_host(test)


def test_what_a_child_of_an_exec_still_writes_is_waited_for_two_seconds_at_most(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        workload = await host.start(spec("sleep", "1000"))
        process = spec("sh", "-c", "sleep 1000 & (sleep 0.2; echo late) & exit 0").process
        assert process is not None
        client = Client()
        run = await workload.exec("exec", process, Stdio(False, False, True), [client.attachment()])
        assert await client.read_all() == b"late\n"
        assert (await run.wait()).code == 0
        workload.signal(9)
        await workload.wait()

    on_host(test)


def test_starts_in_parallel_do_not_disturb_one_another(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        results = await asyncio.gather(*(host.run(spec("echo", str(number))) for number in range(32)))
        assert [output for _, output in results] == [f"{number}\n" for number in range(32)]

    on_host(test)


def test_a_client_whose_input_nobody_reads_still_sees_a_clean_end(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        client = Client()
        request = host.request(spec("sh", "-c", "echo fine"), stdio=Stdio(False, True, True))
        workload = await host.runtime.start(request, attachments=[client.attachment(stdin=True)])
        try:
            while True:
                client.socket.send(b"y\n" * 4096)
        except (BlockingIOError, BrokenPipeError):
            pass
        assert await client.read_all() == b"fine\n"
        assert (await workload.wait()).code == 0

    on_host(test)


def test_an_exec_in_a_paused_container_fails_at_once(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        request = host.request(spec("sleep", "1000"))
        workload = await host.runtime.start(request)
        process = spec("true").process
        assert process is not None
        group = Cgroup(request.cgroup)
        group.freeze()
        with pytest.raises(StartFailure, match="paused"):
            await workload.exec("refused", process, Stdio(False, False, True))
        group.thaw()
        run = await workload.exec("works", process, Stdio(False, False, True))
        assert (await run.wait()).code == 0
        workload.signal(9)
        await workload.wait()

    on_host(test)
