"""What can go wrong between a registry and its client, in words that users and clients know."""

from __future__ import annotations

import os

import aiohttp
import msgspec
from yarl import URL

from seom.errors import SeomError, Unavailable
from seom.images.auth import parse_challenges

_ERROR_BODY_BYTES = 64 << 10
_CODE_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NOT_FOUND", 429: "TOOMANYREQUESTS"}


class RegistryRefusal(SeomError):
    """The registry answered with an error; code is the specification's (MANIFEST_UNKNOWN ...)."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code

    @property
    def worth_repeating(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in (408, 429) or self.status >= 500


class ConnectionFailed(Unavailable):
    """The registry could not be reached, or the connection broke."""


class _ErrorItem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = msgspec.field(default_factory=list)
    details: str = ""


def connection_failed(method: str, url: URL, error: Exception) -> ConnectionFailed:
    """What went wrong with a connection, in words that name the way out."""
    prefix = f'{method.capitalize()} "{url}": '
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return ConnectionFailed(
            f"{prefix}tls: failed to verify certificate: x509: {reason}; if you trust this registry, put "
            f"its authority's certificate into /etc/docker/certs.d/{url.authority}/ca.crt"
        )
    if isinstance(error, aiohttp.ClientSSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return ConnectionFailed(
            f"{prefix}http: server gave HTTP response to HTTPS client; if this registry may be used without "
            "TLS, list it as insecure"
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionFailed(
            f"{prefix}dial tcp: lookup {url.host}: no such host; check the name, the network, or HTTPS_PROXY"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        reason = os.strerror(number).lower() if number else str(error.os_error)
        return ConnectionFailed(f"{prefix}dial tcp {error.host}:{error.port}: connect: {reason}")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{prefix}no answer in time (Client.Timeout exceeded)")
    return ConnectionFailed(f"{prefix}{error or type(error).__name__}")


async def refusal_of(response: aiohttp.ClientResponse) -> RegistryRefusal:
    """The error an answer describes, in the words registry clients use: ``code in words: message``."""
    fallback = _CODE_OF_STATUS.get(response.status, "UNKNOWN")
    if response.status == 401 and _lacks_scope(response):
        return RegistryRefusal(401, "DENIED", "denied: requested access to the resource is denied")
    try:
        body = await response.content.read(_ERROR_BODY_BYTES)
        decoded = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, aiohttp.ClientError, OSError, TimeoutError):
        decoded = _ErrorBody()
    texts = [f"{item.code.lower().replace('_', ' ')}: {item.message}" for item in decoded.errors]
    if texts:
        text = texts[0] if len(texts) == 1 else "errors:\n" + "\n".join(texts)
        return RegistryRefusal(response.status, decoded.errors[0].code or fallback, text)
    if response.status == 401:
        text = f"unauthorized: {decoded.details or 'authentication required'}"
    elif response.status == 403:
        text = "denied: requested access to the resource is denied"
    else:
        text = f"unexpected status from {response.method} request to {response.url}: {status_line(response)}"
    return RegistryRefusal(response.status, fallback, text)


def _lacks_scope(response: aiohttp.ClientResponse) -> bool:
    """Whether the token was good, but not for this (RFC 6750, section 3.1)."""
    challenges = parse_challenges(demand_of(response))
    return any(challenge.parameters.get("error") == "insufficient_scope" for challenge in challenges)


def demand_of(response: aiohttp.ClientResponse) -> str:
    """All WWW-Authenticate headers of an answer as one."""
    return ", ".join(response.headers.getall("WWW-Authenticate", []))


def status_line(response: aiohttp.ClientResponse) -> str:
    """404 Not Found"""
    return f"{response.status} {response.reason or ''}".strip()
