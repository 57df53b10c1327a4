"""docker run: what the process may do and what it can see, looked at from inside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.harness.docker_cli import DockerCli

DEFAULT_CAPABILITIES = "00000000a80425fb"


def status_of(text: str, field: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:"))


def process_status(docker: DockerCli, *options: str) -> str:
    return docker.out("run", "--rm", *options, "busybox", "cat", "/proc/self/status")


def test_the_default_capabilities_are_docker_s_fourteen(docker: DockerCli) -> None:
    status = process_status(docker)
    assert status_of(status, "CapEff") == DEFAULT_CAPABILITIES
    assert status_of(status, "CapBnd") == DEFAULT_CAPABILITIES
    assert status_of(status, "CapInh") == "0000000000000000"
    assert status_of(status, "CapAmb") == "0000000000000000"


def test_another_user_has_no_effective_capabilities(docker: DockerCli) -> None:
    status = process_status(docker, "-u", "daemon")
    assert status_of(status, "CapEff") == "0000000000000000"
    assert status_of(status, "CapBnd") == DEFAULT_CAPABILITIES


def test_capabilities_are_added_and_dropped(docker: DockerCli) -> None:
    added = int(status_of(process_status(docker, "--cap-add", "NET_ADMIN"), "CapEff"), 16)
    assert added == int(DEFAULT_CAPABILITIES, 16) | 1 << 12
    dropped = int(status_of(process_status(docker, "--cap-drop", "CAP_CHOWN"), "CapEff"), 16)
    assert dropped == int(DEFAULT_CAPABILITIES, 16) & ~1
    only = process_status(docker, "--cap-drop", "ALL", "--cap-add", "kill")
    assert int(status_of(only, "CapEff"), 16) == 1 << 5


def test_an_unknown_capability_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--cap-add", "CAP_NONSENSE", "busybox", "true")
    assert done.returncode == 125
    assert 'unknown capability: "CAP_NONSENSE"' in done.stderr


def test_seccomp_is_on_unless_unconfined(docker: DockerCli) -> None:
    assert status_of(process_status(docker), "Seccomp") == "2"
    assert status_of(process_status(docker, "--security-opt", "seccomp=unconfined"), "Seccomp") == "0"
    assert status_of(process_status(docker, "--privileged"), "Seccomp") == "0"


def test_a_seccomp_profile_from_a_file_is_used(docker: DockerCli, tmp_path: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = docker("run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/x")
    assert done.returncode == 1
    assert "Disk quota exceeded" in done.stderr


def test_no_new_privileges(docker: DockerCli) -> None:
    assert status_of(process_status(docker), "NoNewPrivs") == "0"
    assert status_of(process_status(docker, "--security-opt", "no-new-privileges"), "NoNewPrivs") == "1"


@pytest.mark.parametrize(
    "command",
    [
        ["mount", "-t", "tmpfs", "none", "/mnt"],
        ["unshare", "-m", "true"],
        ["chroot", "/proc/1/root/..", "mount", "-o", "remount,rw", "/sys"],
        ["sh", "-c", "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic"],
        ["sh", "-c", "echo h > /proc/sysrq-trigger"],
        ["sh", "-c", "mknod /tmp/sda b 8 0 && cat /tmp/sda"],
        ["sh", "-c", "hostname $(hostname)"],
        ["ip", "link", "add", "d0", "type", "dummy"],
        ["sh", "-c", ": >> /sys/kernel/profiling"],
        ["dmesg"],
        ["swapon", "/tmp"],
        ["insmod", "/bin/busybox"],
        ["cat", "/proc/kcore"],
    ],
    ids=lambda command: "_".join(command)[:40].replace("/", "."),
)
def test_the_host_cannot_be_changed_from_inside(docker: DockerCli, command: list[str]) -> None:
    # Each would be harmless if it worked: this must be safe to run against a broken isolation.
    done = docker("run", "--rm", "busybox", *command)
    refused = done.returncode != 0 or (command[0] == "cat" and done.stdout == "")
    assert refused, done


def test_sensitive_files_of_proc_and_sys_are_masked(docker: DockerCli) -> None:
    masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]
    text = docker.out(
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        f"cat {' '.join(masked)} 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware | wc -l",
    )
    assert text.split() in (["0", "3"], ["0", "2"], ["0", "1"])


def test_proc_sys_and_sysfs_are_read_only(docker: DockerCli) -> None:
    mounts = docker.out("run", "--rm", "busybox", "cat", "/proc/mounts").splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    for path in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"):
        assert "ro" in options[path], path


def test_a_container_sees_its_own_processes_alone(docker: DockerCli) -> None:
    assert (
        docker.out("run", "--rm", "busybox", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'").split()[0]
        == "1"
    )


def test_every_namespace_is_the_container_s_own(docker: DockerCli) -> None:
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    inside = docker.out("run", "--rm", "busybox", "sh", "-c", script).split()
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    differ = {kind for kind, ours, theirs in zip(kinds, inside, host, strict=True) if ours != theirs}
    assert differ >= {"ipc", "mnt", "net", "pid", "uts"}


def test_programs_can_tell_that_they_are_in_a_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "--name", name, "busybox", "test", "-e", "/.dockerenv")
    assert docker.out("diff", name) == ""


def test_the_devices_are_the_usual_few(docker: DockerCli) -> None:
    text = docker.out("run", "--rm", "busybox", "ls", "/dev")
    assert set(text.split()) - {"core"} == {
        *("fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
        *("stdout", "tty", "urandom", "zero"),
    }


def test_a_device_can_be_passed(docker: DockerCli) -> None:
    text = docker.out(
        "run", "--rm", "--device", "/dev/zero:/dev/nothing:r", "busybox", "ls", "-l", "/dev/nothing"
    )
    assert "1,   5" in text
    done = docker("run", "--rm", "--device", "/dev/no-such-device", "busybox", "true")
    assert done.returncode in (125, 126, 127)
    assert "/dev/no-such-device" in done.stderr


def test_privileged_has_every_capability_and_the_host_s_devices(docker: DockerCli) -> None:
    mine = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")
    )
    status = process_status(docker, "--privileged")
    assert status_of(status, "CapEff") == mine.split()[1]
    devices = set(docker.out("run", "--rm", "--privileged", "busybox", "ls", "/dev").split())
    assert "kmsg" in devices or "fuse" in devices or "loop-control" in devices or "vda" in devices
    docker.out("run", "--rm", "--privileged", "busybox", "mount", "-t", "tmpfs", "none", "/tmp")


def test_the_host_s_pid_namespace(docker: DockerCli) -> None:
    assert docker.out(
        "run", "--rm", "--pid", "host", "busybox", "readlink", "/proc/self/ns/pid"
    ) == os.readlink("/proc/self/ns/pid")


def test_the_host_s_uts_and_ipc_namespaces(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--uts", "host", "--ipc", "host", "busybox"),
        *("sh", "-c", "readlink /proc/self/ns/uts; readlink /proc/self/ns/ipc; hostname"),
    )
    assert text.split() == [
        os.readlink("/proc/self/ns/uts"),
        os.readlink("/proc/self/ns/ipc"),
        os.uname().nodename,
    ]


def test_the_namespaces_of_another_container(docker: DockerCli, name: str) -> None:
    docker.out("run", "-d", "--name", name, "--ipc", "shareable", "busybox", "sleep", "1000")
    script = "for n in pid ipc net; do readlink /proc/self/ns/$n; done"
    shared = f"container:{name}"
    joined = docker.out(
        *("run", "--rm", "--pid", shared, "--ipc", shared, "--network", shared, "busybox", "sh", "-c", script)
    )
    assert joined == docker.out("exec", name, "sh", "-c", script)


def test_joining_a_container_that_is_not_there_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--pid", "container:nobody-here", "busybox", "true")
    assert done.returncode == 125
    assert "No such container: nobody-here" in done.stderr


def test_sysctls_of_the_container_s_namespaces(docker: DockerCli) -> None:
    text = docker.out(
        *(
            "run",
            "--rm",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=99",
            "--sysctl",
            "kernel.msgmax=4096",
        ),
        *("busybox", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/msgmax"),
    )
    assert text.split() == ["99", "4096"]


def test_a_sysctl_of_the_host_is_refused(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--sysctl", "kernel.panic=1", "busybox", "true")
    assert done.returncode in (125, 126, 127)
    assert "kernel.panic" in done.stderr


def test_ulimits_are_set(docker: DockerCli) -> None:
    text = docker.out(
        *("run", "--rm", "--ulimit", "nofile=64:128", "--ulimit", "core=0", "busybox"),
        *("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"),
    )
    assert text.split() == ["64", "128", "0"]


def test_the_oom_score_is_adjusted(docker: DockerCli) -> None:
    text = docker.out("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj")
    assert text == "500"


def test_no_descriptor_of_the_host_is_inherited(docker: DockerCli) -> None:
    text = docker.out("run", "--rm", "busybox", "sh", "-c", "ls -l /proc/self/fd")
    targets = {line.partition("-> ")[2] for line in text.splitlines()}
    assert not {
        each for each in targets if each.startswith("/") and not each.startswith(("/proc/", "/dev/null"))
    }


def test_no_mount_of_the_host_is_visible(docker: DockerCli) -> None:
    points = [
        line.split()[1] for line in docker.out("run", "--rm", "busybox", "cat", "/proc/mounts").splitlines()
    ]
    assert points[0] == "/"
    allowed = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    assert not [point for point in points[1:] if not point.startswith(allowed)]


def test_processes_cannot_escape_through_proc_1_root(docker: DockerCli) -> None:
    assert docker.out("run", "--rm", "busybox", "ls", "/proc/1/root/var/www") == "index.html"
