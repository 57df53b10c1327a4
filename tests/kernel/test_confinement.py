"""Capabilities and seccomp, applied to real processes and judged by what these may still do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from seom.containers.seccomp_profile import compiled, default_profile, parse_profile
from seom.linux import capabilities, seccomp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def confined(confine: Callable[[], None], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, preexec_fn=confine, capture_output=True, text=True)


def status(confine: Callable[[], None]) -> dict[str, list[str]]:
    """The capability sets of a program that was started like that, by the letters of /proc/PID/status."""
    output = confined(confine, "cat", "/proc/self/status").stdout
    lines = (line.split() for line in output.splitlines() if line.startswith("Cap"))
    return {name[3:-1]: capabilities.names(int(bits, 16)) for name, bits in lines}


def test_a_program_keeps_exactly_the_capabilities_it_is_given() -> None:
    kept = sorted(capabilities.available(capabilities.DEFAULT), key=capabilities.NAMES.index)

    def confine() -> None:
        capabilities.drop_bounding(kept)
        capabilities.capset(kept, kept, [])

    sets = status(confine)
    assert sets["Bnd"] == sets["Eff"] == sets["Prm"] == kept
    assert sets["Inh"] == sets["Amb"] == []


def test_ambient_capabilities_reach_a_program_of_another_user() -> None:
    kept = ["CAP_NET_BIND_SERVICE"]

    def confine() -> None:
        capabilities.drop_bounding(kept)
        capabilities.keep_over_setuid()
        os.setresuid(12345, 12345, 12345)
        capabilities.capset(kept, kept, kept)
        capabilities.set_ambient(kept)

    sets = status(confine)
    assert sets["Amb"] == sets["Eff"] == sets["Bnd"] == kept


def test_available_leaves_out_what_this_process_may_not_give() -> None:
    assert set(capabilities.available(capabilities.NAMES)) == capabilities.bounding_set()


def test_the_default_profile_runs_programs_and_denies_mounts() -> None:
    program = compiled(default_profile(capabilities.DEFAULT))
    work = confined(lambda: seccomp.install(program), "sh", "-c", "ls / > /dev/null && echo done | cat")
    assert work.stdout == "done\n"
    mount = confined(lambda: seccomp.install(program), "mount", "-t", "tmpfs", "none", "/mnt")
    assert mount.returncode != 0
    unshare = confined(lambda: seccomp.install(program), "unshare", "-m", "true")
    assert "Operation not permitted" in unshare.stderr


def test_a_users_profile_decides_the_error_number() -> None:
    text = """{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"""
    program = compiled(parse_profile(text, ()))
    made = confined(lambda: seccomp.install(program), "mkdir", "/tmp/never-made")
    assert "No space left on device" in made.stderr
