"""Image references: [domain/]path[:tag][@digest], with Docker's short forms.

``debian`` means ``docker.io/library/debian:latest``. The grammar is that of the distribution
project's reference documentation; error texts are Docker's, because clients match on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from seom.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_ANY_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_SUPPORTED_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. tag and digest are empty when not given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The full name without tag and digest: docker.io/library/debian."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The name as Docker shows it: debian, grafana/grafana, quay.io/foo/bar."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        return self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """The whole reference as Docker shows it."""
        return self.familiar_repository + self._suffix()

    def with_default_tag(self) -> Reference:
        """The same reference, tagged "latest" when it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same repository with another tag and no digest; raises InvalidParameter."""
        if not _TAG.fullmatch(tag):
            raise InvalidParameter("invalid tag format")
        return replace(self, tag=tag, digest="")

    def with_digest(self, digest: str) -> Reference:
        """The same repository with a digest and no tag."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        return self.repository + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read a reference as a user types it; raises InvalidParameter with Docker's text.

    A bare 64-digit hexadecimal identifier is refused: it could be an image id.
    """
    if not text:
        raise InvalidParameter("invalid reference format")
    if _IDENTIFIER.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    rest, _, digest = text.partition("@")
    if "@" in text:
        _check_digest(digest)
    rest, tag = _split_tag(rest)
    domain, path = _split_domain(rest)
    if not _PATH.fullmatch(path):
        if _PATH.fullmatch(path.lower()):
            raise InvalidParameter(
                f"invalid reference format: repository name ({_shown(domain, path)}) must be lowercase"
            )
        raise InvalidParameter("invalid reference format")
    if not _DOMAIN.fullmatch(domain) or (tag is not None and not _TAG.fullmatch(tag)):
        raise InvalidParameter("invalid reference format")
    if len(path) > _LONGEST_NAME:
        raise InvalidParameter(f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(domain, path, tag or "", digest)


def _check_digest(digest: str) -> None:
    if _SUPPORTED_DIGEST.fullmatch(digest):
        return
    if not _ANY_DIGEST.fullmatch(digest):
        raise InvalidParameter("invalid reference format")
    known = digest.partition(":")[0] in {"sha256", "sha384", "sha512"}
    raise InvalidParameter("invalid checksum digest length" if known else "unsupported digest algorithm")


def _split_tag(text: str) -> tuple[str, str | None]:
    """A colon after the last slash begins the tag; one before it belongs to a port."""
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (text, None)


def _split_domain(text: str) -> tuple[str, str]:
    """The first component is a domain if it looks like one: a dot, a port, localhost, upper case."""
    first, slash, rest = text.partition("/")
    looks_like_domain = any(mark in first for mark in ".:") or first == "localhost" or first != first.lower()
    if not slash or not looks_like_domain:
        domain, path = DEFAULT_DOMAIN, text
    else:
        domain, path = (DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first), rest
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _shown(domain: str, path: str) -> str:
    return path if domain == DEFAULT_DOMAIN else f"{domain}/{path}"
