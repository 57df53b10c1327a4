"""Process 1 of a container started with --init: starts the program, hands on signals, reaps orphans."""

from __future__ import annotations

import _socket
import os

from seom.linux import process
from seom.linux import signals as signal

_OWN = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}


def fork_program(channel: _socket.socket) -> None:
    """Fork: returns in the child, which is to execute the program; the parent reaps until that ends.

    The parent gives up the channel, so that its end of file still means that the program runs.
    """
    everything = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        _take_terminal()
        return
    try:
        process.set_name("seom-init")
        process.replace_command_line("seom-init")  # the container sees it
        process.close_range(3, 0xFFFFFFFF)
        _reap_until_exit_of(child, everything)
    finally:
        os._exit(255)


def _take_terminal() -> None:
    os.setpgid(0, 0)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # no terminal


def _reap_until_exit_of(child: int, signals: set[int]) -> None:
    while True:
        number = signal.sigwaitinfo(signals).si_signo
        if number == signal.SIGCHLD:
            _reap(child)
        elif number not in _OWN:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == child:
            os._exit(process.exit_code(status))
        if pid == 0:
            return
