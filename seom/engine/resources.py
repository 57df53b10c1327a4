"""docker update: which limits of a container may change, and how they are merged."""

from __future__ import annotations

import msgspec

from seom.containers.config import ApiStruct, HostConfig, RestartPolicy


class UpdateRequest(ApiStruct):
    """The body of POST /containers/{id}/update: zero, empty and null leave a limit as it is."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    blkio_weight: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_reservation: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    restart_policy: RestartPolicy | None = None


def apply_update(host: HostConfig, request: UpdateRequest) -> HostConfig:
    """A copy of the host configuration with the requested changes."""
    changes = {
        field: value
        for field in UpdateRequest.__struct_fields__
        if (value := getattr(request, field)) and field != "restart_policy"
    }
    if request.restart_policy is not None and request.restart_policy.name:
        changes["restart_policy"] = request.restart_policy
    if request.pids_limit == 0:
        changes["pids_limit"] = 0
    if "nano_cpus" in changes:
        changes["cpu_quota"], changes["cpu_period"] = 0, 0
    return msgspec.structs.replace(host, **changes)
