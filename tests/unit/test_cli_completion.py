"""What the shells offer, asked of the completer and of a real shell."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seom.cli import complete
from seom.cli.client import Client
from seom.cli.completion import SCRIPTS
from tests.harness.canned_api import CannedApi
from tests.harness.seom_cli import PROGRAM

ANSWERS = {
    "GET /containers/json": [{"Names": ["/web"], "Image": "nginx"}, {"Names": ["/worker"], "Image": "x"}],
    "GET /images/json": [{"RepoTags": ["debian:12", "debian:sid"]}, {"RepoTags": None}],
    "GET /networks": [{"Name": "bridge", "Driver": "bridge"}],
    "GET /volumes": {"Volumes": [{"Name": "data"}]},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedApi]:
    with CannedApi(tmp_path_factory.mktemp("api") / "s", ANSWERS) as api:
        yield api


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["co"], ["commit", "completion", "container"]),
        (["network", ""], ["connect", "create", "disconnect", "inspect", "ls", "prune", "rm"]),
        (["network", "rm", ""], ["bridge"]),
        (["run", "--memory-s"], ["--memory-swap", "--memory-swappiness"]),
        (["run", "--network", "b"], ["bridge"]),
        (["run", "-it", "--pull", ""], ["always", "missing", "never"]),
        (["run", "--pull=n"], ["--pull=never"]),
        (["run", "-e", "A=1", "debian:"], ["debian:12", "debian:sid"]),
        (["run", "debian", ""], [":files"]),
        (["run", "-v", "d"], ["data"]),
        (["exec", "-it", "w"], ["web", "worker"]),
        (["stop", "web", "wor"], ["worker"]),
        (["-H", "unix:///x", "ps", "--fo"], ["--format"]),
        (["load", "-i", ""], [":files"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["nothing", ""], []),
    ],
)
def test_candidates(api: CannedApi, words: list[str], expected: list[str]) -> None:
    found = complete.candidates(words, Client(f"unix://{api.path}"))
    assert [value for value, _ in found] == expected


def test_no_daemon_no_names(tmp_path: Path) -> None:
    assert complete.candidates(["stop", ""], Client(f"unix://{tmp_path}/none")) == []


def test_unfinished_lines_are_split_as_shells_do() -> None:
    assert complete.split_line("seom run -e 'A B' x\\ y \"z") == ["seom", "run", "-e", "A B", "x y", "z"]
    assert complete.split_line("seom run ") == ["seom", "run", ""]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seom stop wo", ["worker"]),
        ("seom run debian:s", ["sid"]),
        ("seom run debian:", ["12", "sid"]),
        ("seom run --pull=al", ["always"]),
        ("seom netw", ["network"]),
    ],
)
def test_bash_completes(api: CannedApi, line: str, expected: list[str]) -> None:
    program = f"""
        PATH={PROGRAM.parent}:$PATH
        {SCRIPTS["bash"]}
        COMP_LINE={line!r} COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=($(sed 's/[:=]/ & /g' <<< "$COMP_LINE"))
        [[ $COMP_LINE == *: ]] && COMP_WORDS+=("")
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _seom
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {"SEOM_HOST": f"unix://{api.path}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [("seom stop wo", "worker"), ("seom run debian:s", "debian:sid"), ("seom netw", "network")],
)
def test_fish_completes(
    api: CannedApi, needs_program: Callable[[str], str], line: str, expected: str
) -> None:
    fish = needs_program("fish")
    program = f"set PATH {PROGRAM.parent} $PATH; seom completion fish | source; complete -C {line!r}"
    environment = {"SEOM_HOST": f"unix://{api.path}", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(
        [fish, "--no-config", "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split("\t")[0].strip() == expected, done.stderr


def test_zsh_reads_the_script(needs_program: Callable[[str], str]) -> None:
    done = subprocess.run([needs_program("zsh"), "-n"], input=SCRIPTS["zsh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
