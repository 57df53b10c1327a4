"""Small images made on the spot: no registry, no account, the same bytes (and so the same id) each time."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\n"
    b"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    b"nobody:x:65534:65534::/:/bin/false\n"
)
GROUP = b"root:x:0:\ndaemon:x:1:\nstaff:x:50:daemon\nnogroup:x:65534:\n"
DIRECTORIES = [
    "bin",
    "dev",
    "etc",
    "home",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "usr/bin",
    "usr/sbin",
    "var/www",
]


@functools.cache
def busybox_layer() -> bytes:
    """An uncompressed layer: Debian's static busybox with a link for each applet, and a little /etc."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("usr", "var", *DIRECTORIES):
            add_directory(archive, name)
        add_directory(archive, "tmp", 0o1777)
        add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        add_file(archive, "etc/passwd", PASSWD)
        add_file(archive, "etc/group", GROUP)
        add_file(archive, "var/www/index.html", b"hello from the island\n")
        for applet in busybox_applets():
            add_link(archive, f"bin/{applet}", "/bin/busybox")
    return stream.getvalue()


def busybox_applets() -> list[str]:
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in listed if name != "busybox")


def docker_archive(layers: list[bytes], tags: list[str], **config: object) -> bytes:
    """What `docker save` would write: manifest.json, the configuration, and a folder for each layer.

    config holds members of the image's Config (Cmd, Env, ...).
    """
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                **config,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD layer"} for _ in layers],
        },
        sort_keys=True,
    ).encode()
    paths = [f"{digest(layer)}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{digest(image)}.json", "RepoTags": tags, "Layers": paths}]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_file(archive, f"{digest(image)}.json", image)
        for path, layer in dict(zip(paths, layers, strict=True)).items():
            add_directory(archive, str(Path(path).parent))
            add_file(archive, path, layer)
        add_file(archive, "manifest.json", json.dumps(manifest).encode())
    return stream.getvalue()


@functools.cache
def busybox_archive(tag: str = "busybox:latest") -> bytes:
    """A docker-archive of the busybox image."""
    return docker_archive([busybox_layer()], [tag], Cmd=["sh"])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def add_directory(archive: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    archive.addfile(member)


def add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)
