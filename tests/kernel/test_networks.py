"""Containers on the default bridge, seen from inside, from the host and from outside."""

from __future__ import annotations

from seom.containers.config import PortBinding
from tests.harness.network_lab import HOST_ADDRESS, OUTSIDE_ADDRESS, Lab, fetch, in_lab, serve_once


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
    member = lab.member("web", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    sandbox = await networks.attach(member)
    served = serve_once(sandbox.netns_fd, "0.0.0.0", 80)
    assert await fetch(lab.outside.fd, HOST_ADDRESS, 8080) == b"hello"
    assert await served == OUTSIDE_ADDRESS


@in_lab
async def test_a_published_port_answers_on_the_hosts_loopback(lab: Lab) -> None:
    networks = await lab.networks()
    member = lab.member("web", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    sandbox = await networks.attach(member)
    served = serve_once(sandbox.netns_fd, "0.0.0.0", 80)
    assert await fetch(None, "127.0.0.1", 8080) == b"hello"
    await served
