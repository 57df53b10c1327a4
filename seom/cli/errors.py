"""What the command line tells its user when something goes wrong."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command with a message on stderr and this exit status.

    final: the status is the one to exit with, and nothing is added to the message, even by
    commands that have an own status and a pointer to their help for failures (run, create).
    """

    def __init__(self, message: str, status: int = 1, *, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.final = final


class UsageError(CommandError):
    """The command line itself is wrong; the usage line is printed after the message."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)


class DaemonError(CommandError):
    """The daemon answered with an HTTP error; message is the daemon's own text."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.http_status = http_status
        self.reason = message


class ConnectionFailed(CommandError):
    """No daemon answers at the configured address."""


class Exit(Exception):
    """Ends the command with this exit status and no message."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
