"""The benchmark suite: medians, and ratios against the peers that are there. Nothing fails for being slow.

usage: make bench            (options, as make bench BENCH="--quick --peers docker"; see --help)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.harness.daemon import ROOT
from tests.performance.bundles import measure_bundles
from tests.performance.containers import (
    measure_command_lines,
    measure_exec,
    measure_many,
    measure_parallel,
    measure_starts,
)
from tests.performance.engines import Engine, open_engines
from tests.performance.report import Results
from tests.performance.steps import measure_steps
from tests.performance.streams import measure_load, measure_logs, measure_ports

PEERS = ["docker", "podman", "crun", "runc"]

# Name of a suite: what to call for each engine, and how often to repeat (in full, with --quick).
SUITES: dict[str, tuple[Callable[[str, Engine, Results, int], None], int, int]] = {
    "starts": (measure_starts, 30, 5),
    "exec": (measure_exec, 30, 5),
    "parallel": (measure_parallel, 30, 10),
    "many": (measure_many, 100, 20),
    "cli": (measure_command_lines, 20, 5),
    "logs": (measure_logs, 3, 1),
    "ports": (measure_ports, 3, 1),
    "load": (measure_load, 3, 1),
}


def main() -> int:
    options = parse_options()
    wanted = ["seom", *options.peers]
    results = Results()
    if "bundles" in options.only:
        measure_bundles(wanted, results, 5 if options.quick else 30)
    if "steps" in options.only:
        measure_steps(results, 10 if options.quick else 100)
    with ExitStack() as stack:
        chosen = [suite for suite in options.only if suite in SUITES]
        engines = open_engines(wanted, stack, results) if chosen else {}
        for suite in chosen:
            function, times, quick_times = SUITES[suite]
            for name, engine in engines.items():
                try:
                    function(name, engine, results, quick_times if options.quick else times)
                except Exception as error:
                    results.fail(f"{name}: {suite}", error)
    print(results.table())
    for what, text in results.failures.items():
        print(f"not measured: {what}: {text}")
    path = options.json or ROOT / "build" / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    results.save(path, versions(wanted))
    print(f"saved in {path}")
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    suites = ["bundles", "steps", *SUITES]
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--only", type=comma_separated, default=suites, help=f"out of {','.join(suites)}")
    parser.add_argument("--peers", type=comma_separated, default=PEERS, help=f"out of {','.join(PEERS)}")
    parser.add_argument("--json", type=Path, help="where to save the results")
    return parser.parse_args()


def comma_separated(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def versions(wanted: list[str]) -> dict[str, str]:
    """The first line of what each peer says of its version."""
    found = {}
    for name in wanted:
        try:
            command = [str(ROOT / ".venv/bin/seom") if name == "seom" else name, "--version"]
            found[name] = subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0]
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
