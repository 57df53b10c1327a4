"""The rule of tests/required.py: where everything is required, a skipped test fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = """
import pytest

def test_runs() -> None:
    pass

def test_is_skipped() -> None:
    pytest.skip("no such device")

def test_apparmor_is_skipped() -> None:
    pytest.skip("no AppArmor")
"""


def run_pytest(directory: Path, selection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text("from tests.conftest import *\n")
    (directory / "test_cases.py").write_text(CASES)
    clean = {key: value for key, value in os.environ.items() if key not in ("CI", "SEOM_REQUIRE_ALL")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "1",
        "-k",
        selection,
        "--rootdir",
        str(directory),
        str(directory),
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("variable", ["CI", "SEOM_REQUIRE_ALL"])
def test_a_required_test_that_skips_fails_the_run(tmp_path: Path, variable: str) -> None:
    done = run_pytest(tmp_path, "runs or is_skipped", **{variable: "true"})
    assert done.returncode == 1
    assert "REQUIRED BUT SKIPPED: test_cases.py::test_is_skipped" in done.stdout


def test_a_listed_test_may_skip(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "runs or apparmor", CI="true")
    assert done.returncode == 0, done.stdout
    assert "skipped: test_cases.py::test_apparmor_is_skipped" in done.stdout


def test_on_other_machines_skips_are_only_listed(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "is_skipped")
    assert done.returncode == 0, done.stdout
    assert "no such device" in done.stdout
