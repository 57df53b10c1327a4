"""Files in and out of containers, through the program that the daemon starts for it."""

from __future__ import annotations

import asyncio
import io
import os
import select
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from seom.containers.archive import Bind, View
from seom.containers.container_path import PathStat
from seom.containers.files import FileServer
from seom.errors import Forbidden, InvalidParameter, NotFound, SystemFailure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and overlays need root")


@dataclass(frozen=True)
class Fixture:
    """A container that does not run, its directories, and a host directory it must not reach."""

    view: View
    upper: Path
    outside: Path
    volume: Path
    files: FileServer

    def changed(self, **fields: object) -> Fixture:
        return replace(self, view=msgspec.structs.replace(self.view, **fields))


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Fixture]:
    lower, upper, work, outside, volume = (
        tmp_path / name for name in ("lower", "upper", "work", "outside", "volume")
    )
    for directory in (lower, upper, work, outside, volume):
        directory.mkdir()
    (outside / "secret").write_text("secret")
    (lower / "etc").mkdir()
    (lower / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (lower / "etc/link").symlink_to("/etc/passwd")
    (lower / "etc/dangling").symlink_to("nowhere")
    (lower / "etc/gone").touch()
    (lower / "etc/script").touch()
    (lower / "etc/script").chmod(0o4755)
    (lower / "escape").symlink_to("../" * 20 + str(outside))
    (lower / "absolute").symlink_to(outside)
    (upper / "etc").mkdir()
    (upper / "etc/new").write_text("new")
    os.mknod(upper / "etc/gone", stat.S_IFCHR, 0)
    (volume / "inside").write_text("volume")
    view = View(
        container="web",
        lowers=[str(lower)],
        upper=str(upper),
        work=str(work),
        binds=[Bind(str(volume), "/data/volume")],
    )
    server = FileServer()
    yield Fixture(view, upper, outside, volume, server)
    server.close()


@contextmanager
def running(fixture: Fixture, root: Path) -> Iterator[Fixture]:
    """The same container with a process whose root has the overlay and the volume mounted."""
    upper, view = str(fixture.upper), fixture.view
    script = f"""
import os, sys
from seom.linux import mount as m
from seom.linux.namespaces import unshare, CLONE_NEWNS
from seom.linux.overlay import open_overlay
unshare(CLONE_NEWNS); m.set_propagation("/", m.MS_PRIVATE)
root = {str(root)!r}; os.mkdir(root)
m.move_mount(open_overlay({view.lowers!r}, {upper!r}, {view.work!r}), "", -100, root, 4)
os.makedirs(root + "/data/volume")
m.mount({str(fixture.volume)!r}, root + "/data/volume", None, m.MS_BIND)
os.chroot(root); os.chdir("/")
print("ready", flush=True); sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        descriptor = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY)
        yield fixture.changed(root=descriptor)
        os.close(descriptor)
    finally:
        process.communicate(b"")


@pytest.fixture(params=["stopped", "running"])
def either(request: pytest.FixtureRequest, container: Fixture, tmp_path: Path) -> Iterator[Fixture]:
    if request.param == "stopped":
        yield container
    else:
        with running(container, tmp_path / "root") as started:
            yield started


def stat_of(fixture: Fixture, path: str) -> PathStat:
    return asyncio.run(fixture.files.stat(fixture.view, path))


def get(fixture: Fixture, path: str) -> dict[str, tarfile.TarInfo]:
    async def collect() -> bytes:
        async with fixture.files.read(fixture.view, path) as (_, chunks):
            return b"".join([chunk async for chunk in chunks])

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(collect()))) as tar:
        return {member.name: member for member in tar.getmembers()}


def put(
    fixture: Fixture,
    path: str,
    archive: bytes,
    owner: tuple[int, int] | None = None,
    keep_kinds: bool = False,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    asyncio.run(fixture.files.write(fixture.view, path, chunks(), owner, keep_kinds))


def archive_of(*members: tuple[str, bytes | None], mode: str = "w") -> bytes:
    """A tar archive; a name with content is a file, without one a directory."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.uid = info.gid = 12
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def test_stat_describes_files_links_and_directories(either: Fixture) -> None:
    passwd = stat_of(either, "/etc/passwd")
    assert (passwd.name, passwd.size, passwd.link_target) == ("passwd", 22, "")
    assert passwd.mode & 0o777 == 0o644
    link = stat_of(either, "etc/link")
    assert link.mode & 1 << 27
    assert link.link_target == "/etc/passwd"
    assert stat_of(either, "/etc/dangling").link_target == "/etc/nowhere"
    assert stat_of(either, "/etc/").mode & 1 << 31
    assert stat_of(either, "/etc/script").mode == 1 << 23 | 0o755
    assert stat_of(either, "/").name == "/"


def test_what_the_container_deleted_or_made_counts(either: Fixture) -> None:
    assert stat_of(either, "/etc/new").size == 3
    with pytest.raises(NotFound, match=r"^Could not find the file /etc/gone in container web$"):
        stat_of(either, "/etc/gone")


def test_volumes_are_visible(either: Fixture) -> None:
    assert list(get(either, "/data/volume")) == ["volume", "volume/inside"]
    put(either, "/data/volume", archive_of(("more", b"x")))
    assert (either.volume / "more").read_text() == "x"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/etc/passwd", ["passwd"]),
        ("/etc/link", ["link"]),
        ("/etc", ["etc", "etc/dangling", "etc/link", "etc/new", "etc/passwd", "etc/script"]),
        ("/etc/.", [".", "./dangling", "./link", "./new", "./passwd", "./script"]),
        ("/etc/../etc/passwd", ["passwd"]),
    ],
)
def test_get_names_its_entries_as_docker_does(either: Fixture, path: str, names: list[str]) -> None:
    assert list(get(either, path)) == names


def test_get_of_the_root_has_everything_below_it(container: Fixture) -> None:
    assert {"/etc", "/etc/passwd", "/data/volume/inside", "/escape"} <= {
        "/" + name.lstrip("/") for name in get(container, "/")
    }


@pytest.mark.parametrize("path", ["/escape", "/absolute", "/escape/secret", "/absolute/", "/../../escape/."])
def test_no_link_leads_out_of_the_container(either: Fixture, path: str) -> None:
    try:
        found = get(either, path)
    except NotFound:
        return
    assert [member.type for member in found.values()] == [tarfile.SYMTYPE]


@pytest.mark.parametrize("path", ["/escape", "/absolute/", "/"])
@pytest.mark.parametrize("name", ["../../../../x", "/x", "escape/x", "absolute/x"])
def test_put_never_writes_outside(either: Fixture, path: str, name: str) -> None:
    try:
        put(either, path, archive_of((name, b"stolen")))
    except (NotFound, InvalidParameter):
        pass
    assert os.listdir(either.outside) == ["secret"]
    assert not Path("/x").exists()


def test_put_refuses_a_hard_link_to_the_outside(either: Fixture) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("stolen")
        info.type, info.linkname = tarfile.LNKTYPE, str(either.outside / "secret")
        tar.addfile(info)
    with pytest.raises(InvalidParameter):
        put(either, "/etc", stream.getvalue())
    assert (either.outside / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_put_extracts_files_with_their_owners(either: Fixture, mode: str) -> None:
    put(either, "/etc", archive_of(("sub", None), ("sub/.wh.name", b"content"), mode=mode))
    written = either.upper / "etc/sub/.wh.name"
    assert written.read_bytes() == b"content"
    assert (written.stat().st_uid, written.stat().st_gid) == (12, 12)


def test_put_gives_files_to_the_containers_user_when_asked(either: Fixture) -> None:
    put(either, "/etc", archive_of(("file", b"x")), owner=(5, 6))
    assert ((either.upper / "etc/file").stat().st_uid, (either.upper / "etc/file").stat().st_gid) == (5, 6)


def test_put_follows_a_link_to_a_directory_inside(container: Fixture) -> None:
    (container.upper / "inside").symlink_to("/etc")
    put(container, "/inside", archive_of(("file", b"x")))
    assert (container.upper / "etc/file").read_bytes() == b"x"


def test_put_leaves_the_place_itself_as_it_is(container: Fixture) -> None:
    before = (container.upper / "etc").stat()
    put(container, "/etc", archive_of((".", None), ("./file", b"x")))
    after = (container.upper / "etc").stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("sub", b"x"), 'cannot overwrite directory "sub" with non-directory "sub"'),
        (("passwd", None), 'cannot overwrite non-directory "passwd" with directory "passwd"'),
    ],
)
def test_put_keeps_the_kind_of_what_is_there_when_asked(
    container: Fixture, member: tuple[str, bytes | None], message: str
) -> None:
    (container.upper / "etc/sub").mkdir()
    with pytest.raises(InvalidParameter, match=message):
        put(container, "/etc", archive_of(member), keep_kinds=True)
    put(container, "/etc", archive_of(member))


def test_put_wants_a_directory(either: Fixture) -> None:
    with pytest.raises(InvalidParameter, match="extraction point is not a directory"):
        put(either, "/etc/passwd", archive_of(("x", b"x")))
    with pytest.raises(NotFound, match="Could not find the file /nowhere in container web"):
        put(either, "/nowhere", archive_of(("x", b"x")))


def test_put_respects_read_only_roots_and_volumes(container: Fixture) -> None:
    binds = [Bind(str(container.volume), "/data", read_only=True)]
    locked = container.changed(read_only_root=True, binds=binds)
    with pytest.raises(Forbidden, match="container rootfs is marked read-only"):
        put(locked, "/etc", archive_of(("x", b"x")))
    with pytest.raises(Forbidden, match="mounted volume is marked read-only"):
        put(locked, "/data", archive_of(("x", b"x")))


def test_a_damaged_archive_is_refused(either: Fixture) -> None:
    with pytest.raises(InvalidParameter):
        put(either, "/etc", b"this is no archive" * 100)
    with pytest.raises(InvalidParameter):
        put(either, "/etc", archive_of(("big", b"x" * 10_000))[:5000])


def test_looking_at_a_stopped_container_changes_nothing(container: Fixture) -> None:
    stat_of(container, "/data/volume/inside")
    assert sorted(os.listdir(container.upper)) == ["etc"]
    assert os.listdir(container.view.work) == []
    assert str(container.view.work) not in Path("/proc/self/mountinfo").read_text()


def test_export_is_the_merged_root_without_volumes(either: Fixture) -> None:
    async def collect() -> bytes:
        async with either.files.export(either.view) as chunks:
            return b"".join([chunk async for chunk in chunks])

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(collect()))) as tar:
        names = tar.getnames()
    assert {"etc", "etc/new", "etc/passwd", "escape"} <= set(names)
    assert "etc/gone" not in names
    assert not any("inside" in name for name in names)


def test_a_reader_that_stops_ends_the_program(container: Fixture) -> None:
    (container.upper / "big").write_bytes(bytes(5_000_000))

    async def look() -> None:
        async with container.files.read(container.view, "/big") as (_, chunks):
            await anext(chunks)

    asyncio.run(look())
    for child in programs(container):
        wait_for_end(child)


def programs(container: Fixture) -> list[int]:
    """The programs that the server has forked."""
    server = container.files._process
    assert server is not None
    return list(map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()))


def wait_for_program(container: Fixture) -> int:
    while not container.files._process or not programs(container):
        select.select([], [], [], 0.01)
    return programs(container)[0]


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


def test_a_killed_server_is_replaced(container: Fixture) -> None:
    stat_of(container, "/etc")
    server = container.files._process
    assert server is not None
    server.kill()
    server.wait()
    assert stat_of(container, "/etc").name == "etc"


def test_a_program_that_hangs_is_killed_when_nobody_waits_for_it(container: Fixture) -> None:
    async def give_up() -> None:
        async def never() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        writing = asyncio.create_task(container.files.write(container.view, "/etc", never()))
        os.kill(await asyncio.to_thread(wait_for_program, container), signal.SIGSTOP)
        writing.cancel()
        await asyncio.wait({writing})

    asyncio.run(give_up())
    for child in programs(container):
        wait_for_end(child)


def test_one_program_that_ends_is_noticed_while_another_runs(container: Fixture) -> None:
    (container.upper / "big").write_bytes(bytes(5_000_000))

    async def both() -> None:
        async with container.files.read(container.view, "/big") as (_, slow):
            await anext(slow)
            first = programs(container)
            async with container.files.read(container.view, "/big") as (_, chunks):
                await anext(chunks)
                os.kill(next(pid for pid in programs(container) if pid not in first), signal.SIGKILL)
                with pytest.raises(SystemFailure, match="broke off"):
                    async for _ in chunks:
                        pass
            assert sum([len(chunk) async for chunk in slow])

    asyncio.run(both())


def test_requests_are_served_side_by_side(container: Fixture) -> None:
    async def many() -> list[PathStat]:
        return await asyncio.gather(*(container.files.stat(container.view, "/etc") for _ in range(32)))

    assert {found.name for found in asyncio.run(many())} == {"etc"}


def test_an_archive_that_breaks_off_is_an_error(container: Fixture) -> None:
    (container.upper / "big").write_bytes(bytes(50_000_000))

    async def look() -> None:
        async with container.files.read(container.view, "/big") as (_, chunks):
            await anext(chunks)
            for child in programs(container):
                os.kill(child, signal.SIGKILL)
            async for _ in chunks:
                pass

    with pytest.raises(SystemFailure, match="the archive broke off"):
        asyncio.run(look())


FLIP = """
import ctypes, sys
renameat2 = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)  # RENAME_EXCHANGE
"""


@contextmanager
def flipping(directory: Path, link: Path) -> Iterator[None]:
    """A directory and a link that change places all the time."""
    command = [sys.executable, "-S", "-c", FLIP, str(directory), str(link)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def test_a_directory_exchanged_for_a_link_to_the_host_leads_nowhere(either: Fixture) -> None:
    place, trap = either.volume / "place", either.volume / "trap"
    place.mkdir()
    trap.symlink_to(either.outside)
    with flipping(place, trap):
        for _ in range(40):
            try:
                put(either, "/data/volume/place", archive_of(("x", b"stolen"), ("sub/y", b"stolen")))
                put(either, "/data/volume", archive_of(("place/x", b"stolen")))
            except (NotFound, InvalidParameter, SystemFailure):
                pass
            try:
                names = get(either, "/data/volume")
            except SystemFailure:
                continue
            assert not any(name.endswith("/secret") for name in names)
    assert os.listdir(either.outside) == ["secret"]
