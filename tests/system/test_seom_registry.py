"""seom login, push, pull and logout against Debian's docker-registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import PrivateDaemon
from tests.harness.registry import PASSWORD, USER, Authority, Registry, TokenServer
from tests.harness.seom_cli import SeomCli


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, shared_daemon: PrivateDaemon) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("plain"), network=shared_daemon.network) as registry:
        yield registry


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory, shared_daemon: PrivateDaemon) -> Iterator[Registry]:
    server = TokenServer(Authority(tmp_path_factory.mktemp("authority")), shared_daemon.network)
    with Registry(
        tmp_path_factory.mktemp("tokens"), tokens=server, network=shared_daemon.network
    ) as registry:
        yield registry
    server.close()


@pytest.fixture
def seom(daemon: PrivateDaemon, tmp_path: Path) -> SeomCli:
    return SeomCli(daemon.socket, tmp_path / "config")


@pytest.fixture
def target(seom: SeomCli, plain: Registry, name: str) -> Iterator[str]:
    """A name in the plain registry, under which busybox was pushed and is no longer here."""
    target = f"{plain.host}/seom/{name}:v1"
    seom.out("tag", "busybox", target)
    pushed = seom.out("push", target).splitlines()
    assert pushed[0] == f"The push refers to repository [{plain.host}/seom/{name}]"
    assert pushed[-1].startswith("v1: digest: sha256:")
    seom.out("rmi", target)
    yield target
    seom("rmi", "-f", target)


def test_a_pull_is_told_line_by_line(seom: SeomCli, target: str) -> None:
    lines = seom.out("pull", target).splitlines()
    assert lines[0].startswith("v1: Pulling from seom/")
    assert lines[-2].startswith("Status: ")
    assert lines[-1] == target
    assert seom.out("pull", "-q", target) == target


def test_run_pulls_what_is_missing_and_tells_on_stderr(seom: SeomCli, target: str) -> None:
    never = seom("run", "--rm", "--pull", "never", target, "true")
    assert never.returncode == 125
    assert "No such image" in never.stderr
    done = seom("run", "--rm", target, "echo", "pulled")
    assert (done.returncode, done.stdout) == (0, "pulled\n")
    assert done.stderr.startswith(f"Unable to find image '{target}' locally\n")


def test_a_terminal_shows_the_layers_where_they_stand(seom: SeomCli, target: str) -> None:
    terminal = seom.terminal("pull", target)
    shown = terminal.expect(f"\r\n{target}\r\n")
    assert "Pulling from" in shown
    assert terminal.wait() == 0


def test_login_opens_a_registry_and_logout_closes_it(seom: SeomCli, tokens: Registry, name: str) -> None:
    target = f"{tokens.host}/seom/{name}"
    seom.out("tag", "busybox", target)
    try:
        refused = seom("push", target)
        assert refused.returncode == 1
        assert refused.stderr.strip() == "denied: requested access to the resource is denied"
        wrong = seom("login", "-u", USER, "--password-stdin", tokens.host, input="wrong")
        assert (wrong.returncode, "Error response from daemon: " in wrong.stderr) == (1, True)
        done = seom("login", "-u", USER, "--password-stdin", tokens.host, input=PASSWORD)
        assert done.stdout.strip() == "Login Succeeded"
        assert "stored unencrypted" in done.stderr
        configuration = json.loads((Path(seom.environment["DOCKER_CONFIG"]) / "config.json").read_text())
        assert configuration["auths"][tokens.host]["identitytoken"]
        seom.out("push", "-q", target)
        seom.out("logout", tokens.host)
        assert seom("push", target).returncode == 1
    finally:
        seom("rmi", "-f", target)
