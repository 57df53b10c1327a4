"""A container's /etc/hosts and /etc/resolv.conf: which entries its networks give it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from seom.engine.network_records import Endpoint, Member, Network
from seom.errors import InvalidParameter
from seom.network.files import (
    EMBEDDED_DNS,
    HOST_RESOLV_CONF,
    ResolverConfig,
    host_resolvers,
    hosts_file,
    merge_choices,
    reachable_from_containers,
)
from seom.network.files import resolv_conf_file as resolv_conf_file

HOST_GATEWAY = "host-gateway"
HOST_HOSTS = Path("/etc/hosts")


def hosts_text(
    member: Member,
    endpoints: Iterable[Endpoint],
    links: Iterable[tuple[str, str]],
    gateway: str,
) -> str:
    """/etc/hosts: --add-host entries, links, then the container's own addresses.

    gateway is what host-gateway stands for; links are pairs of address and names.
    """
    names = own_names(member)
    own = [(str(address), names) for endpoint in endpoints for address in endpoint.addresses]
    return hosts_file([*extra_hosts(member, gateway), *links, *own])


def host_hosts_text(member: Member) -> str:
    """/etc/hosts on the host's network: the host's own, and --add-host entries."""
    own = _read(HOST_HOSTS) or hosts_file([])
    return own + "".join(f"{address}\t{name}\n" for address, name in extra_hosts(member, "127.0.0.1"))


def host_resolv_conf_text(member: Member) -> str:
    """/etc/resolv.conf on the host's network: the host's own, unless options say something else."""
    host = member.host
    if not (host.dns or host.dns_search or host.dns_options):
        return _read(HOST_RESOLV_CONF)
    return resolv_conf_file(
        merge_choices(host_resolvers(), host.dns or [], host.dns_search or [], host.dns_options or [])
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def own_names(member: Member) -> str:
    """The names of the container itself: the full one first when it has a domain."""
    hostname = member.config.hostname or member.id[:12]
    domain = member.config.domainname
    return f"{hostname}.{domain} {hostname}" if domain else hostname


def extra_hosts(member: Member, gateway: str) -> list[tuple[str, str]]:
    """Address and name of each --add-host NAME:ADDRESS; raises InvalidParameter."""
    found = []
    for entry in member.host.extra_hosts or []:
        separator = "=" if "=" in entry and ":" not in entry.partition("=")[0] else ":"
        name, _, address = entry.partition(separator)
        address = address.strip("[]")
        if address == HOST_GATEWAY:
            if not gateway:
                raise InvalidParameter(
                    f"unable to derive the IP value for {HOST_GATEWAY}: the default bridge has no gateway"
                )
            address = gateway
        try:
            ip_address(address)
        except ValueError as error:
            raise InvalidParameter(f"invalid IP address in add-host: {address!r}") from error
        found.append((address, name))
    return found


def resolver_config(member: Member, networks: Iterable[Network], embedded: bool) -> ResolverConfig:
    """What the container's resolv.conf says.

    With the embedded server it is the only name server; on the default bridge the host's servers are
    named, as far as a container can reach them.
    """
    host = member.host
    config = merge_choices(host_resolvers(), host.dns or [], host.dns_search or [], host.dns_options or [])
    if embedded:
        options = config.options
        if not any(option.startswith("ndots") for option in options):
            options = [*options, "ndots:0"]
        return ResolverConfig([EMBEDDED_DNS], config.search, options)
    if not host.dns and any(network.driver == "bridge" for network in networks):
        ipv6 = any(network.definition.enable_ipv6 for network in networks)
        config.nameservers = reachable_from_containers(config.nameservers, ipv6)
    return config


def only_local_resolvers() -> bool:
    """Whether the host has name servers, but none that a container could reach."""
    servers = host_resolvers().nameservers
    return bool(servers) and not reachable_from_containers(servers, ipv6=True)


def upstream_servers(member: Member) -> list[str]:
    """The servers that the embedded one asks for names it does not know."""
    return list(member.host.dns or []) or host_resolvers().nameservers


def legacy_links(
    member: Member, find: Callable[[str], Member], address_of: Callable[[str], Endpoint | None]
) -> list[tuple[str, str]]:
    """Address and names of each --link NAME:ALIAS on the default bridge; raises InvalidParameter."""
    found = []
    for link in member.host.links or []:
        target, alias = split_link(link)
        other = find(target)
        endpoint = address_of(other.id)
        if endpoint is None:
            raise InvalidParameter(
                f"Cannot link to a non running container: /{other.name} AS /{member.name}/{alias}"
            )
        names = dict.fromkeys((alias, other.config.hostname or other.id[:12], other.name))
        found.append((endpoint.ipv4, " ".join(names)))
    return found


def split_link(link: str) -> tuple[str, str]:
    """Container and alias of NAME:ALIAS, NAME, or /NAME:/OTHER/ALIAS as inspect shows it."""
    target, _, alias = link.partition(":")
    target = target.lstrip("/")
    return target, alias.rpartition("/")[2] or target


def write_in_place(path: Path, text: str) -> None:
    """Replace what a file says without replacing the file, which is mounted in the container."""
    with suppress(FileNotFoundError), path.open("r+") as file:
        file.seek(0)
        file.write(text)
        file.truncate()
