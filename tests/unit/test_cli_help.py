"""Help texts, unknown commands and exit codes of the command line itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from seom.cli import commands, help
from tests.harness.seom_cli import SeomCli


@pytest.fixture
def seom(tmp_path: Path) -> SeomCli:
    return SeomCli(tmp_path / "no-daemon", tmp_path)


@pytest.mark.parametrize("words", sorted({*commands.SPELLINGS, *commands.GROUPS}))
def test_every_command_has_help_of_80_columns(words: str) -> None:
    text = help.for_group(words) if words in commands.GROUPS else help.for_command(words)
    assert text.startswith(f"Usage:  seom {words}")
    descriptions = [line for line in text.splitlines() if line.startswith(" ") and "seom" not in line]
    assert all(len(line) <= 110 for line in descriptions)


def test_help_is_reached_in_every_way(seom: SeomCli) -> None:
    text = seom.out("run", "--help")
    assert seom.out("help", "run") == text
    assert seom.out("container", "run", "--help").splitlines()[2:] == text.splitlines()[2:]
    assert seom.out() == seom.out("--help") == seom.out("help")
    assert seom.out("image") == seom.out("image", "--help")
    assert seom.out("--version").startswith("Seom version ")


@pytest.mark.parametrize(
    ("words", "near"),
    [(("rn",), "run"), (("imagse",), "images"), (("network", "craete"), "create"), (("zzzz",), "")],
)
def test_an_unknown_command_suggests_the_nearest(seom: SeomCli, words: tuple[str, ...], near: str) -> None:
    done = seom(*words)
    assert done.returncode == 1
    assert f"unknown command: seom {' '.join(words)}" in done.stderr
    assert ("Did you mean" in done.stderr) == bool(near)
    assert near in done.stderr


def test_doctor_reports_every_check_with_its_reason(seom: SeomCli) -> None:
    lines = seom("doctor", "--format", "{{.Name}}|{{.State}}|{{.Why}}").stdout.splitlines()
    found = {line.split("|")[0]: line.split("|")[1:] for line in lines}
    assert {"kernel", "namespaces", "overlayfs", "cgroups", "seccomp", "libnftables", "kvm", "disk"} <= set(
        found
    )
    assert all(state in ("ok", "warn", "missing") and why for state, why in found.values())
    assert found["daemon"][0] == "warn"


def test_a_missing_daemon_has_the_commands_own_status(seom: SeomCli) -> None:
    assert [seom("ps").returncode, seom("run", "x").returncode, seom("exec", "a", "b").returncode] == [
        1,
        125,
        1,
    ]
    assert "start it with `seomd` as root, or set SEOM_HOST" in seom("ps").stderr
