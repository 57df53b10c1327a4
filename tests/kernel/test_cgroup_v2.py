"""The cgroup tests once more under a kernel that has cgroup v2 alone, whatever this host has.

On a host with v2 alone the other tests have proved it already. Anywhere else a virtual machine is booted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest

from seom.linux.cgroup import host_layout
from tests.harness.virtual_machine import Missing, run_tests_in_guest

TESTS = ["tests/kernel/test_cgroup.py", "tests/kernel/test_stats.py", "tests/kernel/test_confinement.py"]
RUNTIME_TESTS = ["life_of_a_container", "pause_and_resume", "update_changes"]


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the kernel for the guest is an x86-64 one")
def test_everything_about_cgroups_works_on_v2(record_property: Callable[[str, object], None]) -> None:
    if host_layout().mode == "v2":
        record_property("cgroup v2", "proved on this host")
        return
    try:
        code, console = run_tests_in_guest([*TESTS, "tests/kernel/test_oci_runtime.py"], RUNTIME_TESTS)
    except Missing as reason:
        pytest.skip(str(reason))
    record_property("cgroup v2", "proved in a virtual machine")
    kernel = re.search(r"SEOM kernel .*", console)
    print(kernel[0] if kernel else "no kernel line")
    print(*re.findall(r"^(?:PASSED|FAILED|ERROR|SKIPPED).*", console, re.MULTILINE), sep="\n")
    assert code == 0, console
    assert "cgroups of this run: v2" in console
    assert len(re.findall(r"^PASSED tests/kernel/test_cgroup\.py", console, re.MULTILINE)) >= 13
