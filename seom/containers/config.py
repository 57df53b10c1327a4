"""What a client asks of a container: Docker's Config, HostConfig and NetworkingConfig.

These structures cross the HTTP edge and are stored with the container, so field names and
null-ability are the Engine API's ("null" and "absent" mean the same). Unknown fields are ignored.
Units: bytes, nanoseconds for durations of health checks, 1e-9 CPUs for nano_cpus.
"""

from __future__ import annotations

import msgspec

from seom.oci.image_config import ExecutionConfig, Healthcheck

HealthConfig = Healthcheck


class ApiStruct(msgspec.Struct, rename="pascal"):
    """Common options: PascalCase on the wire."""


class Config(ExecutionConfig, omit_defaults=False):
    """What an image configures for its containers, and what a container is configured with."""


class PortBinding(ApiStruct):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(ApiStruct):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(ApiStruct):
    type: str = ""
    config: dict[str, str] | None = None


class DeviceMapping(ApiStruct):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


class DeviceRequest(ApiStruct):
    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(ApiStruct):
    name: str
    soft: int = 0
    hard: int = 0


class WeightDevice(ApiStruct):
    path: str = ""
    weight: int = 0


class ThrottleDevice(ApiStruct):
    path: str = ""
    rate: int = 0


class BindOptions(ApiStruct, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(ApiStruct):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(ApiStruct, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str = ""


class ImageOptions(ApiStruct, omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(ApiStruct, omit_defaults=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class MountRequest(ApiStruct, omit_defaults=True):
    """One --mount: type is bind, volume, tmpfs or image."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(ApiStruct):
    binds: list[str] | None = None
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig | None = None
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str | None = None
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")
    mounts: list[MountRequest] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class IpamConfig(ApiStruct, omit_defaults=True):
    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointConfig(ApiStruct):
    """A container's wish for one network (the input half of EndpointSettings)."""

    ipam_config: IpamConfig | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    mac_address: str = ""
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0


class NetworkingConfig(ApiStruct):
    endpoints_config: dict[str, EndpointConfig | None] | None = None


class CreateRequest(Config):
    """The body of POST /containers/create: Config with two more members."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None
