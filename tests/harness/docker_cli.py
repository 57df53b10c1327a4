"""The stock docker command line, pointed at one daemon and with a configuration of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any


def docker_program() -> str:
    """The docker command: on PATH, or where scripts/setup unpacked it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seom"
    found = shutil.which("docker") or shutil.which(cache / "docker-cli/usr/bin/docker")
    assert found, "no docker command line; scripts/setup gets one"
    return found


class DockerCli:
    """Calls docker with DOCKER_HOST at the daemon's socket; calling the object runs one command."""

    def __init__(self, socket: Path, config: Path) -> None:
        config.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")},
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_CONFIG": str(config),
            "DOCKER_CLI_HINTS": "false",
        }

    def __call__(
        self, *arguments: str | Path, input: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, whatever its exit code."""
        return subprocess.run(
            self.command(*arguments),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout_s,
        )

    def out(self, *arguments: str | Path, input: str | None = None, timeout_s: float = 60) -> str:
        """The output of a command that must succeed, without the last newline."""
        done = self(*arguments, input=input, timeout_s=timeout_s)
        assert done.returncode == 0, (
            f"docker {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}"
        )
        return done.stdout.rstrip("\n")

    def inspect(self, name: str, kind: str = "container") -> dict[str, Any]:
        """`docker inspect` of one object, decoded."""
        found: list[dict[str, Any]] = json.loads(self.out("inspect", "--type", kind, name))
        return found[0]

    def popen(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command with pipes for stdin, stdout and stderr."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(self.command(*arguments), env=self.environment, **(pipes | options))

    def terminal(self, *arguments: str | Path) -> Terminal:
        """Start a command on a terminal of its own."""
        return Terminal(self.command(*arguments), self.environment)

    def command(self, *arguments: str | Path) -> list[str]:
        return [docker_program(), *map(str, arguments)]


class Terminal:
    """A process on a pseudo-terminal, typed to and read from as a person would."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.output = b""

    def type(self, text: str | bytes) -> None:
        """Write keys to the terminal."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def expect(self, text: str, timeout_s: float = 30) -> str:
        """Read until text has appeared; returns everything up to and with it, and forgets it."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout_s
        while wanted not in self.output:
            ready = select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"{text!r} did not appear within {timeout_s} s; the terminal shows {self.output!r}"
            try:
                self.output += os.read(self.master, 65536)
            except OSError as error:
                raise AssertionError(f"{text!r} did not appear; it ended with {self.output!r}") from error
        end = self.output.index(wanted) + len(wanted)
        seen, self.output = self.output[:end], self.output[end:]
        return seen.decode(errors="replace")

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal; the process gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def wait(self, timeout_s: float = 30) -> int:
        """Read the rest of the output and return the exit code."""
        deadline = time.monotonic() + timeout_s
        while select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:
                break
            self.output += chunk
        code = self.process.wait(max(0.1, deadline - time.monotonic()))
        os.close(self.master)
        return code
