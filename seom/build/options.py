"""What a client asks of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seom.images.auth import ANONYMOUS, Credentials
from seom.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """One build. Sizes in bytes; a build argument without a value (None) counts as not given."""

    dockerfile: str = "Dockerfile"
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    squash: bool = False
    network_mode: str = ""
    shm_bytes: int = 0
    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    extra_hosts: tuple[str, ...] = ()
    ulimits: bytes = b""
    """JSON, as in a container's HostConfig."""
    accounts: Mapping[str, Credentials] = field(default_factory=dict)
    """By registry."""

    def account(self, domain: str) -> Credentials:
        """The account to pull base images from a registry with."""
        return self.accounts.get(domain) or ANONYMOUS
