"""The daemon and the stock docker command line under the kernel that Debian 12 boots.

It has cgroup v2, AppArmor, and fewer system calls than newer kernels. Where this host is another one,
a virtual machine shows that all of it works together there; about a minute emulated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.harness.docker_cli import docker_program
from tests.harness.images import busybox_archive
from tests.harness.virtual_machine import SITE, Cpio, Missing, copy_tree, run_guest, write_base

MODULES = ("net", "drivers/net", "fs/overlayfs", "lib", "crypto", "arch")
DEVELOPMENT = ("pip", "mypy", "ruff", "setuptools", "pygments", "pytest", "_pytest", "docker")
SCRIPT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t securityfs security /sys/kernel/security
mount -t devtmpfs dev /dev; mkdir -p /dev/pts /dev/shm; mount -t devpts dev /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t tmpfs lib /var/lib
ip link set lo up
seomd --data-root /var/lib/seom --run-dir /run/seom --host unix:///run/s > /tmp/log 2>&1 &
while [ ! -S /run/s ] && kill -0 $!; do sleep 0.2; done
export DOCKER_HOST=unix:///run/s
docker load --quiet --input /busybox.tar
answer() { echo "ANSWER $1: $(eval "$2" 2>&1 | tr '\\n' ' ')"; }
answer limits "docker run --rm -m 64m --network none busybox cat /sys/fs/cgroup/memory.max"
answer profile "docker run --rm --network none busybox cat /proc/self/attr/current"
answer filter "docker run --rm --network none busybox grep Seccomp: /proc/self/status"
docker run -d --name web -p 8080:80 --init busybox httpd -f -h /var/www
answer page "wget -q -O - http://127.0.0.1:8080/index.html"
answer exec "docker exec web sh -c 'echo inside; exit 5'; echo \\$?"
answer stats "docker stats --no-stream --format '{{.PIDs}}' web"
docker network create net
docker run -d --name db --network net busybox sleep 1000
answer name "docker run --rm --network net busybox ping -c 1 -q db"
answer memory "docker run --rm -m 16m busybox sh -c 'head -c 64m /dev/zero | tail -c 64m | wc -c'"
answer paused "docker pause web; docker inspect -f '{{.State.Status}}' web; docker unpause web"
answer stopped "docker stop -t 1 web; docker inspect -f '{{.State.ExitCode}}' web"
sed 's/^/LOG /' /tmp/log
poweroff -f
"""


def write(archive: Cpio, kernel: Path) -> None:
    """The guest's files: the daemon with its libraries, docker, an image, and the kernel's modules."""
    write_base(archive, kernel, SCRIPT)
    for entry in SITE.iterdir():
        if not entry.name.startswith(DEVELOPMENT):
            copy_tree(archive, entry, f"site/{entry.name}")
    (modules,) = kernel.glob("lib/modules/*")
    for folder in MODULES:
        copy_tree(archive, modules / "kernel" / folder, f"lib/modules/{modules.name}/kernel/{folder}")
    for index in modules.glob("modules.*"):
        archive.copy(index, f"lib/modules/{modules.name}/{index.name}")
    archive.link("sbin/modprobe", "/bin/busybox")
    archive.copy(Path(docker_program()), "usr/bin/docker")
    archive.content("busybox.tar", busybox_archive())


@pytest.mark.timeout(450)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kernel for the guest is an x86-64 one")
def test_docker_and_the_daemon_work_on_debian_12() -> None:
    try:
        console = run_guest(write, memory_mb=2500)
    except Missing as reason:
        pytest.skip(str(reason))
    answers = dict(re.findall(r"^ANSWER (\w+): (.*?) *\r?$", console, re.MULTILINE))
    assert answers.get("limits") == str(64 << 20), console
    assert answers["profile"] == "seom-default (enforce)"
    assert answers["filter"].split() == ["Seccomp:", "2"]
    assert answers["page"] == "hello from the island"
    assert answers["exec"] == "inside 5"
    assert answers["stats"] == "2"
    assert "1 packets received" in answers["name"]
    assert "Killed" in answers["memory"]
    assert answers["paused"] == "web paused web"
    assert answers["stopped"] == "web 143"
    assert "Traceback" not in console
