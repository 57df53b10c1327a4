"""Runs tests of this project under another kernel: Debian's cloud kernel in a virtual machine.

    CACHE/VERSION/{vmlinuz,lib/modules,apparmor_parser}   from the distribution's own packages
    initramfs (temporary)   busybox, Python, pytest, this project; /init runs the tests

The guest's console is the output; its last line tells pytest's exit code. Nothing is emulated but a
serial port, so that the guest needs no modules. KVM is not tried: where it cannot run this kernel, as in
some nested machines, the guest would only hang; emulated it takes half a minute.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "seom" / "test-kernel"
QEMU = "qemu-system-x86_64"
SITE = Path(sysconfig.get_path("purelib"))
META_PACKAGE = "linux-image-cloud-amd64"
MEMORY_MB = 1024
BOOT_TIMEOUT_S = 400

UNNEEDED = {"__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "pydoc_data"}
UNNEEDED_EXTENSIONS = ("_tkinter", "_dbm", "_gdbm", "readline", "_curses", "_test")
DISTRIBUTIONS = ("msgspec", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py.py")

INIT = """#!/bin/busybox sh
export PATH=/usr/local/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/site:/seom
/bin/busybox --install -s /bin
mount -o bind / /r && cd /r && mount --move . / && exec chroot . /run-tests
"""
RUN_TESTS = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm && mount -t devpts dev /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
insmod /overlay.ko
ip link set lo up
cd /seom
echo "SEOM kernel $(uname -r), cgroups: $(cat /sys/fs/cgroup/cgroup.controllers)"
python3 -m pytest -p no:cacheprovider -W ignore -o faulthandler_timeout=200 -o addopts= -o timeout= -rA \\
    --tb=short --color=no {tests}
echo "SEOM-EXIT $?"
poweroff -f
"""


class Missing(Exception):
    """What is needed to run a virtual machine here is not installed."""


def run_tests_in_guest(tests: Iterable[str]) -> tuple[int, str]:
    """Run tests (pytest's FILE or FILE::NAME, in the project) under a kernel with cgroup v2 alone.

    Returns pytest's exit code and the console's text. Raises Missing when QEMU or the kernel cannot be had,
    TimeoutError with the console's text when the guest does not end.
    """

    def write(archive: Cpio, kernel: Path) -> None:
        write_base(archive, kernel, RUN_TESTS.format(tests=" ".join(tests)))
        for name in DISTRIBUTIONS:
            copy_tree(archive, SITE / name, f"site/{name}")
        for entry in SITE.glob("*.dist-info"):
            if entry.name.split("-")[0] in DISTRIBUTIONS:
                copy_tree(archive, entry, f"site/{entry.name}")
        archive.copy(PROJECT / "pyproject.toml", "seom/pyproject.toml")
        for name in ("__init__.py", "conftest.py", "required.py", "kernel", "harness"):
            copy_tree(archive, PROJECT / "tests" / name, f"seom/tests/{name}")

    text = run_guest(write)
    found = re.search(r"SEOM-EXIT (\d+)", text)
    if found is None:
        raise TimeoutError(f"the guest ended without a result:\n{text}")
    return int(found[1]), text


def run_guest(write: Callable[[Cpio, Path], None], memory_mb: int = MEMORY_MB) -> str:
    """Boot a guest whose files are written by `write`; the console's text, once it has ended."""
    if shutil.which(QEMU) is None:
        raise Missing(f"{QEMU} is not installed; scripts/setup --tests installs it")
    kernel = cached_kernel()
    with tempfile.TemporaryDirectory(prefix="seom-guest-") as folder:
        initramfs = Path(folder, "initramfs")
        with initramfs.open("wb") as file:
            archive = Cpio(file)
            write(archive, kernel)
            archive.end()
        return _boot(kernel, initramfs, memory_mb)


def cached_kernel() -> Path:
    """The folder with Debian's cloud kernel, fetched once into the user's cache; nothing is installed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted(path.parents[3] for path in CACHE.glob("*/lib/modules/*/modules.dep"))
        return found[-1] if found else _fetch_kernel()


def _fetch_kernel() -> Path:
    depends = subprocess.run(["apt-cache", "depends", META_PACKAGE], capture_output=True, text=True)
    package = re.search(r"Depends: linux-image-(\S+)", depends.stdout)
    if package is None:
        raise Missing(f"apt knows no {META_PACKAGE}; run apt-get update")
    version = package[1]
    with tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as folder:
        _unpack(f"linux-image-{version}", folder)
        _unpack("apparmor", folder)
        kept = Path(folder, "kept")
        kept.mkdir()
        shutil.move(f"{folder}/boot/vmlinuz-{version}", kept / "vmlinuz")
        shutil.move(f"{folder}/sbin/apparmor_parser", kept)
        shutil.move(f"{folder}/lib", kept / "lib")
        subprocess.run(["busybox", "depmod", "-b", str(kept), version], check=True)
        return kept.rename(CACHE / version)


def _unpack(package: str, folder: str) -> None:
    download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    if subprocess.run(download, cwd=folder, capture_output=True).returncode:
        raise Missing(f"cannot download {package}; is the Debian mirror reachable?")
    (archive,) = Path(folder).glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(archive), folder], check=True)


def _boot(kernel: Path, initramfs: Path, memory_mb: int) -> str:
    command = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
    command += ["-machine", "pc", "-accel", "tcg,tb-size=256", "-m", str(memory_mb), "-smp", "1"]
    command += ["-kernel", str(kernel / "vmlinuz"), "-initrd", str(initramfs)]
    command += ["-append", "console=ttyS0 loglevel=2 panic=-1 mitigations=off"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_TIMEOUT_S)
    except subprocess.TimeoutExpired as expired:
        text = (expired.stdout or b"").decode(errors="replace")
        raise TimeoutError(f"the guest did not end within {BOOT_TIMEOUT_S} seconds:\n{text}") from expired
    return (done.stdout + done.stderr).decode(errors="replace")


# -- the initramfs: a cpio archive in the "newc" format, see cpio(5)


def write_base(archive: Cpio, kernel: Path, script: str) -> None:
    """Busybox, Python and this project's package; `script` is run as process 1 and ends the guest."""
    for folder in ("bin", "r", "proc", "sys", "dev", "tmp", "run", "root", "mnt", "etc", "var/lib"):
        archive.folder(folder)
    archive.text("init", INIT, 0o755)
    archive.text("run-tests", script, 0o755)
    (overlay,) = kernel.glob("lib/modules/*/kernel/fs/overlayfs/overlay.ko")
    archive.copy(overlay, "overlay.ko")
    archive.copy(kernel / "apparmor_parser", "sbin/apparmor_parser")
    archive.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    archive.text("etc/group", "root:x:0:\n")
    for name, module in (("seom-runtime", "seom.containers.oci_runtime"), ("seomd", "seom.daemon")):
        archive.text(f"usr/bin/{name}", COMMAND.format(module=module), 0o755)
    busybox = shutil.which("busybox")
    assert busybox is not None
    archive.copy(Path(busybox).resolve(), "bin/busybox")
    for source, target in _python_files():
        archive.copy(source, target)
    archive.link("usr/bin/python3", Path(sys.executable).resolve().name)
    copy_tree(archive, PROJECT / "seom", "seom/seom")


COMMAND = """#!/usr/bin/python3 -IS
import sys
sys.path[:0] = ["/seom", "/site"]
from {module} import main
sys.exit(main())
"""


def _python_files() -> Iterator[tuple[Path, str]]:
    """The interpreter, its standard library, and the shared libraries that these need."""
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    binaries = [interpreter, *SITE.rglob("*.so")]
    for path, relative in walk(library):
        if path.suffix == ".so":
            if path.name.startswith(UNNEEDED_EXTENSIONS):
                continue
            binaries.append(path)
        yield path, f"{str(library).lstrip('/')}/{relative}"
    yield interpreter, f"usr/bin/{interpreter.name}"
    for path in _shared_libraries(binaries):
        yield path.resolve(), str(path).lstrip("/")


def _shared_libraries(binaries: list[Path]) -> Iterable[Path]:
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    loaded = re.findall(r"(?:libseccomp|libnftables)\.so\.\d .*x86-64.*=> (\S+)", known)
    listing = subprocess.run(
        ["ldd", *map(str, binaries), *loaded], capture_output=True, text=True, check=True
    )
    found = {*loaded, *re.findall(r"(/\S+) \(0x", listing.stdout)}
    return sorted(Path(name) for name in found)


def copy_tree(archive: Cpio, source: Path, target: str) -> None:
    if source.is_file():
        archive.copy(source, target)
        return
    for path, relative in walk(source):
        archive.copy(path, f"{target}/{relative}")


def walk(top: Path) -> Iterator[tuple[Path, str]]:
    """The files below a folder, with the compiled modules but without what no test needs."""
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name == "__pycache__" or name not in UNNEEDED]
        folders[:] = [name for name in folders if not name.startswith("config-")]
        if folder == str(top / "dist-packages"):
            folders.clear()
            continue
        for name in files:
            path = Path(folder, name)
            yield path, str(path.relative_to(top))


class Cpio:
    """Writes entries one after another; parents are made on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._made: set[str] = set()
        self._inode = 1

    def folder(self, name: str) -> None:
        self._parents(name)
        if name not in self._made:
            self._made.add(name)
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def _parents(self, name: str) -> None:
        if "/" in name:
            self.folder(os.path.dirname(name))

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, content.encode())

    def content(self, name: str, content: bytes) -> None:
        self._entry(name, stat.S_IFREG | 0o644, content)

    def link(self, name: str, target: str) -> None:
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def copy(self, source: Path, name: str) -> None:
        """Add a file with its time, by which Python recognises its compiled modules."""
        if name in self._made:
            return
        self._made.add(name)
        self._parents(name)
        status = source.stat()
        self._entry(name, stat.S_IFREG | (status.st_mode & 0o755), source.read_bytes(), int(status.st_mtime))

    def end(self) -> None:
        self._entry("TRAILER!!!", 0, b"")

    def _entry(self, name: str, mode: int, content: bytes, modified: int = 0) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, modified, len(content), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        for part in (header + encoded, content):
            self._file.write(part + b"\0" * (-len(part) % 4))
