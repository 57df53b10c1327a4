"""network ls, create, rm, prune, connect, disconnect."""

from __future__ import annotations

from seom.cli import formats, output
from seom.cli.cells import labels_text, natural_order
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError, DaemonError
from seom.cli.filters import encode_filters
from seom.cli.flags import Flag
from seom.cli.formats import Columns
from seom.cli.request_syntax import to_map
from seom.cli.timestamps import local_text, parse_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _columns(truncate: bool) -> Columns:
    table: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "ID": ("NETWORK ID", lambda n: n["Id"][:12] if truncate else n["Id"]),
        "Name": ("NAME", lambda n: n["Name"]),
        "Driver": ("DRIVER", lambda n: n["Driver"]),
        "Scope": ("SCOPE", lambda n: n["Scope"]),
        "IPv4": ("IPV4", lambda n: str(n.get("EnableIPv4", True)).lower()),
        "IPv6": ("IPV6", lambda n: str(n.get("EnableIPv6", False)).lower()),
        "Internal": ("INTERNAL", lambda n: str(n.get("Internal", False)).lower()),
        "CreatedAt": ("CREATED AT", lambda n: _created(n.get("Created", ""))),
        "Labels": ("LABELS", lambda n: labels_text(n.get("Labels"))),
        "Label": ("LABELS", lambda n: lambda name: (n.get("Labels") or {}).get(name, "")),
    }
    return Columns(table)


def _created(text: str) -> str:
    """Like Go's Time.String: with the fraction of the second as far as it goes."""
    if not text:
        return ""
    seconds = local_text(parse_timestamp(text))
    fraction = text.partition(".")[2].rstrip("Zz").split("+")[0].split("-")[0].rstrip("0")
    return f"{seconds[:19]}.{fraction}{seconds[19:]}" if fraction else seconds


def _list(invocation: Invocation) -> int:
    options = invocation.options
    networks = invocation.client.get("/networks", {"filters": encode_filters(options.each("filter"))})
    networks.sort(key=lambda network: natural_order(network["Name"]))
    truncate, text = not options.on("no-trunc"), options.text("format")
    if options.on("quiet") and not text:
        text = "{{.ID}}"
    formats.show_rows(_columns(truncate), networks, text, ["ID", "Name", "Driver", "Scope"])
    return 0


def _create(invocation: Invocation) -> int:
    options = invocation.options
    request: dict[str, Any] = {
        "Name": invocation.arguments[0],
        "Driver": options.text("driver"),
        "Scope": options.text("scope"),
        "Internal": options.on("internal"),
        "Attachable": options.on("attachable"),
        "Ingress": False,
        "ConfigOnly": False,
        "IPAM": {
            "Driver": options.text("ipam-driver"),
            "Options": to_map(options.each("ipam-opt")),
            "Config": _address_pools(invocation),
        },
        "Options": to_map(options.each("opt")),
        "Labels": to_map(options.each("label")),
    }
    for flag, key in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flag in options.changed:
            request[key] = options.on(flag)
    answer = invocation.client.call("POST", "/networks/create", body=request).json()
    if answer.get("Warning"):
        output.error(f"WARNING: {answer['Warning']}")
    output.line(answer["Id"])
    return 0


def _address_pools(invocation: Invocation) -> list[dict[str, Any]]:
    """Subnets with the ranges, gateways and reserved addresses that lie inside each."""
    options = invocation.options
    pools: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in options.each("subnet")]
    pairs = [("ip-range", "IPRange"), ("gateway", "Gateway")]
    rest = [(flag, key, value) for flag, key in pairs for value in options.each(flag)]
    rest += [("aux-address", name, value) for name, value in to_map(options.each("aux-address")).items()]
    if rest and not pools:
        what = "aux-address" if rest[0][0] == "aux-address" else "ip-range or gateway"
        raise CommandError(f"every {what} must have a corresponding subnet")
    for flag, key, value in rest:
        pool = next((pool for pool in pools if _contains(pool["Subnet"], value)), None)
        if pool is None:
            raise CommandError(f"no matching subnet for {flag} {value}")
        if flag == "aux-address":
            pool.setdefault("AuxiliaryAddresses", {})[key] = value
        elif key in pool:
            raise CommandError(
                f"cannot configure multiple {flag}s ({value}, {pool[key]}) "
                f"on the same subnet ({pool['Subnet']})"
            )
        else:
            pool[key] = value
    return pools


def _contains(subnet: str, address: str) -> bool:
    import ipaddress

    try:
        network = ipaddress.ip_network(subnet, strict=False)
        return ipaddress.ip_address(address.partition("/")[0]) in network
    except ValueError as error:
        raise CommandError(f"invalid address: {error}") from None


def _remove(invocation: Invocation) -> int:
    status = 0
    for name in invocation.arguments:
        try:
            invocation.client.delete(f"/networks/{name}")
            output.line(name)
        except DaemonError as error:
            if invocation.options.on("force") and error.http_status == 404:
                continue
            output.error(error.message)
            status = 1
    return status


def _prune(invocation: Invocation) -> int:
    options = invocation.options
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if not options.on("force") and not output.confirm(f"{warning}\nAre you sure you want to continue?"):
        return 0
    filters = encode_filters(options.each("filter"))
    answer = invocation.client.call("POST", "/networks/prune", {"filters": filters}).json()
    if deleted := answer.get("NetworksDeleted"):
        output.line("Deleted Networks:\n" + "\n".join(deleted) + "\n")
    return 0


def _connect(invocation: Invocation) -> int:
    options = invocation.options
    network, container = invocation.arguments
    addresses: dict[str, Any] = {
        "IPv4Address": options.text("ip"),
        "IPv6Address": options.text("ip6"),
        "LinkLocalIPs": options.each("link-local-ip"),
    }
    endpoint = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Links": options.each("link"),
        "Aliases": options.each("alias"),
        "DriverOpts": to_map(options.each("driver-opt")),
        "GwPriority": options.number("gw-priority"),
    }
    body = {
        "Container": container,
        "EndpointConfig": {key: value for key, value in endpoint.items() if value},
    }
    invocation.client.post(f"/networks/{network}/connect", body=body)
    return 0


def _disconnect(invocation: Invocation) -> int:
    network, container = invocation.arguments
    body = {"Container": container, "Force": invocation.options.on("force")}
    invocation.client.post(f"/networks/{network}/disconnect", body=body)
    return 0


LIST = Command(
    _list,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("filter", "filter", 'Provide filter values (e.g. "driver=bridge")', short="f"),
        formats.TABLE_FORMAT,
        Flag("no-trunc", "bool", "Do not truncate the output"),
        Flag("quiet", "bool", "Only display network IDs", short="q"),
    ),
)
CREATE = Command(
    _create,
    "[OPTIONS] NETWORK",
    (1, 1),
    (
        Flag("attachable", "bool", "Enable manual container attachment"),
        Flag("aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
        Flag("driver", "string", "Driver to manage the Network", short="d", default="bridge"),
        Flag("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        Flag("internal", "bool", "Restrict external access to the network"),
        Flag("ip-range", "strings", "Allocate container ip from a sub-range"),
        Flag("ipam-driver", "string", "IP Address Management Driver", default="default"),
        Flag("ipam-opt", "map", "Set IPAM driver specific options"),
        Flag("ipv4", "bool", "Enable or disable IPv4 address assignment", default=True),
        Flag("ipv6", "bool", "Enable or disable IPv6 address assignment"),
        Flag("label", "list", "Set metadata on a network"),
        Flag("opt", "map", "Set driver specific options", short="o"),
        Flag("scope", "string", "Control the network's scope"),
        Flag("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
    ),
)
REMOVE = Command(
    _remove,
    "NETWORK [NETWORK...]",
    (1, None),
    (Flag("force", "bool", "Do not error if the network does not exist", short="f"),),
    completes="networks",
)
PRUNE = Command(
    _prune,
    "[OPTIONS]",
    (0, 0),
    (
        Flag("filter", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("force", "bool", "Do not prompt for confirmation", short="f"),
    ),
)
CONNECT = Command(
    _connect,
    "[OPTIONS] NETWORK CONTAINER",
    (2, 2),
    (
        Flag("alias", "strings", "Add network-scoped alias for the container"),
        Flag("driver-opt", "strings", "driver options for the network"),
        Flag("gw-priority", "int", "Highest gw-priority provides the default gateway"),
        Flag("ip", "string", 'IPv4 address (e.g., "172.30.100.104")'),
        Flag("ip6", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        Flag("link", "list", "Add link to another container"),
        Flag("link-local-ip", "strings", "Add a link-local address for the container"),
    ),
    completes="networks",
)
DISCONNECT = Command(
    _disconnect,
    "[OPTIONS] NETWORK CONTAINER",
    (2, 2),
    (Flag("force", "bool", "Force the container to disconnect from a network", short="f"),),
    completes="networks",
)
