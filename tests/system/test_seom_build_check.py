"""seom build --check: findings are shown, nothing is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.building import write_context
from tests.harness.daemon import PrivateDaemon
from tests.harness.seom_cli import SeomCli


@pytest.fixture
def seom(daemon: PrivateDaemon, tmp_path: Path) -> SeomCli:
    return SeomCli(daemon.socket, tmp_path / "config")


def test_findings_are_shown_with_their_lines(seom: SeomCli, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nCOPY secret.txt /\nRUN exit 1\nCMD sh\nUSER $NOBODY\n"
    files = {".dockerignore": "*.txt\n", "secret.txt": "s"}
    done = seom("build", "--check", write_context(tmp_path / "context", dockerfile, files))
    assert done.returncode == 1
    assert 'Attempting to Copy file "secret.txt" that is excluded by .dockerignore' in done.stdout
    assert "   4 | >>> CMD sh" in done.stdout
    assert "Usage of undefined variable '$NOBODY'" in done.stdout
    assert "Check complete, 3 warnings have been found!" in done.stderr


def test_a_good_dockerfile_has_no_findings(seom: SeomCli, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", 'FROM no-such-image\nRUN exit 1\nCMD ["sh"]\n')
    assert seom.out("build", "--check", context) == "Check complete, no warnings found."


def test_a_mistake_is_shown_with_its_line(seom: SeomCli, tmp_path: Path) -> None:
    done = seom("build", "--check", write_context(tmp_path / "context", "FROM busybox\nRUNN x\n"))
    assert done.returncode == 1
    assert "   2 | >>> RUNN x" in done.stderr
    assert "unknown instruction: RUNN (did you mean RUN?)" in done.stderr
