"""Hooks: programs that the specification wants run at points of a container's life."""

from __future__ import annotations

import os
import select

from seom.linux import signals as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from seom.oci.runtime_spec import Hook


class HookFailure(Exception):
    """A hook could not be run, or ended with another status than 0."""


def run_hooks(stage: str, hooks: Iterable[Hook], state: str) -> None:
    """Run hooks one after another with the container's state (JSON) on their standard input.

    Raises HookFailure at the first that fails; a hook past its timeout is killed.
    """
    for number, hook in enumerate(hooks):
        name = f"{stage} hook #{number} ({hook.path})"
        try:
            status = _run(hook, state.encode())
        except OSError as error:
            raise HookFailure(f"error running {name}: {(error.strerror or '').lower()}") from error
        if status is None:
            raise HookFailure(f"error running {name}: killed after {hook.timeout} seconds")
        if status:
            raise HookFailure(f"error running {name}: exit status {status}")


def _run(hook: Hook, state: bytes) -> int | None:
    """The exit code of one hook, or None when it took too long."""
    reader, writer = os.pipe()
    try:
        pid = os.posix_spawn(
            hook.path,
            list(hook.args) or [hook.path],
            dict(entry.partition("=")[::2] for entry in hook.env),
            file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
            setsigdef=[signal.SIGPIPE],
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    pidfd = os.pidfd_open(pid)
    try:
        _feed(writer, state)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(hook.timeout * 1000 if hook.timeout else None)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if ended else None
    finally:
        os.close(pidfd)


def _feed(writer: int, state: bytes) -> None:
    """A state fits into a pipe's buffer; a hook that does not read it is no error."""
    os.set_blocking(writer, False)
    try:
        os.write(writer, state)
    except (BrokenPipeError, BlockingIOError):
        pass
    finally:
        os.close(writer)
