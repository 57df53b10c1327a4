"""The same commands in a container of Seom and in one of the real dockerd: what they see must be the same.

Every system call is tried as well: the same ones must be refused, with the same error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.conftest import load_busybox
from tests.harness.docker_cli import DockerCli
from tests.harness.reference_docker import ReferenceDocker

HOST_PYTHON = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"]

# exit, fork, vfork, clone, execve, exit_group, rt_sigreturn: they would end or double the probe itself.
NOT_TRIED = {15, 56, 57, 58, 59, 60, 231}
# runc refuses calls that are newer than the host's libseccomp by ENOSYS; Debian 12's knows 456.
LAST_CALL = 456
EVERY_SYSTEM_CALL = f"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
for number in range({LAST_CALL + 1}):
    if number in {NOT_TRIED!r}:
        continue
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
        error = ctypes.get_errno() if result == -1 else 0
        os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 100).decode() or "signal"
    os.close(reader)
    os.waitpid(child, 0)
    print(number, answer)
"""

PROBES: dict[str, str] = {
    "capabilities and filters": "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid|Gid)' /proc/self/status",
    "names in the environment": "env | cut -d= -f1 | grep -v '^_$' | sort",
    "nodes in dev": """
        ls -l /dev /dev/pts /dev/shm | grep -v '^total' | awk '{print $1, $3, $4, $5, $6, $NF}' | sort""",
    "limits": "cat /proc/self/limits",
    "modes of directories": """
        stat -c '%n %a %u %g' / /dev /dev/shm /dev/pts /dev/mqueue /proc /sys /tmp /etc/hosts""",
    "mount points": "awk '{print $2, $3}' /proc/mounts | grep -v /sys/fs/cgroup | sort",
    "mount options": """
        grep -E ' /(proc|dev|sys)' /proc/mounts | grep -v cgroup | sed s/,nr_inodes=2// |
            awk '{print $2, $4}' | sort""",
    "masked files": """
        for name in acpi asound interrupts kcore keys latency_stats timer_list sched_debug scsi; do
            ls -ld /proc/$name 2>/dev/null | cut -c1-10
            cat /proc/$name 2>/dev/null | wc -c
        done
        ls /sys/firmware | wc -l""",
    "sysctls": """
        cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range ip_forward""",
    "interfaces": "ls /sys/class/net; ip -4 route | sed 's/[0-9.]\\{7,\\}/A/g'",
    "the process": "umask; pwd; id; cat /proc/1/comm; readlink /proc/self/exe; cat /proc/self/oom_score_adj",
    "hosts": "sed 's/[0-9.]\\{7,\\}/A/; s/[0-9a-f]\\{12\\}/ID/' /etc/hosts",
    "what can be written": """
        for path in /proc/sys/kernel/hostname /sys/class /proc/irq /proc/bus /etc/hosts /dev /root; do
            test -w $path && touch -c $path 2>/dev/null && echo yes $path || echo no $path
        done""",
}

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "unprivileged user": ["-u", "1000:1000"],
    "no capabilities": ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
    "read only": ["--read-only"],
    "terminal": ["-t"],
}


@pytest.fixture(scope="module")
def reference() -> Iterator[DockerCli]:
    """The command line at a real dockerd."""
    daemon = ReferenceDocker()
    try:
        daemon.start()
    except AssertionError as error:
        daemon.close()
        pytest.skip(f"the real dockerd does not run here (scripts/docker-reference gets it): {error}")
    with daemon:
        load_busybox(cast(Any, daemon))
        yield daemon.docker


def view(docker: DockerCli, options: list[str], script: str) -> list[str]:
    """The output of a script in a new container, without what differs from container to container."""
    text = docker("run", "--rm", *options, "busybox", "sh", "-c", script).stdout
    text = re.sub(r"(lowerdir|upperdir|workdir)=[^, ]*", r"\1=", text.replace("\r", ""))
    return [re.sub(r" +", " ", line).rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("probe", PROBES)
def test_a_container_sees_what_docker_s_sees(
    docker: DockerCli, reference: DockerCli, probe: str, variant: str
) -> None:
    ours = view(docker, VARIANTS[variant], PROBES[probe])
    assert ours == view(reference, VARIANTS[variant], PROBES[probe])


@pytest.mark.parametrize("variant", ["default", "no capabilities"])
def test_every_system_call_answers_as_in_docker_s(
    docker: DockerCli, reference: DockerCli, variant: str
) -> None:
    def errors(cli: DockerCli) -> dict[str, str]:
        command = ["busybox", "/usr/bin/python3", "-IS", "-c", EVERY_SYSTEM_CALL]
        text = cli.out("run", "--rm", *VARIANTS[variant], *HOST_PYTHON, *command)
        return dict(line.split() for line in text.splitlines())

    ours, theirs = errors(docker), errors(reference)
    assert len(ours) == LAST_CALL + 1 - len(NOT_TRIED)
    assert {number: (ours[number], theirs[number]) for number in ours if ours[number] != theirs[number]} == {}
