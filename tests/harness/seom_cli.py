"""Seom's own command line, pointed at one daemon."""

from __future__ import annotations

from pathlib import Path

from tests.harness.docker_cli import DockerCli

PROGRAM = Path(__file__).parents[2] / ".venv/bin/seom"


class SeomCli(DockerCli):
    """As DockerCli, with the command `seom`."""

    def __init__(self, socket: Path, config: Path) -> None:
        super().__init__(socket, config)
        self.environment["SEOM_HOST"] = self.environment.pop("DOCKER_HOST")

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(PROGRAM), *map(str, arguments)]
