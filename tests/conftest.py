"""Fixtures of all tests, and the rule that a required test may not be skipped."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.docker_cli import DockerCli
from tests.harness.http_client import ApiClient
from tests.harness.images import busybox_archive
from tests.harness.reference_docker import ReferenceDocker
from tests.required import MAY_SKIP

skipped: dict[str, str] = {}
notes: dict[str, object] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--against",
        choices=["seom", "docker"],
        default="seom",
        help="docker: run tests/compat against the real dockerd, to prove the tests themselves right",
    )


@pytest.fixture(scope="session")
def shared_daemon(request: pytest.FixtureRequest) -> Iterator[PrivateDaemon]:
    """One daemon for each test process, with the image busybox:latest."""
    reference = request.config.getoption("--against") == "docker"
    with cast(PrivateDaemon, ReferenceDocker()) if reference else PrivateDaemon() as daemon:
        load_busybox(daemon)
        yield daemon


@pytest.fixture
def daemon(shared_daemon: PrivateDaemon) -> Iterator[PrivateDaemon]:
    """The shared daemon; containers that the test made are removed after it."""
    yield shared_daemon
    shared_daemon.remove_containers()


@pytest.fixture
def docker(daemon: PrivateDaemon) -> DockerCli:
    """The docker command line at the shared daemon."""
    return daemon.docker


@pytest.fixture
def api(daemon: PrivateDaemon) -> ApiClient:
    """The HTTP API of the shared daemon."""
    return daemon.api


@pytest.fixture
def own_daemon() -> Iterator[PrivateDaemon]:
    """A daemon for one test alone, which may stop, kill and restart it; with busybox:latest."""
    with PrivateDaemon() as daemon:
        load_busybox(daemon)
        yield daemon


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def short_tmp_path() -> Iterator[Path]:
    """A temporary directory short enough for the 107 bytes of a socket's path."""
    path = Path("/tmp") / f"st-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def load_busybox(daemon: PrivateDaemon) -> None:
    """Put busybox:latest into a daemon."""
    headers = {"Content-Type": "application/x-tar"}
    answer = daemon.api.request("POST", "/images/load", busybox_archive(), headers=headers)
    assert answer.status == 200, (answer.status, answer.body)


@pytest.fixture
def needs_program() -> Callable[[str], str]:
    """needs_program(NAME): the program's path; skips the test when it is not installed."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed; scripts/setup --tests installs it")
        return found

    return find


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped[report.nodeid] = reason
    if report.when == "call":
        notes.update(report.user_properties)


def may_skip(nodeid: str) -> bool:
    return any(fnmatch(nodeid, pattern) for pattern in MAY_SKIP)


def everything_is_required() -> bool:
    return bool(os.environ.get("CI") or os.environ.get("SEOM_REQUIRE_ALL"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    on_worker = hasattr(session.config, "workerinput")
    if not on_worker and everything_is_required() and not all(map(may_skip, skipped)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for subject, note in sorted(notes.items()):
        terminalreporter.write_line(f"{subject}: {note}")
    for nodeid, reason in sorted(skipped.items()):
        required = everything_is_required() and not may_skip(nodeid)
        terminalreporter.write_line(
            f"{'REQUIRED BUT SKIPPED' if required else 'skipped'}: {nodeid}: {reason}"
        )
