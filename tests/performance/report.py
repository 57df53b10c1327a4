"""What was measured: collected, printed as a table with ratios, saved as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HIGHER_IS_BETTER = ("MB/s", "1/s")


@dataclass
class Results:
    """Medians: title of a measurement, then engine, to the value."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, title: str, unit: str, subject: str, value: float) -> None:
        self.units[title] = unit
        self.values.setdefault(title, {})[subject] = value
        print(f"  {subject}: {title}: {value:.3g} {unit}", file=sys.stderr, flush=True)

    def fail(self, what: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:500]
        self.failures[what] = text
        print(f"  {what}: FAILED: {text}", file=sys.stderr, flush=True)

    def ratio(self, title: str, peer: str) -> float | None:
        """How many times better Seom is than a peer; below 1 it is worse."""
        ours, theirs = self.values[title].get("seom"), self.values[title].get(peer)
        if not ours or not theirs:
            return None
        return ours / theirs if self.units[title] in HIGHER_IS_BETTER else theirs / ours

    def table(self) -> str:
        """Rows are measurements; a peer's cell is its value and the ratio to Seom's."""
        subjects = sorted({each for row in self.values.values() for each in row}, key=column_order)
        lines = [["", "unit", *subjects]]
        for title, row in self.values.items():
            cells = [self._cell(title, subject, row) for subject in subjects]
            lines.append([title, self.units[title], *cells])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def _cell(self, title: str, subject: str, row: dict[str, float]) -> str:
        if subject not in row:
            return "-"
        ratio = None if subject == "seom" else self.ratio(title, subject)
        return f"{row[subject]:.3g}" + (f" ({ratio:.1f}x)" if ratio else "")

    def save(self, path: Path, versions: dict[str, str]) -> None:
        """Write everything as JSON."""
        document = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kernel": platform.release(),
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg(),
            "versions": versions,
            "units": self.units,
            "medians": self.values,
            "failures": self.failures,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")


def column_order(subject: str) -> tuple[int, str]:
    known = ["seom", "seom's own cli", "docker", "podman", "crun", "runc"]
    return (known.index(subject) if subject in known else len(known), subject)
