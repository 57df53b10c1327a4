"""How a registry is reached: scheme, certificates, proxy."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from seom.errors import SystemFailure
from seom.images.endpoint import (
    RegistrySettings,
    is_insecure,
    is_loopback,
    proxy_for,
    registry_host,
    schemes,
    split_port,
    tls_context,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("example.com", ("example.com", "")),
        ("example.com:5000", ("example.com", "5000")),
        ("[::1]:5000", ("::1", "5000")),
        ("[::1]", ("::1", "")),
    ],
)
def test_a_host_is_split_from_its_port(host: str, parts: tuple[str, str]) -> None:
    assert split_port(host) == parts


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.8.7", "[::1]:5000"])
def test_loopback_may_be_plain_and_is_asked_so_first(host: str) -> None:
    assert is_loopback(host)
    assert schemes(host, RegistrySettings(certificate_folders=())) == ("http", "https")


@pytest.mark.parametrize("host", ["localhost.example:5000", "128.0.0.1", "docker.io"])
def test_everything_else_needs_tls(host: str) -> None:
    assert schemes(host, RegistrySettings(certificate_folders=())) == ("https",)


@pytest.mark.parametrize(
    ("entry", "host", "insecure"),
    [
        ("hub.lan:5000", "hub.lan:5000", True),
        ("hub.lan:5000", "hub.lan", False),
        ("hub.lan", "hub.lan:5000", True),
        ("10.0.0.0/8", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "11.1.2.3:5000", False),
        ("nonsense/99", "10.1.2.3", False),
    ],
)
def test_an_insecure_registry_is_listed_by_host_or_network(entry: str, host: str, insecure: bool) -> None:
    assert is_insecure(host, RegistrySettings(insecure=(entry,))) is insecure


def test_a_host_with_certificates_is_always_verified(tmp_path: Path) -> None:
    settings = RegistrySettings(certificate_folders=(tmp_path,))
    assert tls_context("localhost:5000", settings).verify_mode == ssl.CERT_NONE
    (tmp_path / "localhost:5000").mkdir()
    (tmp_path / "localhost:5000/ca.crt").write_text("not a certificate")
    assert schemes("localhost:5000", settings) == ("https",)
    with pytest.raises(SystemFailure, match=r"ca\.crt"):
        tls_context("localhost:5000", settings)


def test_docker_hub_is_served_by_another_host_than_its_name() -> None:
    assert registry_host("docker.io") == "registry-1.docker.io"
    assert registry_host("quay.io") == "quay.io"


def test_a_proxy_is_used_except_for_loopback_and_what_no_proxy_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.lan:3128")
    monkeypatch.setenv("NO_PROXY", "direct.example,.inside.example,10.0.0.0/8")
    assert proxy_for("https", "quay.io") == "http://proxy.lan:3128"
    assert proxy_for("http", "quay.io") is None
    for host in ("localhost:5000", "127.0.0.1", "direct.example", "a.inside.example", "10.1.2.3:5000"):
        assert proxy_for("https", host) is None, host
