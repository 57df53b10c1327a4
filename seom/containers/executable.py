"""Finding a program along the container's own PATH, and executing it.

The texts are those of the Go library's os/exec, which users and scripts know from Docker.
"""

from __future__ import annotations

import errno
import os
import stat

from seom.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def find_executable(args: Sequence[str], env: Sequence[str]) -> str:
    """The path of args[0]: itself when it has a slash, else the first match in env's PATH.

    Raises OSError: ENOENT when there is none, EACCES when it may not be executed.
    """
    if not args or not args[0]:
        raise OSError(errno.EINVAL, "no command specified")
    name = args[0]
    if "/" in name:
        _check(name, name)
        return name
    for directory in _search_path(env).split(":"):
        candidate = os.path.join(directory or ".", name)
        try:
            _check(name, candidate)
        except OSError:
            continue
        return candidate
    raise OSError(errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


def _search_path(env: Sequence[str]) -> str:
    for variable in reversed(env):
        if variable.startswith("PATH="):
            return variable[5:]
    return ""


def _check(name: str, path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OSError(
            error.errno, f'exec: "{name}": stat {path}: {reason[:1].lower()}{reason[1:]}'
        ) from error
    if stat.S_ISDIR(mode):
        raise OSError(errno.EACCES, f'exec: "{name}": is a directory')
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, f'exec: "{name}": permission denied')


def execute(path: str, args: Sequence[str], env: Sequence[str]) -> None:
    """Replace the process by the program. Raises OSError."""
    try:
        process.execve(path, list(args), list(env))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"exec {path}: {reason[:1].lower()}{reason[1:]}") from error
