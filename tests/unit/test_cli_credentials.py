"""Registry credentials in Docker's configuration file."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from seom.cli import credentials
from seom.cli.errors import CommandError
from tests.harness.canned_api import CannedApi
from tests.harness.seom_cli import SeomCli


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("debian", credentials.DOCKER_HUB),
        ("library/debian:12", credentials.DOCKER_HUB),
        ("docker.io/x/y", credentials.DOCKER_HUB),
        ("localhost:5000/a", "localhost:5000"),
        ("reg.example/a/b@sha256:0", "reg.example"),
    ],
)
def test_the_registry_of_a_reference(reference: str, registry: str) -> None:
    assert credentials.registry_of(reference) == registry


def test_credentials_are_found_under_every_spelling_of_a_server(config: Path) -> None:
    config.write_text(json.dumps({"auths": {"https://reg.example/v1/": {"auth": encoded("me:se:cret")}}}))
    auth = credentials.auth_for("reg.example")
    assert auth == {"serveraddress": "reg.example", "username": "me", "password": "se:cret"}
    header = credentials.auth_header("reg.example/image")["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header)) == auth
    assert credentials.auth_header("other.example/image") == {}


def test_a_helper_program_is_asked_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = config.parent / "docker-credential-test"
    program.write_text('#!/bin/sh\nread name\necho "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$name\\"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{config.parent}:{os.environ['PATH']}")
    config.write_text(json.dumps({"credHelpers": {"reg.example": "test"}}))
    assert credentials.auth_for("reg.example") == {
        "username": "get",
        "password": "reg.example",
        "serveraddress": "reg.example",
    }


def test_a_damaged_file_is_named(config: Path) -> None:
    config.write_text("{")
    with pytest.raises(CommandError, match=r"cannot read .*config.json"):
        credentials.load_config()


def test_login_stores_and_logout_removes(tmp_path: Path, short_tmp_path: Path) -> None:
    answers = {"POST /auth": {"Status": "Login Succeeded", "IdentityToken": ""}}
    with CannedApi(short_tmp_path / "s", answers) as api:
        seom = SeomCli(api.path, tmp_path / "config")
        done = seom("login", "-u", "me", "--password-stdin", "reg.example:5000", input="secret\n")
        assert (done.returncode, done.stdout.strip()) == (0, "Login Succeeded")
        assert api.asked("POST", "/auth").json()["password"] == "secret"
    path = tmp_path / "config/config.json"
    assert json.loads(path.read_text()) == {"auths": {"reg.example:5000": {"auth": encoded("me:secret")}}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert seom.out("logout", "reg.example:5000") == "Removing login credentials for reg.example:5000"
    assert json.loads(path.read_text())["auths"] == {}


def test_a_refused_login_stores_nothing(tmp_path: Path, short_tmp_path: Path) -> None:
    answers = {"POST /auth": (401, {"message": "unauthorized: incorrect username or password"})}
    with CannedApi(short_tmp_path / "s", answers) as api:
        done = SeomCli(api.path, tmp_path / "config")("login", "-u", "me", "-p", "x", "reg.example")
    assert done.returncode == 1
    assert "unauthorized: incorrect username or password" in done.stderr
    assert not (tmp_path / "config/config.json").exists()
