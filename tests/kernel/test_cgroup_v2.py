"""Tests of containers and cgroups once more under Debian's kernel with cgroup v2 alone.

It is what a fresh Debian 12 machine boots, whatever this host has: fewer system calls than newer
kernels, no v1 hierarchy, and AppArmor. A virtual machine is booted for it, about a minute emulated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from tests.harness.virtual_machine import Missing, run_tests_in_guest

FILES = ("test_cgroup.py", "test_stats.py", "test_confinement.py", "test_apparmor.py")
CHOSEN = {
    "test_oci_runtime.py": (
        "the_life_of_a_container",
        "update_changes_limits_of_a_running_container",
        "a_container_sees_its_own_cgroups_and_no_others",
    ),
    "test_runtime.py": (
        "a_program_runs_in_namespaces_of_its_own",
        "an_exec_joins_the_container",
        "a_terminal_is_allocated_inside_and_resized",
    ),
    "test_sandbox.py": ("masked_and_readonly_paths_cannot_be_used",),
    "test_runtime_crashes.py": (
        "a_new_daemon_finds_the_containers_of_a_killed_one",
        "a_replaced_monitor_serves_stdin_and_new_clients",
        "a_terminal_outlives_its_monitor",
    ),
}


@pytest.mark.timeout(450)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kernel for the guest is an x86-64 one")
def test_containers_and_cgroups_work_on_v2(record_property: Callable[[str, object], None]) -> None:
    wanted = [f"tests/kernel/{file}" for file in FILES]
    wanted += [f"tests/kernel/{file}::test_{name}" for file, names in CHOSEN.items() for name in names]
    try:
        code, console = run_tests_in_guest(wanted)
    except Missing as reason:
        pytest.skip(str(reason))
    kernel = re.search(r"SEOM kernel (.*)", console)
    assert kernel, console
    print(*re.findall(r"^(?:PASSED|FAILED|ERROR|SKIPPED).*", console, re.MULTILINE), sep="\n")
    record_property("cgroup v2", f"proved in a virtual machine, kernel {kernel[1].strip()}")
    assert code == 0, console
    assert "cgroups of this run: v2" in console
    assert "SKIPPED" not in console
    assert len(re.findall(r"^PASSED tests/kernel/test_cgroup\.py", console, re.MULTILINE)) >= 13
