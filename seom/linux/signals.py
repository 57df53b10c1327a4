"""signal(7) by numbers: the standard module without its enumerations, which take 3 ms to load.

For the programs that a container's start waits for. The functions and numbers are those that the
standard module itself wraps.
"""

from _signal import (  # type: ignore[import-not-found]
    NSIG,
    SIG_BLOCK,
    SIG_DFL,
    SIG_SETMASK,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGPIPE,
    SIGRTMIN,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGWINCH,
    getsignal,
    pidfd_send_signal,
    pthread_sigmask,
    signal,
    sigwaitinfo,
    valid_signals,
)

__all__ = [
    "NSIG",
    "SIGCHLD",
    "SIGCONT",
    "SIGKILL",
    "SIGPIPE",
    "SIGRTMIN",
    "SIGSTOP",
    "SIGTERM",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGWINCH",
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_SETMASK",
    "getsignal",
    "pidfd_send_signal",
    "pthread_sigmask",
    "signal",
    "sigwaitinfo",
    "valid_signals",
]
