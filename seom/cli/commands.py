"""The tree of commands: every spelling, and the module that is imported when it is used.

Only names and one-line summaries are here, so that `seom --help` and the search for a command
import nothing. Flags, usage and the work itself are in the module's `Command`.
"""

from __future__ import annotations

from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seom.cli.client import Client
    from seom.cli.flags import Options


class Invocation:
    """One use of a command: the words that named it, its options and arguments, the daemon."""

    __slots__ = ("arguments", "client", "options", "words")

    def __init__(self, words: str, options: Options, arguments: list[str], client: Client) -> None:
        self.words = words
        self.options = options
        self.arguments = arguments
        self.client = client


class Command:
    """What a command accepts and does.

    run returns the exit status. arguments is the least and the greatest number of arguments
    (None: any). completes names what a shell offers for the arguments: "containers", "running",
    "images", "networks", "volumes", "files" or nothing. error_status is the exit status of a
    failure that is the daemon's or Seom's own.
    """

    __slots__ = (
        "arguments",
        "completes",
        "details",
        "error_status",
        "flags",
        "interspersed",
        "run",
        "usage",
    )

    def __init__(
        self,
        run: Callable[[Invocation], int],
        usage: str,
        arguments: tuple[int, int | None] = (0, 0),
        flags: Sequence[Flag] = (),
        *,
        interspersed: bool = True,
        completes: str = "",
        details: str = "",
        error_status: int = 1,
    ) -> None:
        self.run = run
        self.usage = usage
        self.arguments = arguments
        self.flags = tuple(flags)
        self.interspersed = interspersed
        self.completes = completes
        self.details = details
        self.error_status = error_status


GLOBAL_FLAGS = (
    Flag("host", "string", "Daemon socket to connect to (unix://PATH or tcp://HOST:PORT)", short="H"),
    Flag("config", "string", "Location of the client's config files", complete="files"),
    Flag("debug", "bool", "Print a traceback when the command itself fails", short="D"),
    Flag("version", "bool", "Print version information and quit", short="v"),
)

GROUPS = {
    "container": "Manage containers",
    "image": "Manage images",
    "builder": "Manage builds",
    "network": "Manage networks",
    "volume": "Manage volumes",
    "system": "Manage Seom",
}

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "version", "info")

# Module and attribute of the Command, summary, and every spelling; the first is the main one.
_ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("run:RUN", "Create and run a new container from an image", ("run", "container run")),
    ("run:CREATE", "Create a new container", ("create", "container create")),
    ("execute:EXEC", "Execute a command in a running container", ("exec", "container exec")),
    ("ps:PS", "List containers", ("ps", "container ls", "container list", "container ps")),
    (
        "attach:ATTACH",
        "Attach local standard input, output, and error streams to a running container",
        ("attach", "container attach"),
    ),
    ("attach:START", "Start one or more stopped containers", ("start", "container start")),
    ("containers:STOP", "Stop one or more running containers", ("stop", "container stop")),
    ("containers:RESTART", "Restart one or more containers", ("restart", "container restart")),
    ("containers:KILL", "Kill one or more running containers", ("kill", "container kill")),
    ("containers:PAUSE", "Pause all processes within one or more containers", ("pause", "container pause")),
    (
        "containers:UNPAUSE",
        "Unpause all processes within one or more containers",
        ("unpause", "container unpause"),
    ),
    (
        "containers:REMOVE",
        "Remove one or more containers",
        ("rm", "container rm", "container remove"),
    ),
    (
        "containers:WAIT",
        "Block until one or more containers stop, then print their exit codes",
        ("wait", "container wait"),
    ),
    ("containers:RENAME", "Rename a container", ("rename", "container rename")),
    ("containers:UPDATE", "Update configuration of one or more containers", ("update", "container update")),
    ("containers:PRUNE", "Remove all stopped containers", ("container prune",)),
    ("container_views:TOP", "Display the running processes of a container", ("top", "container top")),
    (
        "container_views:PORT",
        "List port mappings or a specific mapping for the container",
        ("port", "container port"),
    ),
    (
        "container_views:DIFF",
        "Inspect changes to files or directories on a container's filesystem",
        ("diff", "container diff"),
    ),
    ("container_views:LOGS", "Fetch the logs of a container", ("logs", "container logs")),
    (
        "stats:STATS",
        "Display a live stream of container(s) resource usage statistics",
        ("stats", "container stats"),
    ),
    (
        "copy:COPY",
        "Copy files/folders between a container and the local filesystem",
        ("cp", "container cp"),
    ),
    (
        "copy:EXPORT",
        "Export a container's filesystem as a tar archive",
        ("export", "container export"),
    ),
    (
        "copy:COMMIT",
        "Create a new image from a container's changes",
        ("commit", "container commit"),
    ),
    ("inspect:INSPECT", "Return low-level information on objects", ("inspect",)),
    (
        "inspect:CONTAINER",
        "Display detailed information on one or more containers",
        ("container inspect",),
    ),
    ("inspect:IMAGE", "Display detailed information on one or more images", ("image inspect",)),
    ("inspect:NETWORK", "Display detailed information on one or more networks", ("network inspect",)),
    ("inspect:VOLUME", "Display detailed information on one or more volumes", ("volume inspect",)),
    ("images:IMAGES", "List images", ("images", "image ls", "image list")),
    ("images:HISTORY", "Show the history of an image", ("history", "image history")),
    (
        "images:TAG",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        ("tag", "image tag"),
    ),
    ("images:REMOVE", "Remove one or more images", ("rmi", "image rm", "image remove")),
    ("images:PRUNE", "Remove unused images", ("image prune",)),
    ("build:BUILD", "Build an image from a Dockerfile", ("build", "image build", "builder build")),
    ("build:PRUNE", "Remove build cache", ("builder prune",)),
    ("image_transfer:PULL", "Download an image from a registry", ("pull", "image pull")),
    ("image_transfer:PUSH", "Upload an image to a registry", ("push", "image push")),
    (
        "image_archive:SAVE",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        ("save", "image save"),
    ),
    ("image_archive:LOAD", "Load an image from a tar archive or STDIN", ("load", "image load")),
    (
        "image_archive:IMPORT",
        "Import the contents from a tarball to create a filesystem image",
        ("import", "image import"),
    ),
    ("login:LOGIN", "Authenticate to a registry", ("login",)),
    ("login:LOGOUT", "Log out from a registry", ("logout",)),
    ("networks:LIST", "List networks", ("network ls", "network list")),
    ("networks:CREATE", "Create a network", ("network create",)),
    ("networks:REMOVE", "Remove one or more networks", ("network rm", "network remove")),
    ("networks:PRUNE", "Remove all unused networks", ("network prune",)),
    ("networks:CONNECT", "Connect a container to a network", ("network connect",)),
    ("networks:DISCONNECT", "Disconnect a container from a network", ("network disconnect",)),
    ("volumes:LIST", "List volumes", ("volume ls", "volume list")),
    ("volumes:CREATE", "Create a volume", ("volume create",)),
    ("volumes:REMOVE", "Remove one or more volumes", ("volume rm", "volume remove")),
    ("volumes:PRUNE", "Remove unused local volumes", ("volume prune",)),
    ("events:EVENTS", "Get real time events from the server", ("events", "system events")),
    ("version:VERSION", "Show the Seom version information", ("version",)),
    ("info:INFO", "Display system-wide information", ("info", "system info")),
    ("disk_usage:DISK_USAGE", "Show disk usage", ("system df",)),
    ("prune:PRUNE", "Remove unused data", ("system prune",)),
    (
        "prune:RESET",
        "Stop and remove everything that this daemon made: containers, images, networks, volumes",
        ("system reset",),
    ),
    ("doctor:DOCTOR", "Check what this machine has and lacks for Seom", ("doctor",)),
    ("completion:COMPLETION", "Print the completion script for a shell", ("completion",)),
)

MAIN = {row[2][0]: row for row in _ROWS}
SPELLINGS = {spelling: row for row in _ROWS for spelling in row[2]}


def load(words: str) -> Command:
    """The Command behind a spelling; imports its module. Raises KeyError."""
    module_name, _, attribute = SPELLINGS[words][0].partition(":")
    module = __import__(f"seom.cli.{module_name}", fromlist=[attribute])
    command = getattr(module, attribute)
    assert isinstance(command, Command)
    return command


def members(group: str) -> dict[str, str]:
    """Names and summaries of a group's commands, one spelling each; "" is the top level."""
    prefix = f"{group} " if group else ""
    found: dict[str, str] = {}
    for _, summary, spellings in _ROWS:
        own = [word for word in spellings if word.startswith(prefix) and " " not in word[len(prefix) :]]
        if own:
            found[own[0][len(prefix) :]] = summary
    return found
