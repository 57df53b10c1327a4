"""Where the time of a container's life goes inside Seom."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from tests.harness.daemon import ROOT, PrivateDaemon
from tests.harness.images import busybox_archive
from tests.performance.containers import whole_life
from tests.performance.instrumented_daemon import STEPS
from tests.performance.raw_http import RawConnection
from tests.performance.report import Results


def measure_steps(results: Results, times: int) -> None:
    """Medians, and the quickest of each step: what it costs when nothing disturbs it."""
    with (
        tempfile.NamedTemporaryFile(suffix=".json") as file,
        tempfile.NamedTemporaryFile(suffix=".tar") as tar,
    ):
        tar.write(busybox_archive())
        tar.flush()
        daemon = PrivateDaemon(environment={"SEOM_STEPS": file.name, "PYTHONPATH": str(ROOT)})
        daemon.program = [sys.executable, "-m", "tests.performance.instrumented_daemon"]
        daemon.start()
        try:
            connection = RawConnection(daemon.socket)
            connection.send_file("/v1.41/images/load", Path(tar.name))
            for _ in range(times):
                whole_life(connection)
            connection.close()
            daemon.stop()
            samples: dict[str, list[float]] = json.loads(Path(file.name).read_text())
        finally:
            daemon.close()
    for _, _, title in STEPS:
        results.add(f"step: {title}", "ms", "seom", statistics.median(samples[title]))
        results.add(f"step: {title}", "ms", "seom, quickest", min(samples[title]))
