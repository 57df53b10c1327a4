"""info and version against what the host itself says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import seom
from seom.engine.system import Counts, daemon_id, info_document, version_document


def test_info_tells_the_facts_of_this_host(tmp_path: Path) -> None:
    info = info_document(tmp_path, Counts(running=2, paused=1, stopped=3, images=4), listeners=5)
    assert info["Containers"] == 6
    assert info["Images"] == 4
    assert info["NEventsListener"] == 5
    assert info["KernelVersion"] == subprocess.check_output(["uname", "-r"], text=True).strip()
    assert info["NCPU"] == int(subprocess.check_output(["nproc"]))
    assert info["Name"] == os.uname().nodename
    assert info["DockerRootDir"] == str(tmp_path)
    total_kib = int(
        next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1]
    )
    assert info["MemTotal"] == total_kib * 1024
    filesystem = subprocess.check_output(["findmnt", "-no", "FSTYPE", "-T", tmp_path], text=True).strip()
    assert ["Backing Filesystem", filesystem] in info["DriverStatus"]


def test_the_identity_stays_with_the_data_root(tmp_path: Path) -> None:
    assert daemon_id(tmp_path / "a") == daemon_id(tmp_path / "a") != daemon_id(tmp_path / "b")


def test_version_names_the_api_versions() -> None:
    version = version_document("1.51", "1.24")
    assert version["Version"] == seom.__version__
    assert version["ApiVersion"] == version["Components"][0]["Details"]["ApiVersion"] == "1.51"
    assert version["MinAPIVersion"] == "1.24"
