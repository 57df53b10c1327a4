"""The command line starts fast because it imports little; these modules cost more than a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "re json socket ssl argparse typing enum dataclasses signal subprocess asyncio http urllib "
    "collections ctypes threading tarfile"
)
COMMON = ("run", "execute", "ps", "version", "containers", "attach", "images", "inspect", "container_views")


@pytest.mark.parametrize("module", COMMON)
def test_common_commands_import_nothing_heavy(module: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"import seom.cli.main, seom.cli.{module}, seom.cli.streams, seom.cli.template\n"
        f"print(*sorted({{*sys.modules}} & {{*{HEAVY!r}.split()}}))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
