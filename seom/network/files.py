"""The text of a container's /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

EMBEDDED_DNS = "127.0.0.11"
HOST_RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_STUB = "127.0.0.53"
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")

_LOCAL_NAMES = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


@dataclass(slots=True)
class ResolverConfig:
    """What a resolv.conf says."""

    nameservers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


def hosts_file(entries: Iterable[tuple[str, str]]) -> str:
    """/etc/hosts: the local names, then address and names of each entry in order."""
    lines = [f"{address}\t{names}" for address, names in (*_LOCAL_NAMES, *entries)]
    return "\n".join(lines) + "\n"


def resolv_conf_file(config: ResolverConfig) -> str:
    """/etc/resolv.conf."""
    lines = [f"nameserver {server}" for server in config.nameservers]
    if config.search:
        lines.append("search " + " ".join(config.search))
    if config.options:
        lines.append("options " + " ".join(config.options))
    return "\n".join(lines) + "\n"


def parse_resolv_conf(text: str) -> ResolverConfig:
    """Read a resolv.conf; the last `search` or `domain` counts, comments and the rest are ignored."""
    config = ResolverConfig()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            config.nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            config.search = [] if words[1:] == ["."] else words[1:]
        elif words[0] == "options":
            config.options += words[1:]
    return config


def host_resolvers() -> ResolverConfig:
    """The host's own configuration; what systemd-resolved was told when only its stub is named."""
    config = _read(HOST_RESOLV_CONF)
    if config.nameservers == [SYSTEMD_STUB]:
        upstream = _read(SYSTEMD_RESOLV_CONF)
        config.nameservers = upstream.nameservers or config.nameservers
    return config


def _read(path: Path) -> ResolverConfig:
    try:
        status = path.stat()
        config = _parsed(path, status.st_ino, status.st_mtime_ns)
    except OSError:
        return ResolverConfig()
    return ResolverConfig(list(config.nameservers), list(config.search), list(config.options))


@lru_cache(maxsize=4)
def _parsed(path: Path, inode: int, changed_ns: int) -> ResolverConfig:
    return parse_resolv_conf(path.read_text(errors="replace"))


def reachable_from_containers(nameservers: Sequence[str], ipv6: bool = False) -> list[str]:
    """Without those on the host's loopback, and without IPv6 ones where the network has none."""
    kept = []
    for server in nameservers:
        try:
            address = ip_address(server.partition("%")[0])
        except ValueError:
            continue
        if not address.is_loopback and (address.version == 4 or ipv6):
            kept.append(server)
    return kept


def merge_choices(
    base: ResolverConfig, dns: Sequence[str], search: Sequence[str], options: Sequence[str]
) -> ResolverConfig:
    """The host's configuration with what the user gave in place of each part; search `.` means none."""
    wanted_search = [] if list(search) == ["."] else list(search)
    return ResolverConfig(
        nameservers=list(dns) or base.nameservers,
        search=wanted_search if search else base.search,
        options=list(options) or base.options,
    )
