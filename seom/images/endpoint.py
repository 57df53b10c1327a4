"""Where a registry is and how it is reached: scheme, certificates, proxy.

Certificates of one registry lie, as docker has them, in a folder named after its host and port:

    /etc/docker/certs.d/registry.example:5000/
        ca.crt          authorities trusted for this registry besides the system's (any *.crt)
        client.cert     a client certificate and
        client.key      its key (any pair of that name)

Seom's own folder is searched as well, so that docker need not be configured.
"""

from __future__ import annotations

import ipaddress
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from seom.errors import SystemFailure
from seom.oci.reference import DEFAULT_DOMAIN

HUB_HOST = "registry-1.docker.io"
CERTIFICATE_FOLDERS = (Path("/etc/docker/certs.d"), Path("/etc/seom/certs.d"))


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What the administrator decides about registries.

    insecure: hosts (``host``, ``host:port``) or networks (``10.0.0.0/8``) that may be reached over
    plain HTTP or with a certificate nobody vouches for. Loopback always may.
    attempts: how often a transfer that makes no progress is tried; the pause between two tries
    starts at retry_delay_s and doubles.
    """

    insecure: tuple[str, ...] = ()
    certificate_folders: tuple[Path, ...] = CERTIFICATE_FOLDERS
    connect_timeout_s: float = 15
    read_timeout_s: float = 60
    attempts: int = 5
    retry_delay_s: float = 1


def registry_host(domain: str) -> str:
    """The host (and port) that serves a reference's domain: Docker Hub's differs from its name."""
    return HUB_HOST if domain == DEFAULT_DOMAIN else domain


def split_port(host: str) -> tuple[str, str]:
    """A host as in a URL apart: name or address without brackets, and the port or ""."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]") or (":" in name and not name.endswith("]")):
        name, port = host, ""
    return name.removeprefix("[").removesuffix("]"), port


def is_loopback(host: str) -> bool:
    """Whether host (with or without port) is this machine: localhost, 127.0.0.0/8 or ::1."""
    name, _ = split_port(host)
    return name == "localhost" or ((address := _address(name)) is not None and address.is_loopback)


def is_insecure(host: str, settings: RegistrySettings) -> bool:
    """Whether host may be reached without proof of who it is."""
    if is_loopback(host):
        return True
    name, _ = split_port(host)
    address = _address(name)
    for entry in settings.insecure:
        if entry in (host, name):
            return True
        if address is not None and "/" in entry and _in_network(address, entry):
            return True
    return False


def schemes(host: str, settings: RegistrySettings) -> tuple[str, ...]:
    """The schemes to try, in order.

    On loopback plain HTTP comes first: it is the usual one, and asking a TLS server in plain text
    is answered at once, while a TLS greeting can leave a plain server waiting for a line's end.
    """
    if certificate_folder(host, settings) is not None:
        return ("https",)
    if is_loopback(host):
        return ("http", "https")
    return ("https", "http") if is_insecure(host, settings) else ("https",)


def certificate_folder(host: str, settings: RegistrySettings) -> Path | None:
    """The folder with certificates for host, if there is one."""
    for parent in reversed(settings.certificate_folders):
        folder = parent / host
        if folder.is_dir() and (any(folder.glob("*.crt")) or any(folder.glob("*.cert"))):
            return folder
    return None


def tls_context(host: str, settings: RegistrySettings) -> ssl.SSLContext:
    """How to verify host: the system's authorities and its own, or nothing for an insecure one.

    Raises SystemFailure when a certificate file cannot be read.
    """
    context = ssl.create_default_context()
    folder = certificate_folder(host, settings)
    if folder is None:
        if is_insecure(host, settings):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
    for path in sorted((*folder.glob("*.crt"), *folder.glob("*.cert"))):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            else:
                context.load_cert_chain(path, path.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise SystemFailure(
                f"cannot use the certificate {path}: {error}; replace the file or remove it"
            ) from error
    return context


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY for a URL; None to connect directly.

    As in other registry clients, loopback is never proxied and NO_PROXY may hold networks.
    """
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or is_loopback(host):
        return None
    name, _ = split_port(host)
    address = _address(name)
    if address is not None and any(
        _in_network(address, entry.strip()) for entry in proxies.get("no", "").split(",") if "/" in entry
    ):
        return None
    if urllib.request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
