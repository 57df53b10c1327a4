"""Measurements of OCI runtimes: `run` of the same bundle."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from tests.harness.daemon import ROOT
from tests.harness.images import busybox_layer
from tests.performance.containers import milliseconds, run_quietly
from tests.performance.report import Results

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def bundle_config() -> dict[str, object]:
    """A configuration such as `runc spec` writes: the usual namespaces, mounts and masked paths."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }


def measure_bundles(wanted: list[str], results: Results, times: int) -> None:
    """`RUNTIME run` of a bundle whose program does nothing, whole process."""
    runtimes = {
        "seom": str(ROOT / ".venv/bin/seom-runtime"),
        "crun": shutil.which("crun"),
        "runc": shutil.which("runc"),
    }
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        bundle = Path(folder)
        (bundle / "config.json").write_text(json.dumps(bundle_config()))
        with tarfile.open(fileobj=io.BytesIO(busybox_layer())) as layer:
            layer.extractall(bundle / "rootfs")
        for name, program in runtimes.items():
            if name not in wanted or program is None:
                continue
            command = [
                program,
                "--root",
                f"{folder}/state-{name}",
                "run",
                "--bundle",
                folder,
                f"bench-{name}",
            ]
            try:
                median = milliseconds(times, run_quietly, command, dict(os.environ))
                results.add("OCI runtime: run of a bundle", "ms", name, median)
            except Exception as error:
                results.fail(f"{name}: bundles", error)
