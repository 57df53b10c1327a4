"""seom-runtime starts faster than what it replaces; one careless import would undo that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SLOW = {
    "argparse",
    "asyncio",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "json",
    "msgspec",
    "re",
}
SLOW |= {"signal", "socket", "subprocess", "typing"}
MODULES = ("oci_runtime", "runtime_start", "runtime_commands")


def test_seom_runtime_loads_no_slow_modules() -> None:
    names = ", ".join(f"seom.containers.{name}" for name in MODULES)
    script = f"import sys; sys.path[:0] = [{str(PROJECT)!r}]; import {names}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-ISc", script], capture_output=True, text=True, check=True)
    assert not SLOW & set(loaded.stdout.split())
