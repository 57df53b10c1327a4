"""The commands in docs/ are run as they stand, and print what the page shows.

In an indented block, "$ " starts a command (continued by "> "), the lines after it are its output:
"..." stands for anything within a line, a line of "..." alone for any lines. A command without output
shown may print anything, but must succeed, unless the page says "# fails".
Commands of a page run one after another in the same shell, in a directory of their own, on a host
(a network namespace) of their own.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT, PrivateDaemon
from tests.harness.docker_cli import docker_program

PAGES = sorted((ROOT / "docs").glob("*.md"))
MARK = "--- status of the last command:"


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """(command, expected output lines) in the order of the page."""
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
            inside = True
        elif inside and line.startswith("    > "):
            found[-1] = (f"{found[-1][0]}\n{line[6:]}", [])
        elif inside and line.startswith("    "):
            found[-1][1].append(line[4:])
        else:
            inside = False
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the output is what the page shows, "..." standing for anything."""
    pattern = "\n".join(
        r"(?:.*\n)*?.*" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*")
        for line in expected
    )
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed)) is not None


class Shell:
    """One bash in the daemon's network namespace; commands are given to it one by one."""

    def __init__(self, daemon: PrivateDaemon, directory: Path) -> None:
        programs = f"{ROOT}/.venv/bin:{Path(docker_program()).parent}"
        environment = {
            **daemon.docker.environment,
            "SEOM_HOST": f"unix://{daemon.socket}",
            "PATH": f"{programs}:{daemon.docker.environment['PATH']}:/usr/sbin",
            "HOME": str(directory),
            "COLUMNS": "200",
        }
        self.process = daemon.network.popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            text=True,
        )

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit code of a command and what it printed on both streams."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{{ {command}\n}} < /dev/null\ncode=$?; echo; echo '{MARK}' $code\n")
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith(MARK):
                printed = "".join(lines)[:-1].rstrip("\n")
                return int(line.split()[-1]), printed.split("\n") if printed else []
            lines.append(line)
        raise AssertionError(f"the shell ended in: {command}")

    def close(self) -> None:
        self.process.communicate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(daemon: PrivateDaemon, page: Path, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    try:
        for command, expected in commands_of(page):
            code, printed = shell.run(command)
            shown = f"$ {command}\n" + "\n".join(printed)
            assert (code != 0) == ("# fails" in command), f"exit code {code}:\n{shown}"
            if expected:
                assert matches(expected, printed), f"{shown}\n--- but the page shows:\n" + "\n".join(expected)
    finally:
        shell.close()
