"""After a restart of the daemon: take over what runs, drop what does not, and compare with the kernel."""

from __future__ import annotations

from seom.engine.endpoints import Endpoints
from seom.engine.network_records import (
    Member,
    Network,
    Sandbox,
    delete_sandbox,
    endpoints_of,
    forwards_of,
    gateway_endpoint,
    load_sandbox_record,
    published,
    unverified_containers,
)
from seom.engine.network_wishes import wants
from seom.linux.network_namespace import open_network_of
from seom.network.definition import HOST
from seom.network.dns_sockets import open_dns_sockets
from seom.storage.database import Database


class NetworkRecovery:
    """Rebuilds the sandboxes of containers that ran on while there was no daemon."""

    def __init__(self, db: Database, networks: dict[str, Network], endpoints: Endpoints) -> None:
        self._db = db
        self._networks = networks
        self._endpoints = endpoints

    async def recover(self, member: Member) -> Sandbox:
        """See Networks.recover."""
        mode = member.host.network_mode
        sandbox = Sandbox(member.id, mode)
        for endpoint in endpoints_of(member.id, self._networks):
            network = self._networks[endpoint.network_id]
            if wants(member, network):
                endpoint.verified = True
                sandbox.endpoints[network.name] = endpoint
            else:
                # A connect that was cut short; what there is of its interface is removed as a stray.
                endpoint.delete(self._db)
                self._endpoints.drop_endpoint(endpoint, interface_gone=False)
        gateway = gateway_endpoint(sandbox.endpoints.values(), self._networks)
        ports = published(load_sandbox_record(self._db, member.id))
        sandbox.reservation = self._endpoints.port_registry.retake(ports, member.name)
        if gateway is not None:
            sandbox.forwards = sandbox.published = forwards_of(ports, gateway)
        self._endpoints.sandboxes[member.id] = sandbox
        if mode != HOST:
            await self._reopen(sandbox, member)
        return sandbox

    async def _reopen(self, sandbox: Sandbox, member: Member) -> None:
        needs_dns = self._endpoints.services.needs_dns(sandbox, member)
        dns_port = load_sandbox_record(self._db, member.id).dns_port

        def reopen() -> None:
            sandbox.netns_fd = open_network_of(member.pid)
            if needs_dns:
                sandbox.dns_sockets = open_dns_sockets(sandbox.netns_fd, dns_port)

        try:
            await self._endpoints.run(reopen)
        except OSError:
            # The container has just ended, or its namespace refuses rules: its exit will be noticed,
            # and a container without name resolution is better than none.
            return
        finally:
            self._endpoints.services.start(sandbox, member)

    async def finish(self) -> None:
        """See Networks.finish_recovery."""
        stored = {row["container_id"] for row in self._db.rows("SELECT container_id FROM sandbox")}
        gone = (stored | unverified_containers(self._networks)) - set(self._endpoints.sandboxes)
        for container_id in gone:
            for endpoint in endpoints_of(container_id, self._networks):
                self._endpoints.drop_endpoint(endpoint, interface_gone=False)
            delete_sandbox(self._db, container_id)
        await self._compare_with_kernel()
        await self._endpoints.replace_rules()

    async def _compare_with_kernel(self) -> None:
        """Remove interfaces that no endpoint has, and endpoints that never got theirs."""
        known = {
            endpoint.veth: (sandbox, endpoint)
            for sandbox in self._endpoints.sandboxes.values()
            for endpoint in sandbox.endpoints.values()
            if endpoint.veth
        }
        present = await self._endpoints.run(self._endpoints.host.remove_stray_ports, known)
        for veth in known.keys() - present:
            sandbox, endpoint = known[veth]
            sandbox.endpoints.pop(self._networks[endpoint.network_id].name, None)
            endpoint.delete(self._db)
            self._endpoints.drop_endpoint(endpoint, interface_gone=True)
        self._endpoints.departures.compare()
