"""Building images by `docker build` in its classic form."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.harness.docker_cli import DockerCli

Files = Mapping[str, str | bytes]


def write_context(folder: Path, dockerfile: str, files: Files | None = None) -> Path:
    """A build context on disk; names in files may lead into folders."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def tar_of(files: Files) -> bytes:
    """A tar archive of files, such as a build context or something for ADD."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            body = data.encode() if isinstance(data, str) else data
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o644
            archive.addfile(member, io.BytesIO(body))
    return content.getvalue()


class ClassicBuilder:
    """`DOCKER_BUILDKIT=0 docker build` at one daemon."""

    def __init__(self, docker: DockerCli) -> None:
        self.docker = docker
        self.environment = {**docker.environment, "DOCKER_BUILDKIT": "0"}

    def __call__(
        self, context: Path, *arguments: str, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Build a context, whatever the exit code."""
        return subprocess.run(
            self.docker.command("build", *arguments, context),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout_s,
        )

    def succeed(self, context: Path, *arguments: str) -> str:
        """The output of a build that must succeed."""
        done = self(context, *arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout
