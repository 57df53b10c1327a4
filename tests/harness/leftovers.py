"""What a daemon has in the kernel and on the disk, counted from the outside."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.harness.network_namespace import NetworkNamespace

MARK = "SEOM_TEST_DAEMON"


@dataclass(frozen=True)
class Leftovers:
    """Everything that belongs to one daemon; two equal ones mean that nothing was leaked between."""

    mounts: frozenset[str] = field(default_factory=frozenset)
    cgroups: frozenset[str] = field(default_factory=frozenset)
    processes: frozenset[str] = field(default_factory=frozenset)
    monitors: frozenset[str] = field(default_factory=frozenset)
    interfaces: frozenset[str] = field(default_factory=frozenset)
    nft_tables: frozenset[str] = field(default_factory=frozenset)
    container_directories: frozenset[str] = field(default_factory=frozenset)

    def minus(self, before: Leftovers) -> Leftovers:
        """What is here now and was not before."""
        return Leftovers(
            *(getattr(self, each.name) - getattr(before, each.name) for each in fields(Leftovers))
        )

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(Leftovers))


def count_leftovers(
    mark: str, instance: str, directories: list[Path], network: NetworkNamespace
) -> Leftovers:
    """Count what the daemon with this mark in its environment, instance name and directories has.

    processes are the daemon and everything that came from it, monitors those that hold a container's files.
    """
    processes = instance_processes(mark, instance, directories)
    return Leftovers(
        mounts=frozenset(_mounts(directories)),
        cgroups=frozenset(_cgroups(instance)),
        processes=frozenset(processes),
        monitors=frozenset(name for name, holds_container in processes.items() if holds_container),
        interfaces=frozenset(network.interfaces() - {"lo"}),
        nft_tables=frozenset(network.nft_tables()),
        container_directories=frozenset(
            str(entry) for each in directories for entry in _entries(each / "containers")
        ),
    )


def _mounts(directories: list[Path]) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if any(point.startswith(str(each)) for each in directories)]


def _cgroups(instance: str) -> list[str]:
    name = f"seom-{instance}"
    tops = [Path("/sys/fs/cgroup"), *(entry for entry in _entries(Path("/sys/fs/cgroup")) if entry.is_dir())]
    found: list[str] = []
    for top in tops:
        if (top / name).is_dir():
            found += [folder for folder, _, _ in os.walk(top / name)]
    return found


def instance_processes(mark: str, instance: str, directories: list[Path]) -> dict[str, bool]:
    """Processes that carry the mark, hold a file of the instance open, or are in one of its cgroups.

    "PID COMMAND" of each, zombies too, and whether it holds files of a container.
    """
    wanted = f"{MARK}={mark}\0".encode()
    roots = tuple({str(each.parent) for each in directories})
    containers = tuple(f"{each}/containers/" for each in directories)
    found: dict[str, bool] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inside = f"/seom-{instance}/" in (entry / "cgroup").read_text()
            files = _open_files(entry)
            ours = any(file.startswith(roots) for file in files) and _is_helper(entry)
            if inside or ours or wanted in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[f"{entry.name} {command}"] = any(file.startswith(containers) for file in files)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _open_files(process: Path) -> list[str]:
    files = []
    for entry in _entries(process / "fd"):
        try:
            files.append(os.readlink(entry))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return files


def _is_helper(process: Path) -> bool:
    """Whether a process is one of Seom's: a test's own process may hold files of the daemon as well."""
    return b"seom" in (process / "cmdline").read_bytes() or "seom" in (process / "comm").read_text()


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError):
        return []
