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


def test_broken_json_is_recognized_without_the_json_package() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from seom.cli import jsontext\n"
        "for text in sys.argv[1:]:\n"
        "    try: jsontext.decode(text)\n"
        "    except ValueError: print('refused')\n"
        "print('json' in sys.modules)"
    )
    broken = ["", "{", '{"a": "b', "[1,]", '{"a" 1}', '"\\x"', "nul", '{"a":1} x']
    command = [sys.executable, "-IS", "-c", program, *broken]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * len(broken) + ["False"]
