"""What is to be launched, what can go wrong, and the words the two sides of the launch exchange."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from seom.linux.cgroup import Cgroup
    from seom.oci.runtime_spec import Namespace, Process, RuntimeSpec

MAPPED, TERMINAL, READY, FAILED = b"mapped", b"terminal", b"ready", b"failed"


class SandboxError(Exception):
    """A step failed. stage names it, errno is 0 when it was no system call."""

    def __init__(self, stage: str, number: int, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.errno = number
        self.message = message


class Launch:
    """What create() needs to know. Descriptors stay the caller's.

    overlay       a detached mount to be the root; None: spec.root.path
    mountpoint    an existing directory on which the root is put, in the new namespace only
    network       a network namespace to join
    cgroup        joined by the new process; None: it stays in the caller's
    stdio         descriptors for 0, 1 and 2; None: a terminal, whose master side goes to the caller
    rows, columns the terminal's size in characters, 0: left alone
    seccomp       a compiled filter, b"": none
    exec_fifo     a FIFO opened for reading: the program is executed once there is something to read
    init          run the program below a reaper that is process 1
    sibling       make the process a child of the caller's parent
    preserved     how many descriptors after the standard streams the program keeps
    before_pivot  called in the new process when its mounts are made
    before_exec   called in the new process right before it becomes the program
    join          a pidfd whose namespaces to join instead of making new ones, and join_pid its pid
    """

    __slots__ = (
        "before_exec",
        "before_pivot",
        "cgroup",
        "columns",
        "exec_fifo",
        "init",
        "join",
        "join_pid",
        "mountpoint",
        "name",
        "network",
        "overlay",
        "preserved",
        "process",
        "rows",
        "seccomp",
        "sibling",
        "spec",
        "stdio",
    )

    def __init__(
        self,
        name: str,
        spec: RuntimeSpec | None,
        process: Process,
        *,
        overlay: int | None = None,
        mountpoint: str = "",
        network: int | None = None,
        cgroup: Cgroup | None = None,
        stdio: tuple[int, int, int] | None = (0, 1, 2),
        rows: int = 0,
        columns: int = 0,
        seccomp: bytes = b"",
        exec_fifo: int | None = None,
        init: bool = False,
        join: int | None = None,
        join_pid: int = 0,
        preserved: int = 0,
        sibling: bool = False,
    ) -> None:
        self.name = name
        self.spec = spec
        self.process = process
        self.overlay = overlay
        self.mountpoint = mountpoint
        self.network = network
        self.cgroup = cgroup
        self.stdio = stdio
        self.rows = rows
        self.columns = columns
        self.seccomp = seccomp
        self.exec_fifo = exec_fifo
        self.init = init
        self.join = join
        self.join_pid = join_pid
        self.preserved = preserved
        self.sibling = sibling
        self.before_pivot: Callable[[], None] | None = None
        self.before_exec: Callable[[], None] | None = None

    def namespaces(self) -> list[Namespace]:
        """The namespaces that the specification lists."""
        return self.spec.linux.namespaces if self.spec and self.spec.linux else []

    def makes(self, kind: str) -> bool:
        """Whether a new namespace of a kind is made, rather than shared or joined by path."""
        return any(namespace.type == kind and not namespace.path for namespace in self.namespaces())


def describe(error: OSError) -> str:
    """The error in words, with the file it is about."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename is not None else text
