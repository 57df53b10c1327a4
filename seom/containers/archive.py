"""What a program of its own does with a container's files: look up, pack, extract.

Forked for each request by seom.containers.archive_server, asked by seom.containers.files:

    daemon                             program, forked for one request
      | request, connection, root -----> enters the view of the container's files
      |                                    running: /proc/PID/root, a descriptor from the daemon
      |                                    else: overlay and volumes in a mount namespace of its own
      | (put) tar, end of stream ------>
      | <--------------- frame: Reply -- looked up, done, or refused
      | (get, export) <- frames: tar --- each with its length in four bytes before it;
      | <--------------- empty frame --- a stream that ends without one has broken off

A process of its own because the daemon never forks, because a mount namespace belongs to a process,
and because archives are hostile: what goes wrong here ends here. Paths are resolved by the kernel
inside the root (openat2, RESOLVE_IN_ROOT without magic links), never by name in the host.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from functools import partial

import msgspec

from seom.containers.container_path import (
    Located,
    PathStat,
    absolute,
    base_name,
    locate,
    open_inside,
    path_stat,
)
from seom.errors import Conflict, Forbidden, InvalidParameter, NotFound, SeomError, SystemFailure
from seom.linux import mount as mnt
from seom.linux.libc import AT_FDCWD, AT_RECURSIVE
from seom.linux.namespaces import CLONE_NEWNS, unshare
from seom.linux.overlay import open_overlay
from seom.storage.pack import TarWriter
from seom.storage.streams import decompressed
from seom.storage.unpack import Placement, place

FRAME_BYTES = 1 << 18
LENGTH_BYTES = 4

KINDS: dict[str, type[SeomError]] = {
    kind.__name__: kind for kind in (Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure)
}


class Bind(msgspec.Struct, frozen=True):
    """A volume or bind of a container that does not run."""

    source: str
    destination: str
    read_only: bool = False


class View(msgspec.Struct, frozen=True):
    """A container's files. root is a descriptor of a running one's root, else -1.

    The directories are those of its overlay, lowers topmost first.
    """

    container: str
    lowers: list[str]
    upper: str
    work: str
    binds: list[Bind] = []
    read_only_root: bool = False
    root: int = -1


class Request(msgspec.Struct, frozen=True):
    """What to do: stat, get, put or export; owner replaces those in the archive of a put."""

    action: str
    view: View
    path: str = "/"
    owner: tuple[int, int] | None = None
    keep_kinds: bool = False


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The program's answer: of a lookup, of a put, or an error of a kind in seom.errors."""

    stat: PathStat | None = None
    error: str = ""
    message: str = ""


class Frames:
    """Writes frames to a stream socket or pipe; small pieces are gathered."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Add to the frame in the making, and send that when it is large enough."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= FRAME_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered as one frame."""
        if self._size:
            self._send(b"".join(self._pieces))
            self._pieces, self._size = [], 0

    def reply(self, reply: Reply) -> None:
        """Send a frame with a reply."""
        self._send(msgspec.json.encode(reply))

    def end(self) -> None:
        """Send the empty frame: all went well."""
        self.flush()
        self._send(b"")

    def _send(self, frame: bytes) -> None:
        data = memoryview(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
        while data:
            data = data[os.write(self._descriptor, data) :]


def serve(request: Request, connection: int) -> None:
    """Answer one request on a stream socket, in a process that ends afterwards.

    Raises OSError when the daemon has gone, or when an archive under way breaks off.
    """
    frames = Frames(connection)
    try:
        send = _prepare(request, connection, frames)
    except SeomError as error:
        frames.reply(Reply(error=type(error).__name__, message=str(error)))
    except OSError as error:
        frames.reply(_describe(error, request))
    else:
        send()
        return
    # A socket that is closed with data unread loses the reply too.
    while os.read(connection, FRAME_BYTES):
        pass


def _prepare(request: Request, connection: int, frames: Frames) -> Callable[[], None]:
    """Do everything that can be refused and reply; what is left is to send the archive, if any."""
    if request.action == "export":
        overlay = open_overlay([request.view.upper, *request.view.lowers])
        frames.reply(Reply())
        return partial(_export, overlay, frames)
    root = _enter(request.view, writable=request.action == "put")
    if request.action == "put":
        _put(root, request, connection)
        frames.reply(Reply())
        return frames.end
    found = locate(root, request.path)
    frames.reply(Reply(stat=path_stat(root, request.path, found)))
    return partial(_get, request.path, found, frames) if request.action == "get" else frames.end


def _describe(error: OSError, request: Request) -> Reply:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and request.action != "export":
        if error.errno == errno.ENOTDIR and request.path.endswith(("/", "/.")):
            return Reply(error="InvalidParameter", message=f"lstat {request.path}: not a directory")
        text = f"Could not find the file {request.path} in container {request.view.container}"
        return Reply(error="NotFound", message=text)
    if error.errno == errno.EROFS:
        return Reply(error="Forbidden", message="container rootfs is marked read-only")
    reason = os.strerror(error.errno or 0)
    text = f"{request.action} {request.path} of container {request.view.container}: {reason}"
    return Reply(error="SystemFailure", message=text)


def _enter(view: View, writable: bool) -> int:
    """A descriptor of the container's root, with its volumes."""
    if view.root >= 0:
        return view.root
    unshare(CLONE_NEWNS)
    mnt.set_propagation("/", mnt.MS_PRIVATE)
    overlay = open_overlay(view.lowers, view.upper, view.work) if writable else _throw_away_overlay(view)
    # In this namespace the work directory serves as the mount point.
    mnt.move_mount(overlay, "", AT_FDCWD, view.work, mnt.MOVE_MOUNT_F_EMPTY_PATH)
    root = os.open(view.work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for bind in view.binds:
        _bind(root, bind)
    return root


def _throw_away_overlay(view: View) -> int:
    """The container's files below an empty layer in memory: for volumes' mount points that are missing."""
    mnt.mount("tmpfs", view.work, "tmpfs", 0, "mode=0700")
    upper, work = f"{view.work}/upper", f"{view.work}/work"
    os.mkdir(upper)
    os.mkdir(work)
    status = os.stat(view.upper)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    return open_overlay([view.upper, *view.lowers], upper, work)


def _open_source(bind: Bind) -> int | None:
    try:
        tree = mnt.open_tree(AT_FDCWD, bind.source, mnt.OPEN_TREE_CLONE | AT_RECURSIVE)
    except FileNotFoundError:
        return None
    if bind.read_only:
        mnt.mount_setattr(tree, "", flags=AT_RECURSIVE, attr_set=mnt.MOUNT_ATTR_RDONLY)
    return tree


def _bind(root: int, bind: Bind) -> None:
    """Mount a volume in the view; where it cannot be (a file for a directory) the place stays as it is."""
    source = _open_source(bind)
    if source is None:
        return
    try:
        target = _mount_point(root, bind.destination, stat.S_ISDIR(os.fstat(source).st_mode))
        mnt.attach(source, target)
        os.close(target)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP, errno.EEXIST):
            raise
    finally:
        os.close(source)


def _mount_point(root: int, path: str, is_directory: bool) -> int:
    try:
        return open_inside(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    parent_path, _, name = path.rpartition("/")
    parent = _mount_point(root, parent_path or "/", is_directory=True)
    try:
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent))
    finally:
        os.close(parent)
    return open_inside(root, path, os.O_PATH)


def _get(path: str, found: Located, frames: Frames) -> None:
    writer = TarWriter(frames.write)
    name = os.fsencode(base_name(path))
    if found.is_directory:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.descriptor)
        prefix = name if name == b"/" else name + b"/"
        writer.add_directory_itself(directory, prefix)
        writer.add_content(directory, prefix)
    else:
        writer.add(found.parent, found.name, name)
    writer.finish()
    frames.end()


def _put(root: int, request: Request, connection: int) -> None:
    path = absolute(request.path)
    directory = open_inside(root, path, os.O_PATH)
    if not stat.S_ISDIR(os.fstat(directory).st_mode):
        raise InvalidParameter("extraction point is not a directory")
    _check_writable(root, directory, request.view)
    with io.FileIO(connection, closefd=False) as source:
        _, plain = decompressed(source)
        place(plain, root, Placement(os.fsencode(path), request.owner, request.keep_kinds))


def _check_writable(root: int, directory: int, view: View) -> None:
    on_root = _mount_id(root) == _mount_id(directory)
    if on_root and view.read_only_root:
        raise Forbidden("container rootfs is marked read-only")
    if os.statvfs(f"/proc/self/fd/{directory}").f_flag & os.ST_RDONLY:
        what = "container rootfs" if on_root else "mounted volume"
        raise Forbidden(f"{what} is marked read-only")


def _mount_id(descriptor: int) -> str:
    """See proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        fields = file.read().split()
    return fields[fields.index("mnt_id:") + 1]


def _export(overlay: int, frames: Frames) -> None:
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=overlay)
    writer = TarWriter(frames.write)
    writer.add_content(root)
    writer.finish()
    frames.end()
