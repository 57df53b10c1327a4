"""Killing a process at a named point: when it makes a certain system call, by strace's fault injection.

The program under test needs no hooks for this, and every point is a real one: the process dies as it
enters the call, as it would if the machine's power went there.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def killed_at(pid: int, call: str, when: int = 1, path: Path | None = None) -> Iterator[None]:
    """Kill the process (and what it forks meanwhile) with SIGKILL as it enters its when-th `call`.

    With a path, only calls that touch it count. On leaving, the process is let go if it never came there.
    """
    with tempfile.TemporaryDirectory(prefix="strace-") as folder:
        log = Path(folder) / "log"
        command = ["strace", "-f", "-qq", "-o", str(log), "-p", str(pid), "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=SIGKILL:when={when}"]
        if path is not None:
            command += ["-P", str(path)]
        strace = subprocess.Popen(command, stderr=subprocess.PIPE)
        finished = threading.Event()
        undertaker = threading.Thread(target=bury, args=(pid, strace, finished))
        undertaker.start()
        try:
            wait_until_traced(pid, strace)
            yield
        finally:
            finished.set()
            undertaker.join()
            strace.send_signal(signal.SIGINT)
            try:
                strace.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                strace.kill()
                strace.communicate()


def bury(pid: int, strace: subprocess.Popen[bytes], finished: threading.Event) -> None:
    """End strace once the process was killed.

    The threads of a killed process that has several stay, with its sockets, until their tracer has gone.
    """
    while not finished.wait(0.005):
        if not is_alive(pid):
            strace.kill()
            return


def wait_until_traced(pid: int, strace: subprocess.Popen[bytes], timeout_s: float = 10) -> None:
    """Return when every thread of the process has a tracer."""
    deadline = time.monotonic() + timeout_s
    while not all(tracer_of(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        if strace.poll() is not None or time.monotonic() > deadline:
            _, errors = strace.communicate()
            raise AssertionError(f"strace could not attach to {pid}: {errors.decode()}")
        select.select([], [], [], 0.01)


def tracer_of(task: Path) -> int:
    """The process id of what traces a thread; 0 for nothing."""
    lines = (task / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid"))


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_dead(pid: int, timeout_s: float = 10) -> bool:
    """Wait for the end of a process that may not be a child; whether it ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)
