"""Killing a process as it enters a system call works as the crash tests expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.kill_points import is_alive, killed_at, wait_until_dead

SCRIPT = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    os.mkdir(line.strip())
"""


def test_the_process_dies_before_the_call_takes_effect(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-IS", "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    with killed_at(child.pid, "mkdir", when=2):
        for name in ("one", "two"):
            child.stdin.write(f"{tmp_path}/{name}\n")
            child.stdin.flush()
        assert wait_until_dead(child.pid)
    assert child.wait() == -9
    assert [each.name for each in tmp_path.iterdir()] == ["one"]
    child.communicate()


def test_a_process_that_never_comes_there_lives_on() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        with killed_at(child.pid, "mkdir"):
            pass
        assert is_alive(child.pid)
    finally:
        child.kill()
        child.wait()
