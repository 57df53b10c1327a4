"""What run, start, attach and exec share: hijacking a stream, its size, signals, exit statuses."""

from __future__ import annotations

import os
import select

from seom.cli import credentials, output, terminal
from seom.cli.client import Client, Connection, Response, query
from seom.cli.errors import CommandError, ConnectionFailed, DaemonError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

_SUCCESSOR_TRIES = 40
_SUCCESSOR_INTERVAL_MS = 250
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


def require_terminal(tty: bool, stdin: bool) -> None:
    """A terminal session needs a terminal to read from."""
    if tty and stdin and not os.isatty(0):
        raise CommandError("the input device is not a TTY", final=True)


def detach_keys(text: str) -> tuple[str, bytes]:
    """The keys as the API and as the terminal know them: the flag, the config file, or ctrl-P ctrl-Q."""
    text = text or str(credentials.load_config().get("detachKeys", ""))
    return text, terminal.parse_detach_keys(text) if text else terminal.DEFAULT_DETACH_KEYS


def hijack(
    client: Client, path: str, parameters: dict[str, object], body: bytes | None = None
) -> tuple[_socket.socket, bytes]:
    """POST and take the connection over. Raises DaemonError."""
    connection = client.connect()
    headers = dict(UPGRADE)
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.begin("POST", path + query(parameters), body, headers)
    return connection.answer().check().hijack()


def resizer(client: Client, path: str) -> Callable[[], None]:
    """A function that tells the daemon the terminal's size; failures do not matter."""

    def resize() -> None:
        rows, columns = terminal.size(1)
        if rows or columns:
            _attempt(client, path, {"h": str(rows), "w": str(columns)})

    return resize


def signaller(client: Client, container: str) -> Callable[[int], None]:
    """A function that passes a signal on to the container; one that has just ended needs none."""

    def send(number: int) -> None:
        _attempt(client, f"/containers/{container}/kill", {"signal": str(number)})

    return send


def _attempt(client: Client, path: str, parameters: dict[str, object]) -> None:
    """POST without looking at the outcome: the conversation goes on even while there is no daemon."""
    try:
        client.send("POST", path, parameters).read()
    except ConnectionFailed:
        client.close()


class Waiting:
    """A wait for a container's exit that was begun before its start, so that no exit is missed."""

    def __init__(self, client: Client, container: str, condition: str) -> None:
        self._client = client
        self._container = container
        self._connection: Connection = client.connect()
        self._connection.begin("POST", f"/containers/{container}/wait?condition={condition}")
        self._response: Response = self._connection.answer().check()

    def end(self) -> None:
        """Wait, whatever the outcome: the container of a failed start is removed by then."""
        self._response.read()

    def status(self) -> int:
        """The exit status; 125 and a message when the wait itself failed."""
        try:
            result: dict[str, Any] = self._response.json()
        except ConnectionFailed:
            result = self._ask_again()
        error = result.get("Error") or {}
        if error.get("Message"):
            output.error(f"Error waiting for container: {error['Message']}")
            return 125
        return int(result["StatusCode"])

    def _ask_again(self) -> dict[str, Any]:
        """The status from the daemon's successor: containers outlive a daemon. Raises CommandError."""
        for _ in range(_SUCCESSOR_TRIES):
            try:
                answer = self._client.connect()
                answer.begin("POST", f"/containers/{self._container}/wait?condition=not-running")
                return dict(answer.answer().check().json())
            except ConnectionFailed as error:
                problem: CommandError = error
                select.poll().poll(_SUCCESSOR_INTERVAL_MS)
            except DaemonError as error:
                problem = CommandError(
                    f"the daemon ended, and its successor cannot tell the exit status: {error.reason}",
                    125,
                )
                break
        raise problem


def start_failure(error: DaemonError) -> CommandError:
    """A failed start with the status that shells know: 127 not found, 126 not executable, else 125."""
    text = error.reason
    missing = (
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    )
    status = 125
    if any(words in text for words in missing):
        status = 127
    elif "permission denied" in text or "is a directory" in text:
        status = 126
    return CommandError(error.message, status)
