"""The demonstration: a daemon, two images made on the spot, containers from both, and a page through a port.

usage: make demo            (options, as make demo DEMO="..."; see --help)

No registry and no account are needed: one image is made from the distribution's own mirror by
mmdebstrap, the other from Debian's static busybox. The containers are removed at the end; the
images and the daemon stay, so a second run is quick.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv/bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seom"
DEBIAN_SUITE = "bookworm"
DEBIAN_IMAGE = f"debian:{DEBIAN_SUITE}"
BUSYBOX_IMAGE = "busybox:latest"
CONTAINERS = ("demo-web", "demo-debian")
PAGE = b"<h1>hello from the island</h1>\n"
DAEMON_START_TIMEOUT_S = 30


class Failed(Exception):
    """A step did not do what it should; the text is for the user."""


class Steps:
    """Runs numbered steps, prints each with its output and the time it took."""

    def __init__(self) -> None:
        self.number = 0
        self.started = time.perf_counter()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.number += 1
        print(f"\n{self.number}. {title}", flush=True)
        began = time.perf_counter()
        yield
        print(f"   ({seconds(time.perf_counter() - began)})", flush=True)

    def finish(self) -> None:
        print(f"\nAll {self.number} steps worked, in {seconds(time.perf_counter() - self.started)}.")


def seconds(duration_s: float) -> str:
    return f"{duration_s:.2f} s" if duration_s >= 1 else f"{duration_s * 1000:.0f} ms"


class Seom:
    """The seom command line at one daemon; every call is shown with its output."""

    def __init__(self, run_dir: Path, data_root: Path) -> None:
        self.run_dir, self.data_root = run_dir, data_root
        self.socket = run_dir / "seom.sock"
        self.environment = {
            **os.environ,
            "SEOM_HOST": f"unix://{self.socket}",
            "DOCKER_HOST": f"unix://{self.socket}",
        }

    def __call__(self, *arguments: str, program: str = "seom", quiet: bool = False) -> str:
        """Run one command; its output. Raises Failed when it fails."""
        path = str(BIN / program) if program == "seom" else program
        if not quiet:
            print(f"   $ {program} {' '.join(quote(each) for each in arguments)}", flush=True)
        done = subprocess.run([path, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(
                f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        if not quiet:
            show(done.stdout)
        return done.stdout.strip()

    def succeeds(self, *arguments: str) -> bool:
        """Whether a command works, without showing it."""
        done = subprocess.run([str(BIN / "seom"), *arguments], env=self.environment, capture_output=True)
        return done.returncode == 0

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def start_daemon(self) -> None:
        """Start seomd in the background, in a session of its own, and wait for its first line."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.data_root.mkdir(parents=True, exist_ok=True)
        log = self.run_dir / "seomd.log"
        with log.open("ab") as errors:
            daemon = subprocess.Popen(
                [
                    *(str(BIN / "seomd"), "--data-root", str(self.data_root), "--run-dir", str(self.run_dir)),
                    *("--host", f"unix://{self.socket}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        (self.run_dir / "seomd.pid").write_text(f"{daemon.pid}\n")
        deadline = time.monotonic() + DAEMON_START_TIMEOUT_S
        while not self.listens():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the daemon did not start; its log {log} ends with:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        print(f"   process {daemon.pid}, socket {self.socket}, log {log}")


def quote(argument: str) -> str:
    return argument if argument and not set(argument) & set(" '\"$;|<>&[]{}") else f"'{argument}'"


def show(output: str) -> None:
    for line in output.rstrip("\n").splitlines():
        print(f"     {line}")


def busybox_root() -> bytes:
    """A file system as a tar archive: Debian's static busybox, a link for each applet, and one page."""
    stream = io.BytesIO()
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    files = {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
        "var/www/index.html": PAGE,
    }
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "var/www"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(member)
        archive.add(os.path.realpath(shutil.which("busybox") or "/bin/busybox"), "bin/busybox")
        for applet in applets:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def debian_root() -> str:
    """The path of a minimal Debian as a tar archive, made once by mmdebstrap."""
    print("   $ scripts/debian-root", flush=True)
    done = subprocess.run([ROOT / "scripts/debian-root", DEBIAN_SUITE], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"mmdebstrap could not make the file system:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def make_images(seom: Seom, steps: Steps) -> None:
    with steps.step("a tiny image from busybox-static"):
        if not seom.succeeds("image", "inspect", BUSYBOX_IMAGE):
            archive = CACHE / "busybox.tar"
            CACHE.mkdir(parents=True, exist_ok=True)
            archive.write_bytes(busybox_root())
            seom("import", "--change", 'CMD ["sh"]', str(archive), BUSYBOX_IMAGE)
        else:
            print(f"   {BUSYBOX_IMAGE} is there already")
    with steps.step("a Debian image from the distribution's mirror"):
        if not seom.succeeds("image", "inspect", DEBIAN_IMAGE):
            seom("import", "--change", 'CMD ["bash"]', debian_root(), DEBIAN_IMAGE)
        else:
            print(f"   {DEBIAN_IMAGE} is there already")
        seom("images")


def run_containers(seom: Seom, steps: Steps) -> None:
    with steps.step("containers in the foreground, from both images"):
        seom("run", "--rm", BUSYBOX_IMAGE, "echo", "hello from busybox")
        version = seom("run", "--rm", DEBIAN_IMAGE, "cat", "/etc/debian_version")
        check(version.startswith("12"), f"Debian 12 was expected, not {version!r}")
        seom(
            "run",
            "--rm",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            DEBIAN_IMAGE,
            "sh",
            "-c",
            "hostname; id; nproc",
        )
    with steps.step("containers in the background, one with a published port"):
        seom(
            "run",
            "-d",
            "--name",
            "demo-web",
            "-p",
            "127.0.0.1::80",
            BUSYBOX_IMAGE,
            "httpd",
            "-f",
            "-h",
            "/var/www",
        )
        seom("run", "-d", "--name", "demo-debian", DEBIAN_IMAGE, "sh", "-c", "echo started; exec sleep 1000")
        seom("ps")
    with steps.step("exec into the Debian container"):
        seom("exec", "demo-debian", "sh", "-c", ". /etc/os-release; echo $PRETTY_NAME as $(hostname)")
        check(seom("logs", "demo-debian") == "started", "the log of demo-debian should say: started")
    with steps.step("a page through the published port"):
        address = seom("port", "demo-web", "80").splitlines()[0]
        page = fetch(f"http://{address}/")
        print(f"   http://{address}/ answers:")
        show(page.decode())
        check(page == PAGE, "the page is not the one in the image")
    docker = shutil.which("docker")
    if docker:
        with steps.step("the docker command line, at the same daemon"):
            seom("ps", "--format", "table {{.Names}}\t{{.Image}}\t{{.Status}}", program="docker")


def fetch(address: str, timeout_s: float = 10) -> bytes:
    """Get a page, without the proxy that the environment may name; the server may just be starting."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with opener.open(address, timeout=timeout_s) as answer:
                content: bytes = answer.read()
            return content
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failed(f"{address} does not answer: {error}") from error
            time.sleep(0.02)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def remove_containers(seom: Seom) -> None:
    for name in CONTAINERS:
        if seom.succeeds("container", "inspect", name):
            seom("rm", "-f", name, quiet=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Demonstrates Seom on this machine.")
    parser.add_argument("--data-root", type=Path, default=Path("/var/lib/seom"), help="default: %(default)s")
    parser.add_argument("--run-dir", type=Path, default=Path("/run/seom"), help="default: %(default)s")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("demo: containers need root; run it as root", file=sys.stderr)
        return 1
    seom = Seom(options.run_dir.resolve(), options.data_root.resolve())
    steps = Steps()
    try:
        with steps.step("the daemon"):
            if seom.listens():
                print(f"   listens already on {seom.socket}")
            else:
                seom.start_daemon()
            remove_containers(seom)
        make_images(seom, steps)
        try:
            run_containers(seom, steps)
        finally:
            with steps.step("clean-up: the containers are removed"):
                remove_containers(seom)
                check(seom("ps", "-aq", "--filter", "name=demo-") == "", "containers of the demo are left")
    except Failed as failure:
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    steps.finish()
    print(f"The daemon goes on. Try: {BIN}/seom run -it {DEBIAN_IMAGE} bash")
    print(f"or any docker command with DOCKER_HOST=unix://{seom.socket}")
    print(f"Stop the daemon: kill $(cat {seom.run_dir}/seomd.pid)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
