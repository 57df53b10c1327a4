"""seomd: reads its options, opens the engine, listens; leaves containers running when it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from seom import __version__
from seom.api.routes import all_routes
from seom.api.server import Server
from seom.build.builds import Builds
from seom.engine.assemble import open_engine
from seom.engine.engine import DEFAULT_DATA_ROOT, DEFAULT_RUN_DIR, Settings
from seom.errors import SeomError

log = logging.getLogger("seomd")


def main() -> None:
    """The entry point of seomd; exits with 1 and one line on stderr when it cannot start."""
    options = _parse(sys.argv[1:])
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    settings = Settings(
        data_root=options.data_root.absolute(),
        run_dir=options.run_dir.absolute(),
        hosts=tuple(options.host or [f"unix://{options.run_dir.absolute()}/seom.sock"]),
        insecure_registries=tuple(options.insecure_registry),
    )
    try:
        asyncio.run(_serve(settings))
    except (SeomError, OSError) as error:
        sys.exit(f"seomd: {error}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="seomd", description="The Seom daemon: serves the Docker Engine API."
    )
    parser.add_argument(
        "--data-root", type=Path, default=DEFAULT_DATA_ROOT, help="images, containers, volumes"
    )
    parser.add_argument("--run-dir", type=Path, default=DEFAULT_RUN_DIR, help="sockets and runtime state")
    parser.add_argument(
        "-H", "--host", action="append", help="unix:///PATH or tcp://ADDRESS:PORT; may be repeated"
    )
    parser.add_argument(
        "--insecure-registry",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="a registry spoken to without TLS verification",
    )
    parser.add_argument("-D", "--debug", action="store_true", help="log more")
    parser.add_argument("--version", action="version", version=f"seomd {__version__}")
    return parser.parse_args(arguments)


async def _serve(settings: Settings) -> None:
    if os.geteuid() != 0:
        raise SeomError("must be run as root: containers need namespaces, mounts and cgroups")
    settings.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    with _exclusive(settings.data_root):
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with open_engine(settings) as engine:
            server = Server(all_routes(engine, Builds(engine)))
            await server.open(list(settings.hosts))
            gc.collect()
            gc.freeze()
            print(f"seomd {__version__} listens on {', '.join(settings.hosts)}", flush=True)
            _notify_systemd()
            await stop.wait()
            log.info("stopping; containers keep running")
            await server.close()


@contextlib.contextmanager
def _exclusive(data_root: Path) -> Iterator[None]:
    """One daemon per data root: a lock that the kernel releases however the daemon ends."""
    fd = os.open(data_root / "seomd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SeomError(
            f"another seomd uses {data_root}; stop it, or give this one its own --data-root and --run-dir"
        ) from error
    try:
        yield
    finally:
        os.close(fd)


def _notify_systemd() -> None:
    """sd_notify(3): ready, when systemd started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


if __name__ == "__main__":
    main()
