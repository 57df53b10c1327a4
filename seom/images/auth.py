"""Proving to a registry who asks: nothing, a password (basic) or a short-lived token (bearer).

The ladder is climbed only as far as the registry demands: the first request goes out bare, and the
``WWW-Authenticate`` header of its 401 names the next rung.

    client                    registry                       token server (the challenge's realm)
      | GET /v2/x/manifests/t    |                                |
      |------------------------->| 401 Bearer realm,service,scope |
      | GET realm?service&scope  (password or nothing), or        |
      | POST realm refresh_token (an identity token)              |
      |---------------------------------------------------------->| {token, expires_in}
      | GET ... Authorization: Bearer token                       |
      |------------------------->| 200                            |

Sources: RFC 9110 section 11, and the distribution project's token and oauth2 specifications.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from seom.errors import InvalidParameter, Unauthorized, Unavailable
from seom.oci.reference import DEFAULT_DOMAIN

CLIENT_ID = "seom"
HUB_ACCOUNT_KEY = "https://index.docker.io/v1/"
_MINIMUM_TOKEN_LIFE_S = 60
_EXPIRY_MARGIN_S = 10


class Credentials(msgspec.Struct, frozen=True, rename="lower"):
    """What the docker client sends for one registry; every member may be empty."""

    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def login(self) -> tuple[str, str]:
        """User name and password, also when they come joined in ``auth`` (base64 of user:password)."""
        if not self.auth or self.username or self.password:
            return self.username, self.password
        try:
            user, _, password = base64.b64decode(self.auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password.rstrip("\0")


ANONYMOUS = Credentials()


def read_credentials(document: object) -> Credentials:
    """An account as decoded JSON has it, null and absent being the same; raises msgspec.ValidationError."""
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if value is not None}
    return msgspec.convert(document, Credentials)


def decode_credentials(header: str) -> Credentials:
    """The X-Registry-Auth header: base64url JSON of one Credentials; empty means anonymous.

    Raises InvalidParameter when it is neither.
    """
    if not header:
        return ANONYMOUS
    try:
        return read_credentials(msgspec.json.decode(_base64url(header)))
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise InvalidParameter(
            f"the X-Registry-Auth header is not base64url-encoded JSON: {error}"
        ) from error


def decode_credentials_map(header: str) -> dict[str, Credentials]:
    """The X-Registry-Config header: base64url JSON of Credentials by registry.

    Keys are normalised to the registry's host. Raises InvalidParameter for anything else.
    """
    if not header:
        return {}
    try:
        entries = msgspec.json.decode(_base64url(header), type=dict[str, object])
        return {registry_of_account(key): read_credentials(value) for key, value in entries.items()}
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise InvalidParameter(
            f"the X-Registry-Config header is not base64url-encoded JSON: {error}"
        ) from error


def registry_of_account(address: str) -> str:
    """The registry meant by a key of the client's configuration, such as a login's server address.

    ``https://index.docker.io/v1/`` is docker.io; elsewhere scheme and path are dropped.
    """
    host = address.strip()
    for scheme in ("https://", "http://"):
        host = host.removeprefix(scheme)
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", "index.docker.io", "registry-1.docker.io") else host


def _base64url(text: str) -> bytes:
    """Decode either alphabet, padded or not: clients differ."""
    text = text.strip().replace("+", "-").replace("/", "_")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One demand of a WWW-Authenticate header; the scheme is in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


_CHALLENGE_PART = re.compile(
    r"""\s*,?\s*(?:
        (?P<key>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))
      | (?P<scheme>[\w!#$%&'*+.^`|~-]+)(?=\s|,|$)
    )""",
    re.VERBOSE,
)


def parse_challenges(header: str) -> list[Challenge]:
    """The demands of a WWW-Authenticate header, in its order; malformed rests are dropped."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _CHALLENGE_PART.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif found:
            value = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            found[-1][1][match["key"].lower()] = value
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class TokenAnswer(msgspec.Struct, frozen=True):
    """The token server's answer; expires_in in seconds."""

    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: int | None = None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One HTTP request to a token server, GET with a query or POST with a form."""

    realm: str
    fields: tuple[tuple[str, str], ...]
    post: bool = False
    basic: str = ""


FetchToken = Callable[[TokenRequest], Awaitable[TokenAnswer]]
"""Sends a TokenRequest; raises Unauthorized when refused and Unavailable when out of reach."""


@dataclass(slots=True)
class _Token:
    value: str
    expires_at_s: float


class Authorizer:
    """The Authorization header for one registry and one account, with its tokens kept per scope."""

    def __init__(self, credentials: Credentials, fetch_token: FetchToken) -> None:
        self.credentials = credentials
        self.identity_token = credentials.identitytoken
        self._fetch_token = fetch_token
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}

    async def header(self, scope: str) -> str:
        """The Authorization header for a request that needs scope; empty while none was demanded.

        Raises Unauthorized when a password is demanded and none is there, or the token server refuses.
        """
        if self.credentials.registrytoken:
            return f"Bearer {self.credentials.registrytoken}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            if not any(self.credentials.login()):
                raise Unauthorized("no basic auth credentials")
            return f"Basic {self._basic()}"
        token = self._tokens.get(scope)
        if token is None or token.expires_at_s <= time.monotonic():
            token = self._tokens[scope] = await self._obtain(self._challenge, scope)
        return f"Bearer {token.value}"

    def challenged(self, header: str, scope: str, refused: str) -> bool:
        """Take note of a 401's WWW-Authenticate header; True when asking again may succeed.

        refused is the Authorization header that was not accepted: a token may merely have expired,
        a password will not get better.
        """
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        self._tokens.pop(scope, None)
        if "bearer" in challenges and challenges["bearer"].parameters.get("realm"):
            self._challenge = challenges["bearer"]
            return not self.credentials.registrytoken
        if "basic" in challenges:
            self._challenge = challenges["basic"]
            return not refused.startswith("Basic ")
        return False

    async def obtain_identity(self) -> None:
        """Trade the password for an identity token where the token server gives one (login)."""
        if self._challenge is not None and self._challenge.scheme == "bearer":
            await self._obtain(self._challenge, "", offline=True)

    def _basic(self) -> str:
        user, password = self.credentials.login()
        return base64.b64encode(f"{user}:{password}".encode()).decode()

    async def _obtain(self, challenge: Challenge, scope: str, offline: bool = False) -> _Token:
        fields = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
        scopes = scope.split() or challenge.parameters.get("scope", "").split()
        if self.identity_token:
            request = self._refresh_request(challenge, fields, scopes)
        else:
            request = self._password_request(challenge, fields, scopes, offline)
        answer = await self._fetch_token(request)
        value = answer.token or answer.access_token
        if not value:
            raise Unavailable(f"the token server {challenge.parameters['realm']} answered without a token")
        if answer.refresh_token and (offline or self.identity_token):
            self.identity_token = answer.refresh_token
        life_s = max(answer.expires_in or 0, _MINIMUM_TOKEN_LIFE_S) - _EXPIRY_MARGIN_S
        return _Token(value, time.monotonic() + life_s)

    def _refresh_request(
        self, challenge: Challenge, fields: list[tuple[str, str]], scopes: list[str]
    ) -> TokenRequest:
        fields = [
            *fields,
            ("grant_type", "refresh_token"),
            ("refresh_token", self.identity_token),
            ("client_id", CLIENT_ID),
        ]
        if scopes:
            fields.append(("scope", " ".join(scopes)))
        return TokenRequest(challenge.parameters["realm"], tuple(fields), post=True)

    def _password_request(
        self, challenge: Challenge, fields: list[tuple[str, str]], scopes: list[str], offline: bool
    ) -> TokenRequest:
        fields = [*fields, *(("scope", scope) for scope in scopes)]
        user, password = self.credentials.login()
        if not (user or password):
            return TokenRequest(challenge.parameters["realm"], tuple(fields))
        fields.append(("account", user))
        if offline:
            fields += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        return TokenRequest(challenge.parameters["realm"], tuple(fields), basic=self._basic())
