"""A TCP proxy that damages chosen answers, to see what a client makes of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

from tests.harness.network_namespace import NetworkNamespace


class Damage(StrEnum):
    CUT = "cut"
    CORRUPT = "corrupt"
    REFUSE = "refuse"
    STALL = "stall"


@dataclass
class Fault:
    """After ``after_bytes`` of the answer to a request that contains ``request``: cut or change it.

    CORRUPT changes the next byte; REFUSE closes the connection before the request is passed on;
    STALL keeps it open and sends nothing more until FaultProxy.resume is set.
    """

    request: bytes
    damage: Damage
    after_bytes: int = 0


class FaultProxy:
    """Passes connections on to a port of 127.0.0.1; each planned fault happens once.

    stalled is set when a STALL has begun, given_up when the client closed that connection;
    set resume to let a stalled answer go on.
    """

    def __init__(self, target_port: int, network: NetworkNamespace | None = None) -> None:
        self.target_port = target_port
        self.faults: list[Fault] = []
        self.requests: list[bytes] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.stalled = threading.Event()
        self.given_up = threading.Event()
        self.resume = threading.Event()
        self._network = network
        self._listener = self._in_network(lambda: socket.create_server(("127.0.0.1", 0)))
        self.port: int = self._listener.getsockname()[1]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def plan(self, request: str, damage: Damage, after_bytes: int = 0) -> None:
        """Damage the answer to the next request whose first bytes contain this text."""
        with self._lock:
            self.faults.append(Fault(request.encode(), damage, after_bytes))

    def count(self, request: str) -> int:
        """How many requests with this text were passed on or refused."""
        return sum(request.encode() in seen for seen in self.requests)

    def __enter__(self) -> FaultProxy:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume.set()
        for each in (self._listener, *self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _in_network(self, make: Callable[[], socket.socket]) -> socket.socket:
        return self._network.call(make) if self._network else make()

    def _spawn(self, function: object, *arguments: object) -> None:
        assert callable(function)
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = self._in_network(
                    lambda: socket.create_connection(("127.0.0.1", self.target_port), 10)
                )
            except OSError:
                return
            self._sockets += [client, server]
            pending: list[Fault] = []
            self._spawn(self._pass_requests, client, server, pending)
            self._spawn(self._pass_answers, server, client, pending)

    def _pass_requests(self, client: socket.socket, server: socket.socket, pending: list[Fault]) -> None:
        try:
            while chunk := client.recv(65536):
                if not self._plan_answer(chunk, pending):
                    break
                server.sendall(chunk)
        except OSError:
            pass
        if self.stalled.is_set():
            self.given_up.set()
        _end(client, server)

    def _plan_answer(self, chunk: bytes, pending: list[Fault]) -> bool:
        """Find the fault for a request; False when it is to be refused."""
        with self._lock:
            self.requests.append(chunk[:2000])
            for fault in self.faults:
                if fault.request in chunk:
                    self.faults.remove(fault)
                    if fault.damage == Damage.REFUSE:
                        return False
                    pending.append(fault)
                    return True
        return True

    def _pass_answers(self, server: socket.socket, client: socket.socket, pending: list[Fault]) -> None:
        try:
            while chunk := server.recv(65536):
                if not pending:
                    client.sendall(chunk)
                    continue
                fault = pending[0]
                if fault.after_bytes >= len(chunk):
                    fault.after_bytes -= len(chunk)
                    client.sendall(chunk)
                    continue
                pending.pop()
                if fault.damage == Damage.CUT:
                    client.sendall(chunk[: fault.after_bytes])
                    break
                if fault.damage == Damage.STALL:
                    client.sendall(chunk[: fault.after_bytes])
                    self.stalled.set()
                    self.resume.wait()
                    client.sendall(chunk[fault.after_bytes :])
                    continue
                changed = bytearray(chunk)
                changed[fault.after_bytes] ^= 0xFF
                client.sendall(changed)
        except OSError:
            pass
        _end(server, client)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
