"""Containers on bridge networks, seen from inside, from the host and from outside."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from seom.containers.config import EndpointConfig, IpamConfig, PortBinding
from seom.engine.networks import Networks
from seom.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure
from seom.linux.netlink import RouteSocket
from seom.linux.network_namespace import inside
from seom.linux.nftables import Nftables
from seom.network.definition import CreateNetwork, Ipam, IpamPool
from seom.network.namespace import read_sysctl, write_sysctl
from tests.harness.network_lab import (
    HOST_ADDRESS,
    HOST_ADDRESS_6,
    OUTSIDE_ADDRESS,
    OUTSIDE_ADDRESS_6,
    Lab,
    fetch,
    in_lab,
    serve_once,
)

ANY = "0.0.0.0"


def port(host_port: str, host_ip: str = "") -> dict[str, list[PortBinding] | None]:
    return {"80/tcp": [PortBinding(host_ip, host_port)]}


async def user_network(networks: Networks, name: str = "blue", **options: object) -> str:
    return await networks.create(CreateNetwork(name, **options))  # type: ignore[arg-type]


async def refused(fd: int | None, address: str, number: int) -> bool:
    try:
        await fetch(fd, address, number, timeout_s=0.5)
    except OSError:
        return True
    return False


@in_lab
async def test_a_container_on_the_bridge_reaches_the_outside_behind_the_hosts_address(lab: Lab) -> None:
    networks = await lab.networks()
    sandbox = await networks.attach(lab.member("web"))
    served = serve_once(lab.outside.fd, OUTSIDE_ADDRESS, 80)
    assert await fetch(sandbox.netns_fd, OUTSIDE_ADDRESS, 80) == b"hello"
    assert await served == HOST_ADDRESS


@in_lab
async def test_a_published_port_keeps_the_clients_address(lab: Lab) -> None:
    networks = await lab.networks()
    sandbox = await networks.attach(lab.member("web", port_bindings=port("8080")))
    served = serve_once(sandbox.netns_fd, ANY, 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    assert await served == OUTSIDE_ADDRESS


@in_lab
async def test_a_published_port_answers_on_the_hosts_loopback(lab: Lab) -> None:
    networks = await lab.networks()
    sandbox = await networks.attach(lab.member("web", port_bindings=port("8080")))
    served = serve_once(sandbox.netns_fd, ANY, 80)
    assert await fetch(None, "127.0.0.1", 8080) == b"hello"
    await served


@in_lab
async def test_a_published_port_answers_the_container_itself_and_its_neighbours(lab: Lab) -> None:
    await reach_published_port_from_containers(lab)


@in_lab
async def test_a_published_port_answers_containers_where_bridged_packets_are_not_filtered(lab: Lab) -> None:
    with contextlib.suppress(FileNotFoundError):
        write_sysctl("bridge/bridge-nf-call-iptables", b"0")
    await reach_published_port_from_containers(lab)


async def reach_published_port_from_containers(lab: Lab) -> None:
    networks = await lab.networks()
    web = await networks.attach(lab.member("web", port_bindings=port("8080")))
    neighbour = await networks.attach(lab.member("neighbour"))
    await user_network(networks)
    stranger = await networks.attach(lab.member("stranger", "blue"))
    for client in (web, neighbour, stranger):
        served = serve_once(web.netns_fd, ANY, 80)
        assert await fetch(client.netns_fd, HOST_ADDRESS, 8080) == b"hello"
        await served


@in_lab
async def test_a_port_bound_to_one_host_address_answers_there_only(lab: Lab) -> None:
    networks = await lab.networks()
    web = await networks.attach(lab.member("web", port_bindings=port("8080", "127.0.0.1")))
    served = serve_once(web.netns_fd, ANY, 80)
    assert await refused(lab.outside.fd, HOST_ADDRESS, 8080)
    assert await fetch(None, "127.0.0.1", 8080) == b"hello"
    await served


@in_lab
async def test_containers_cannot_reach_services_on_the_hosts_loopback(lab: Lab) -> None:
    networks = await lab.networks()
    sandbox = await networks.attach(lab.member("web"))
    bridge = networks.find("bridge")

    def route_loopback_to_the_gateway() -> None:
        import subprocess

        subprocess.run(["ip", "route", "del", "local", "127.0.0.0/8", "table", "local"], check=False)
        subprocess.run(["ip", "route", "add", "127.0.0.0/8", "via", str(bridge.gateway(4))], check=True)
        subprocess.run(["sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"], check=True)

    assert sandbox.netns_fd is not None
    inside(sandbox.netns_fd, route_loopback_to_the_gateway)
    listener = socket.create_server(("127.0.0.1", 7777))
    with listener:
        assert await refused(sandbox.netns_fd, "127.0.0.1", 7777)


@in_lab
async def test_containers_of_one_network_reach_each_other_and_those_of_two_do_not(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    one = await networks.attach(lab.member("one", "blue"))
    two = await networks.attach(lab.member("two", "blue"))
    other = await networks.attach(lab.member("other"))
    served = serve_once(one.netns_fd, ANY, 80)
    address = one.endpoints["blue"].ipv4
    assert await refused(other.netns_fd, address, 80)
    assert await fetch(two.netns_fd, address, 80) == b"hello"
    await served


@in_lab
async def test_unpublished_ports_are_not_reachable_from_outside_through_a_route(lab: Lab) -> None:
    networks = await lab.networks()
    web = await networks.attach(lab.member("web"))
    subnet = networks.find("bridge").pools[0].subnet

    def add_route() -> None:
        import subprocess

        subprocess.run(["ip", "route", "add", str(subnet), "via", HOST_ADDRESS], check=True)

    inside(lab.outside.fd, add_route)
    served = serve_once(web.netns_fd, ANY, 80)
    assert await refused(lab.outside.fd, web.endpoints["bridge"].ipv4, 80)
    assert await fetch(None, web.endpoints["bridge"].ipv4, 80) == b"hello"
    await served


@in_lab
async def test_an_internal_network_has_no_way_outside(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks, internal=True)
    one = await networks.attach(lab.member("one", "blue"))
    two = await networks.attach(lab.member("two", "blue"))
    served = serve_once(one.netns_fd, ANY, 80)
    outside = serve_once(lab.outside.fd, ANY, 80)
    assert await refused(one.netns_fd, OUTSIDE_ADDRESS, 80)
    assert await fetch(two.netns_fd, one.endpoints["blue"].ipv4, 80) == b"hello"
    assert await fetch(None, OUTSIDE_ADDRESS, 80) == b"hello"
    await asyncio.gather(served, outside)


@in_lab
async def test_without_inter_container_communication_neighbours_are_separated(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks, options={"com.docker.network.bridge.enable_icc": "false"})
    one = await networks.attach(lab.member("one", "blue"))
    two = await networks.attach(lab.member("two", "blue"))
    served = serve_once(one.netns_fd, ANY, 80)
    assert await refused(two.netns_fd, one.endpoints["blue"].ipv4, 80)
    assert await fetch(None, one.endpoints["blue"].ipv4, 80) == b"hello"
    await served


@in_lab
async def test_a_taken_port_is_refused_with_the_name_of_its_holder_and_leaves_nothing(lab: Lab) -> None:
    networks = await lab.networks()
    await networks.attach(lab.member("web", port_bindings=port("8080")))
    with pytest.raises(SystemFailure) as refusal:
        await networks.attach(lab.member("second", port_bindings=port("8080")))
    assert "driver failed programming external connectivity on endpoint second (" in str(refusal.value)
    assert "Bind for 0.0.0.0:8080 failed: port is already allocated" in str(refusal.value)
    assert 'container "web"' in str(refusal.value)
    assert [entry.name for entry in networks.inspect("bridge").containers.values()] == ["web"]


@in_lab
async def test_a_port_that_a_host_program_listens_on_is_refused_and_the_reverse(lab: Lab) -> None:
    networks = await lab.networks()
    with socket.create_server((ANY, 8081)), pytest.raises(SystemFailure) as refusal:
        await networks.attach(lab.member("web", port_bindings=port("8081")))
    assert "port is already allocated" in str(refusal.value) and "process" in str(refusal.value)
    await networks.attach(lab.member("next", port_bindings=port("8081")))
    with pytest.raises(OSError, match="in use"):
        socket.create_server((ANY, 8081), reuse_port=False)
    await networks.release(lab.find("next").id)
    socket.create_server((ANY, 8081)).close()


@in_lab
async def test_random_ports_and_ranges_are_filled(lab: Lab) -> None:
    networks = await lab.networks()
    ranged = [
        await networks.attach(lab.member(f"web{number}", port_bindings=port("9000-9001")))
        for number in range(2)
    ]
    assert [sandbox.reservation.ports[0].host_port for sandbox in ranged] == [9000, 9001]
    with pytest.raises(SystemFailure):
        await networks.attach(lab.member("third", port_bindings=port("9000-9001")))
    member = lab.member("random", port_bindings=port(""))
    await networks.attach(member)
    bindings = networks.settings(member).ports["80/tcp"]
    assert bindings is not None and int(bindings[0].host_port) >= 32768


@in_lab
async def test_udp_ports_are_published(lab: Lab) -> None:
    networks = await lab.networks()
    bindings = {"53/udp": [PortBinding("", "5353")]}
    web = await networks.attach(lab.member("web", port_bindings=bindings))
    assert web.netns_fd is not None

    def bound() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((ANY, 53))
        return server

    server = inside(web.netns_fd, bound)
    client = inside(lab.outside.fd, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.settimeout(5)
        client.settimeout(5)
        client.sendto(b"ping", (HOST_ADDRESS, 5353))
        data, sender = server.recvfrom(100)
        server.sendto(b"pong", sender)
        assert (data, sender[0]) == (b"ping", OUTSIDE_ADDRESS)
        assert client.recvfrom(100) == (b"pong", (HOST_ADDRESS, 5353))


@in_lab
async def test_names_of_neighbours_are_resolved_on_user_defined_networks(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    db = lab.member("db", "blue", {"blue": EndpointConfig(aliases=["database"])})
    database = await networks.attach(db)
    web = await networks.attach(lab.member("web", "blue"))
    assert "nameserver 127.0.0.11" in web.resolv_conf
    expected = database.endpoints["blue"].ipv4
    for name in ("db", "database", "DB", db.id[:12], "db.blue"):
        assert await resolve(web.netns_fd, name, "A") == [expected]
    assert await resolve(web.netns_fd, "db", "A", tcp=True) == [expected]
    reverse = ".".join(reversed(expected.split("."))) + ".in-addr.arpa"
    assert await resolve(web.netns_fd, reverse, "PTR") == ["db.blue."]


@in_lab
async def test_a_container_may_run_a_dns_server_of_its_own(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    web = await networks.attach(lab.member("web", "blue"))
    assert web.netns_fd is not None

    def listen() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((ANY, 53))
            tcp.bind((ANY, 53))
            tcp.listen()

    inside(web.netns_fd, listen)


@in_lab
async def test_links_and_aliases_are_names_in_the_linking_container_only(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    await networks.attach(lab.member("db", "blue"))
    web = await networks.attach(lab.member("web", "blue", {"blue": EndpointConfig(links=["db:store"])}))
    other = await networks.attach(lab.member("other", "blue"))
    assert await resolve(web.netns_fd, "store", "A")
    assert await resolve(other.netns_fd, "store", "A") == []


@in_lab
async def test_other_names_are_asked_of_the_chosen_servers(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    web = await networks.attach(lab.member("web", "blue", dns=["127.0.0.1"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 53))
        upstream.settimeout(10)

        def answer() -> None:
            from dnslib import RR, DNSRecord

            query, client = upstream.recvfrom(1000)
            reply = DNSRecord.parse(query).reply()
            reply.add_answer(*RR.fromZone("example.org. 60 A 203.0.113.9"))
            upstream.sendto(reply.pack(), client)

        answered = asyncio.create_task(asyncio.to_thread(answer))
        assert await resolve(web.netns_fd, "example.org", "A") == ["203.0.113.9"]
        await answered


async def resolve(fd: int | None, name: str, kind: str, tcp: bool = False) -> list[str]:
    """What the embedded server of a namespace answers; empty for no such name or a failure."""
    from dnslib import DNSRecord

    def ask() -> list[str]:
        reply = DNSRecord.parse(DNSRecord.question(name, kind).send("127.0.0.11", 53, tcp=tcp, timeout=10))
        return [str(answer.rdata) for answer in reply.rr]

    assert fd is not None
    return await asyncio.to_thread(inside, fd, ask)


@in_lab
async def test_a_running_container_is_connected_to_and_disconnected_from_networks(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks)
    db = await networks.attach(lab.member("db", "blue"))
    member = lab.member("web", "bridge", {"bridge": None}, port_bindings=port("8080"))
    web = await networks.attach(member)
    lab.started(member)
    await networks.connect("blue", "web", EndpointConfig(aliases=["site"]))
    assert await resolve(web.netns_fd, "db", "A") == [db.endpoints["blue"].ipv4]
    assert await resolve(db.netns_fd, "site", "A") == [web.endpoints["blue"].ipv4]
    assert set(networks.settings(lab.find("web")).networks) == {"bridge", "blue"}
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network blue"):
        await networks.connect("blue", "web", None)
    await networks.disconnect("bridge", "web", force=False)
    served = serve_once(web.netns_fd, ANY, 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    await served
    assert list(member.endpoints) == ["blue"]
    with pytest.raises(Forbidden, match="is not connected to network bridge"):
        await networks.disconnect("bridge", "web", force=False)


@in_lab
async def test_a_fixed_address_is_given_and_refused_to_a_second_container(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks, ipam=Ipam(config=[IpamPool("10.77.0.0/24", gateway="10.77.0.254")]))

    def fixed() -> dict[str, EndpointConfig | None]:
        return {"blue": EndpointConfig(ipam_config=IpamConfig("10.77.0.7"))}

    web = await networks.attach(lab.member("web", "blue", fixed()))
    assert web.endpoints["blue"].ipv4 == "10.77.0.7"
    assert web.endpoints["blue"].mac == "02:42:0a:4d:00:07"
    with pytest.raises(Forbidden, match="Address already in use"):
        await networks.attach(lab.member("second", "blue", fixed()))
    await networks.release(web.container_id)
    again = await networks.attach(lab.member("third", "blue", fixed()))
    assert again.endpoints["blue"].ipv4 == "10.77.0.7"


@in_lab
async def test_addresses_are_free_again_once_the_interface_is_gone(lab: Lab) -> None:
    networks = await lab.networks()
    sandbox = await networks.attach(lab.member("web"))
    address = sandbox.endpoints["bridge"].ipv4
    await networks.release(sandbox.container_id)
    await networks.settled()
    assert (await networks.attach(lab.member("next"))).endpoints["bridge"].ipv4 == address


@in_lab
async def test_host_none_and_container_modes(lab: Lab) -> None:
    networks = await lab.networks()
    host = await networks.attach(lab.member("host", "host"))
    assert host.netns_fd is None
    nothing = await networks.attach(lab.member("nothing", "none"))
    assert nothing.netns_fd is not None

    def interfaces() -> list[str]:
        with RouteSocket() as route:
            return [link.name for link in route.links()]

    assert inside(nothing.netns_fd, interfaces) == ["lo"]
    member = lab.member("web")
    await networks.attach(member)
    with pytest.raises(Conflict, match="cannot join network namespace of a non running container"):
        await networks.attach(lab.member("guest", "container:web"))
    lab.started(member)
    guest = await networks.attach(lab.member("guest2", "container:web"))
    assert guest.share_with == member.id and guest.netns_fd is not None


@in_lab
async def test_containers_survive_a_restart_of_the_daemon_and_dead_ones_leave_nothing(
    lab: Lab,
) -> None:
    first = await lab.networks()
    await user_network(first)
    kept = lab.member("kept", "blue", port_bindings=port("8080"))
    dead = lab.member("dead", port_bindings=port("8081"))
    alive = await first.attach(kept)
    await first.attach(dead)
    process = lab.started(kept)
    address = alive.endpoints["blue"].ipv4
    await first.close()

    second = await lab.networks()
    sandbox = await second.recover(lab.find("kept"))
    await second.finish_recovery()
    served = serve_once(sandbox.netns_fd, ANY, 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    await served
    assert sandbox.endpoints["blue"].ipv4 == address
    assert await resolve(sandbox.netns_fd, "kept", "A") == [address]
    assert [entry.name for entry in second.inspect("blue").containers.values()] == ["kept"]
    assert second.inspect("bridge").containers == {}
    assert "8081" not in Nftables().run("list table inet seom-abc123")
    with pytest.raises(OSError, match="in use"):
        socket.create_server((ANY, 8080))
    process.kill()
    await second.release(kept.id)
    assert "8080" not in Nftables().run("list table inet seom-abc123")


@in_lab
async def test_reset_leaves_nothing_of_the_instance_and_everything_of_others(lab: Lab) -> None:
    first, other = await lab.networks(), await lab.networks("fedcba")
    await user_network(first)
    Nftables().run("table ip somebody { chain nat { type nat hook postrouting priority 100; }\n}")
    before = read_sysctl("ipv4/ip_forward")
    await first.attach(lab.member("web", port_bindings=port("8080")))
    await first.reset()
    rules = Nftables().run("list ruleset")
    assert "seom-abc123" not in rules and "seom-fedcba" in rules and "somebody" in rules
    with RouteSocket() as route:
        names = {link.name for link in route.links()}
    assert "seom-fedcba" in names and "seom-abc123" not in names
    assert not any(name.startswith("sm-abc123") for name in names)
    assert (before, read_sysctl("ipv4/ip_forward")) == ("1", "1")
    await other.reset()
    assert "seom" not in Nftables().run("list ruleset")


@in_lab
async def test_two_instances_choose_different_subnets(lab: Lab) -> None:
    one, two = await lab.networks(), await lab.networks("fedcba")
    first, second = one.find("bridge").pools[0].subnet, two.find("bridge").pools[0].subnet
    assert str(first) == "172.17.0.0/16" and str(second) == "172.18.0.0/16"


@in_lab
async def test_networks_are_created_listed_and_removed_with_dockers_words(lab: Lab) -> None:
    networks = await lab.networks()
    id = await user_network(networks, labels={"team": "red"})
    with pytest.raises(Conflict, match="network with name blue already exists"):
        await user_network(networks)
    with pytest.raises(NotFound, match="network nope not found"):
        networks.find("nope")
    assert networks.find(id[:6]).name == "blue"
    await networks.attach(lab.member("web", "blue"))
    with pytest.raises(Forbidden, match="network blue has active endpoints"):
        await networks.remove("blue")
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        await networks.remove("bridge")
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        await user_network(networks, "red", ipam=Ipam(config=[IpamPool("172.18.5.0/24")]))
    await networks.release(lab.find("web").id)
    await networks.remove("blue")
    with pytest.raises(NotFound, match="network blue not found"):
        await networks.attach(lab.member("late", "blue"))


@in_lab
async def test_fixed_addresses_and_aliases_need_a_user_defined_network(lab: Lab) -> None:
    networks = await lab.networks()
    with pytest.raises(InvalidParameter, match="user specified IP address is supported on user defined"):
        await networks.attach(
            lab.member("web", "bridge", {"bridge": EndpointConfig(ipam_config=IpamConfig("172.17.0.9"))})
        )


@in_lab
async def test_a_hundred_attaches_at_once_give_a_hundred_addresses_and_leave_no_interface(lab: Lab) -> None:
    networks = await lab.networks()
    members = [lab.member(f"c{number}", port_bindings=port("")) for number in range(100)]
    sandboxes = await asyncio.gather(*(networks.attach(member) for member in members))
    assert len({sandbox.endpoints["bridge"].ipv4 for sandbox in sandboxes}) == 100
    await asyncio.gather(*(networks.release(member.id) for member in members))
    pool = networks.find("bridge").pool(4)
    assert pool is not None
    await networks.settled()
    assert pool.taken == 0
    with RouteSocket() as route:
        assert not [link.name for link in route.links() if link.name.startswith("veth")]
    assert "elements" not in Nftables().run("list map inet seom-abc123 any4")


@in_lab
async def test_ipv6_clients_reach_a_container_without_ipv6(lab: Lab) -> None:
    networks = await lab.networks()
    member = lab.member("web", port_bindings=port("8080"))
    web = await networks.attach(member)
    bindings = networks.settings(member).ports["80/tcp"]
    assert bindings is not None
    assert [(entry.host_ip, entry.host_port) for entry in bindings] == [(ANY, "8080"), ("::", "8080")]
    for client, address in ((None, "::1"), (lab.outside.fd, HOST_ADDRESS_6)):
        served = serve_once(web.netns_fd, ANY, 80)
        assert await fetch(client, address, 8080) == b"hello"
        await served


@in_lab
async def test_an_ipv6_network_reaches_out_and_is_reached_through_published_ports(lab: Lab) -> None:
    networks = await lab.networks()
    await user_network(networks, enable_ipv6=True)
    web = await networks.attach(lab.member("web", "blue", port_bindings=port("8080")))
    peer = await networks.attach(lab.member("peer", "blue"))
    address = web.endpoints["blue"].ipv6
    assert address.startswith("fd")
    assert await resolve(peer.netns_fd, "web", "AAAA") == [address]
    served = serve_once(lab.outside.fd, OUTSIDE_ADDRESS_6, 80)
    assert await fetch(web.netns_fd, OUTSIDE_ADDRESS_6, 80) == b"hello"
    assert await served == HOST_ADDRESS_6
    for client, target, number in (
        (peer.netns_fd, address, 80),
        (lab.outside.fd, HOST_ADDRESS_6, 8080),
        (None, HOST_ADDRESS_6, 8080),
    ):
        served = serve_once(web.netns_fd, "::", 80)
        assert await fetch(client, target, number) == b"hello"
        seen = await served
        assert client != lab.outside.fd or seen == OUTSIDE_ADDRESS_6


@in_lab
async def test_udp_datagrams_over_ipv6_are_relayed_both_ways(lab: Lab) -> None:
    networks = await lab.networks()
    web = await networks.attach(lab.member("web", port_bindings={"53/udp": [PortBinding("", "5353")]}))
    assert web.netns_fd is not None

    def bound() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((ANY, 53))
        return server

    def converse(server: socket.socket) -> bytes:
        with server, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            server.settimeout(5)
            client.settimeout(5)
            client.sendto(b"ping", ("::1", 5353))
            server.sendto(b"pong", server.recvfrom(100)[1])
            return client.recvfrom(100)[0]

    assert await asyncio.to_thread(converse, inside(web.netns_fd, bound)) == b"pong"


@in_lab
async def test_a_macvlan_network_puts_containers_on_the_wire_of_a_host_interface(lab: Lab) -> None:
    networks = await lab.networks()
    wire = Ipam(config=[IpamPool("192.0.2.0/24", ip_range="192.0.2.64/26", gateway=OUTSIDE_ADDRESS)])
    with pytest.raises(InvalidParameter, match="needs a parent interface"):
        await user_network(networks, driver="macvlan", ipam=wire)
    await user_network(networks, driver="macvlan", ipam=wire, options={"parent": "out0"})
    web = await networks.attach(lab.member("web", "blue"))
    served = serve_once(lab.outside.fd, ANY, 80)
    assert await fetch(web.netns_fd, OUTSIDE_ADDRESS, 80) == b"hello"
    assert await served == web.endpoints["blue"].ipv4 == "192.0.2.64"
    await networks.release(web.container_id)
    await networks.remove("blue")


@in_lab
async def test_a_refused_start_gives_its_address_back(lab: Lab) -> None:
    networks = await lab.networks()
    await networks.attach(lab.member("web", port_bindings=port("8080")))
    pool = networks.find("bridge").pool(4)
    assert pool is not None and pool.taken == 1
    with pytest.raises(SystemFailure):
        await networks.attach(lab.member("second", port_bindings=port("8080")))
    assert pool.taken == 1
    assert [action for _, action, _, _ in lab.events if action == "disconnect"] == []


@in_lab
async def test_datagrams_follow_a_port_that_moves_to_another_container(lab: Lab) -> None:
    networks = await lab.networks()
    bindings = {"53/udp": [PortBinding("127.0.0.1", "5353"), PortBinding(HOST_ADDRESS, "5353")]}

    def bound() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((ANY, 53))
        server.settimeout(5)
        return server

    client = inside(lab.outside.fd, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client:
        client.sendto(b"too early", (HOST_ADDRESS, 5353))
        for name in ("first", "second"):
            sandbox = await networks.attach(lab.member(name, port_bindings=bindings))
            assert sandbox.netns_fd is not None
            with inside(sandbox.netns_fd, bound) as server:
                client.sendto(name.encode(), (HOST_ADDRESS, 5353))
                assert await asyncio.to_thread(server.recv, 100) == name.encode()
            await networks.attach(lab.member(f"{name}-takes-the-address"))
            await networks.release(sandbox.container_id)


@in_lab
async def test_a_port_on_an_address_that_the_host_does_not_have_is_refused(lab: Lab) -> None:
    networks = await lab.networks()
    with pytest.raises(SystemFailure, match=r"203\.0\.113\.1:8080 failed: cannot assign requested address"):
        await networks.attach(lab.member("web", port_bindings=port("8080", "203.0.113.1")))


@in_lab
async def test_resolvers_on_the_hosts_loopback_serve_the_default_bridge(lab: Lab) -> None:
    networks = await lab.networks()
    resolv_conf = lab.directory / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.1\nsearch example.org\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seom.network.files.HOST_RESOLV_CONF", resolv_conf)
        web = await networks.attach(lab.member("web"))
    assert web.resolv_conf.splitlines() == [
        "nameserver 127.0.0.11",
        "search example.org",
        "options ndots:0",
    ]
    assert await resolve(web.netns_fd, "web", "A") == []


@in_lab
async def test_a_network_wanted_by_name_and_by_id_is_joined_once(lab: Lab) -> None:
    networks = await lab.networks()
    id = await user_network(networks)
    wishes: dict[str, EndpointConfig | None] = {id: None, "blue": EndpointConfig(aliases=["www"])}
    web = await networks.attach(lab.member("web", id, wishes))
    assert list(web.endpoints) == ["blue"] and web.endpoints["blue"].dns_names[1] == "www"
    pool = networks.find("blue").pool(4)
    assert pool is not None and pool.taken == 1


@in_lab
async def test_sctp_ports_are_published_whether_or_not_the_host_has_sctp(lab: Lab) -> None:
    networks = await lab.networks()
    member = lab.member("web", port_bindings={"36412/sctp": [PortBinding("", "36412"), PortBinding()]})
    await networks.attach(member)
    shown = networks.settings(member).ports["36412/sctp"]
    assert shown is not None
    assert {int(entry.host_port) for entry in shown} > {36412} and all(
        entry.host_port != "0" for entry in shown
    )
    assert "sctp . 36412" in Nftables().run("list map inet seom-abc123 any4")
    with pytest.raises(SystemFailure, match="port is already allocated"):
        await networks.attach(lab.member("next", port_bindings={"1/sctp": [PortBinding("", "36412")]}))


@in_lab
async def test_a_port_is_published_right_after_somebody_flushed_the_ruleset(lab: Lab) -> None:
    networks = await lab.networks()
    Nftables().run("flush ruleset")
    web = await networks.attach(lab.member("web", port_bindings=port("8080")))
    served = serve_once(web.netns_fd, ANY, 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    await served


@in_lab
async def test_forwarding_is_switched_on_and_put_back(lab: Lab) -> None:
    write_sysctl("ipv4/ip_forward", b"0")
    write_sysctl("ipv6/conf/all/forwarding", b"0")
    networks = await lab.networks()
    assert (read_sysctl("ipv4/ip_forward"), read_sysctl("ipv6/conf/all/forwarding")) == ("1", "0")
    await user_network(networks, enable_ipv6=True)
    assert read_sysctl("ipv6/conf/all/forwarding") == "1"
    assert read_sysctl("ipv6/conf/out0/accept_ra") == "2"
    await networks.reset()
    assert (read_sysctl("ipv4/ip_forward"), read_sysctl("ipv6/conf/all/forwarding")) == ("0", "0")


@in_lab
async def test_the_rules_come_back_when_somebody_flushes_the_ruleset(lab: Lab) -> None:
    networks = await lab.networks()
    web = await networks.attach(lab.member("web", port_bindings=port("8080")))
    rules = Nftables()
    await asyncio.to_thread(rules.run, "flush ruleset")
    with Changes() as changes:
        while "table inet seom-abc123" not in rules.run("list tables"):
            await changes.wait()
    served = serve_once(web.netns_fd, ANY, 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    await served


class Changes:
    """Announcements of the kernel that some nftables object has changed."""

    def __enter__(self) -> Changes:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 12)
        self._socket.bind((0, 1 << 6))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def wait(self) -> None:
        await asyncio.get_running_loop().sock_recv(self._socket, 65536)
