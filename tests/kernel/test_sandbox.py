"""What a container's process is given, and what it is denied, seen from inside."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seom.containers.runtime import StartFailure, Stdio
from seom.containers.seccomp_profile import default_profile
from seom.oci.runtime_spec import Capabilities, IdMapping, Mount, Namespace, Rlimit, Root, User
from tests.harness.sandboxes import NAMESPACES, Client, Host, spec, with_linux, with_process
from tests.kernel.conftest import OnHost

TWO = ["CAP_CHOWN", "CAP_NET_RAW"]


def runs(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_unprivileged_user_gets_ids_groups_and_no_capabilities(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_process(
            spec("sh", "-c", "id; grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status; echo x > /dev/stdout"),
            user=User(1000, 1001, additional_gids=[7, 8]),
            capabilities=Capabilities(bounding=TWO),
        )
        ended, output = await host.run(given)
        assert "uid=1000 gid=1001 groups=1001,7,8" in output or "uid=1000 gid=1001 groups=7,8" in output
        assert "CapEff:\t0000000000000000" in output and "CapBnd:\t0000000000002001" in output
        assert output.endswith("x\n") and ended.code == 0

    on_host(test)


def test_ambient_capabilities_reach_the_program_of_another_user(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        sets = Capabilities(bounding=TWO, effective=TWO, permitted=TWO, inheritable=TWO, ambient=TWO)
        given = with_process(
            spec("grep", "CapEff", "/proc/self/status"), user=User(1000, 1000), capabilities=sets
        )
        assert "0000000000002001" in (await host.run(given))[1]

    on_host(test)


def test_bind_mounts_are_read_only_down_to_what_is_mounted_below_if_asked(
    on_host: OnHost, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("content")

    async def test(host: Host) -> None:
        source = str(tmp_path / "source")
        mounts = [
            Mount("/writable", "bind", source, ["rbind", "rprivate"]),
            Mount("/readonly", "bind", source, ["rbind", "ro", "rprivate"]),
            Mount("/a/new/file", "bind", f"{source}/file", ["bind", "rro"]),
        ]
        script = (
            "echo new > /writable/made; cat /a/new/file; "
            "echo x 2>/dev/null > /readonly/y || echo denied; echo x 2>/dev/null > /a/new/file || echo denied"
        )
        _, output = await host.run(spec("sh", "-c", script, mounts=mounts))
        assert output == "contentdenied\ndenied\n"

    on_host(test)
    assert (tmp_path / "source/made").read_text() == "new\n"


@pytest.mark.parametrize("target", ["/escape/inner", "/escape", "/dangling/file", "/up/x"])
def test_links_in_an_image_lead_no_mount_out_of_the_root(
    on_host: OnHost, tmp_path: Path, target: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    async def test(host: Host) -> None:
        (host.lower / "escape").symlink_to(outside)
        (host.lower / "dangling").symlink_to("/made/later")
        (host.lower / "up").symlink_to("../../../../../../tmp")
        mounts = [Mount(target, "tmpfs", "tmpfs", ["size=64k"])]
        _, output = await host.run(spec("sh", "-c", f"touch {target}/marker && ls {target}", mounts=mounts))
        assert output == "marker\n"

    on_host(test)
    assert os.listdir(outside) == []


def test_masked_and_readonly_paths_cannot_be_used(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_linux(
            spec("sh", "-c", "cat /etc/secret; ls /private; echo 1 > /proc/sys/kernel/panic; touch /etc/x"),
            masked_paths=["/etc/secret", "/private", "/absent"],
            readonly_paths=["/proc/sys", "/etc", "/absent"],
        )
        (host.lower / "etc/secret").write_text("secret")
        (host.lower / "private").mkdir()
        (host.lower / "private/key").write_text("key")
        _, output = await host.run(given)
        assert "secret\n" not in output and "key" not in output
        assert output.count("Read-only file system") == 2

    on_host(test)


def test_a_readonly_root_still_has_writable_mounts(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = spec("sh", "-c", "touch /x 2>&1; touch /tmp/y && touch /dev/shm/z && echo fine")
        given.root = Root("/", readonly=True)
        given.mounts.append(Mount("/tmp", "tmpfs", "tmpfs", ["mode=1777"]))
        _, output = await host.run(given)
        assert "Read-only file system" in output and output.endswith("fine\n")

    on_host(test)


def test_the_working_directory_is_made_when_it_is_missing(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_process(spec("pwd"), cwd="/srv/new/place")
        assert (await host.run(given))[1] == "/srv/new/place\n"

    on_host(test)


def test_the_host_is_out_of_reach(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        script = (
            "ls /.. ; cat /proc/self/mountinfo | grep -c vda;cat /proc/self/cgroup | grep -v ':/$'; ls /dev"
        )
        _, output = await host.run(spec("sh", "-c", script))
        assert (await host.run(spec("ls", "/proc/self/fd")))[1].split() == ["0", "1", "2", "3"]
        assert "vda" not in output and "work" not in output

    on_host(test)


def test_the_interpreter_of_the_host_cannot_be_overwritten_from_a_container(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        powers = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]
        everything = Capabilities(bounding=powers, effective=powers, permitted=powers)
        given = with_process(
            spec("sh", "-c", "readlink /proc/1/exe && echo x > /proc/1/exe"), capabilities=everything
        )
        ended, output = await host.run(given, init=True)
        assert ended.code != 0 and "/proc/1/exe: Read-only file system" in output
        with pytest.raises(OSError, match="Read-only"):
            os.open(f"/proc/{host.runtime.spawner_pid}/exe", os.O_WRONLY | os.O_TRUNC)

    on_host(test)


def test_init_reaps_orphans_and_hands_on_signals(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        script = (
            "trap 'echo got; exit 3' TERM; (sleep 0.01 &); sleep 0.2; ps -o pid,comm,stat | grep -c Z; "
            "echo ready; while :; do sleep 0.01; done"
        )
        request = host.request(spec("sh", "-c", script), init=True)
        client = Client()
        workload = await host.runtime.start(request, attachments=[client.attachment()])
        assert (await client.read_until(b"ready\n")).startswith(b"0\n")
        workload.signal(15)
        assert await client.read_all() == b"got\n"
        assert (await workload.wait()).code == 3

    on_host(test)


def test_init_shows_the_container_nothing_of_the_host(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        request = host.request(spec("sh", "-c", "cat /proc/1/cmdline | tr -d '\\0'; sleep 100"), init=True)
        client = Client()
        workload = await host.runtime.start(request, attachments=[client.attachment()])
        assert await client.read_until(b"init") == b"seom-init"
        environment = Path(f"/proc/{workload.pid}/environ").read_bytes()  # noqa: ASYNC240
        assert not environment.strip(b"\0")
        workload.signal(9)
        await workload.wait()

    on_host(test)


def test_limits_umask_and_oom_score_are_set(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_process(
            spec("sh", "-c", "ulimit -n; ulimit -c; umask; cat /proc/self/oom_score_adj"),
            rlimits=[Rlimit("RLIMIT_NOFILE", 123, 123), Rlimit("RLIMIT_CORE", 0, 0)],
            oom_score_adj=500,
            user=User(0, 0, umask=0o27),
        )
        assert (await host.run(given))[1].split() == ["123", "0", "0027", "500"]

    on_host(test)


def test_sysctls_of_the_container_are_set_and_those_of_the_host_refused(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = spec("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni")
        wanted = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
        assert (await host.run(with_linux(given, sysctl=wanted)))[1].split() == ["1", "77"]
        for key in ("kernel.panic", "net.//.kernel.panic", "vm.swappiness"):
            with pytest.raises(StartFailure) as failure:
                await host.run(with_linux(given, sysctl={key: "1"}))
            assert failure.value.stage == "sysctl"

    on_host(test)


def test_the_default_seccomp_filter_denies_mount_and_new_namespaces(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        everything = [f"CAP_{name}" for name in ("SYS_ADMIN", "SYS_CHROOT", "CHOWN")]
        sets = Capabilities(bounding=everything, effective=everything, permitted=everything)
        for no_new_privileges in (False, True):
            given = with_process(
                spec("sh", "-c", "mount -t tmpfs x /tmp; unshare -m true; grep Seccomp: /proc/self/status"),
                capabilities=sets,
                no_new_privileges=no_new_privileges,
            )
            _, output = await host.run(with_linux(given, seccomp=default_profile([])))
            assert "Seccomp:\t2" in output
            assert output.count("ermitted") + output.count("denied") == 2

    on_host(test)


def test_a_user_namespace_maps_root_to_an_unprivileged_user(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_linux(
            spec("sh", "-c", "id -u; cat /proc/self/uid_map; touch /made; hostname; ls /dev/null"),
            namespaces=[Namespace(kind) for kind in (*NAMESPACES, "user")],
            uid_mappings=[IdMapping(0, 100_000, 65536)],
            gid_mappings=[IdMapping(0, 100_000, 65536)],
        )
        request = host.request(given)
        assert request.rootfs is not None
        for folder in (request.rootfs.upper, request.rootfs.work):
            os.chown(folder, 100_000, 100_000)
        client = Client()
        workload = await host.runtime.start(request, attachments=[client.attachment()])
        output = (await client.read_all()).decode()
        await workload.wait()
        assert output.split() == ["0", "0", "100000", "65536", "sandbox", "/dev/null"]
        assert os.stat(f"{request.rootfs.upper}/made").st_uid == 100_000

    on_host(test)


def test_an_exec_enters_the_user_namespace_with_a_terminal_of_the_container(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        given = with_linux(
            spec("sleep", "1000"),
            namespaces=[Namespace(kind) for kind in (*NAMESPACES, "user")],
            uid_mappings=[IdMapping(0, 100_000, 65536)],
            gid_mappings=[IdMapping(0, 100_000, 65536)],
        )
        request = host.request(given)
        assert request.rootfs is not None
        for folder in (request.rootfs.upper, request.rootfs.work):
            os.chown(folder, 100_000, 100_000)
        workload = await host.runtime.start(request)
        client = Client()
        process = spec("sh", "-c", "id -u; tty; cat /proc/self/uid_map; exit 4").process
        assert process is not None
        run = await workload.exec("exec", process, Stdio(True, False, True), [client.attachment()])
        assert (await client.read_all()).split() == [b"0", b"/dev/pts/0", b"0", b"100000", b"65536"]
        assert (await run.wait()).code == 4
        workload.signal(9)
        await workload.wait()

    on_host(test)


def test_namespaces_of_another_container_are_joined_by_path(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        first = await host.start(spec("sleep", "1000"))
        joined = [
            Namespace(kind, f"/proc/{first.pid}/ns/{'net' if kind == 'network' else kind}")
            if kind in ("pid", "ipc", "network", "uts")
            else Namespace(kind)
            for kind in NAMESPACES
        ]
        given = with_linux(spec("sh", "-c", "ps -o comm | grep sleep; hostname"), namespaces=joined)
        given.hostname = ""
        assert (await host.run(given))[1].split() == ["sleep", "sandbox"]
        first.signal(9)
        await first.wait()

    on_host(test)


def test_without_a_pid_namespace_nothing_outlives_the_first_process(on_host: OnHost) -> None:
    pids: list[int] = []

    async def test(host: Host) -> None:
        given = with_linux(
            spec("sh", "-c", "sleep 1000 & echo $!"),
            namespaces=[Namespace(kind) for kind in NAMESPACES if kind != "pid"],
        )
        _, output = await host.run(given)
        pids.append(int(output))

    on_host(test)
    assert not runs(pids[0])


def test_more_lowers_than_a_page_of_options_holds_are_mounted(on_host: OnHost) -> None:
    async def test(host: Host) -> None:
        request = host.request(spec("sh", "-c", "cat /layer*/n | wc -l"))
        lowers = []
        for number in range(100):
            layer = host.directory / "layers" / f"{number:064d}"
            (layer / f"layer{number}").mkdir(parents=True)
            (layer / f"layer{number}" / "n").write_text("x\n")
            lowers.append(str(layer))
        assert request.rootfs is not None
        rootfs = replace(request.rootfs, lowers=[*lowers, *request.rootfs.lowers])
        assert (await host.run(request.spec, rootfs=rootfs))[1] == "100\n"

    on_host(test)


TWO_PHASES = """
import os, sys
from seom.containers import sandbox
from seom.linux.cgroup import Cgroup
from tests.harness.sandboxes import spec
lower, mountpoint, fifo = sys.argv[1:]
given = spec("echo", "started")
given.root.path = lower
box = sandbox.create(sandbox.Launch(
    "two", given, given.process, mountpoint=mountpoint,
    exec_fifo=os.open(fifo, os.O_RDONLY | os.O_NONBLOCK),
))
box.wait_ready()
print("created", flush=True)
writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
os.write(writer, b"x")
box.wait_started()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(box.pid, 0)[1]))
"""


def test_a_bundle_is_created_first_and_started_later(on_host: OnHost, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "exec.fifo")
    (tmp_path / "mnt").mkdir()

    async def test(host: Host) -> None:
        arguments = [str(host.lower), str(tmp_path / "mnt"), str(tmp_path / "exec.fifo")]
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", TWO_PHASES, *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert (done.stdout, done.stderr, done.returncode) == ("created\nstarted\n", "", 0)

    on_host(test)
