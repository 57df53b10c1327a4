"""The OCI runtime configuration (config.json), decoded and encoded without I/O.

Field names follow the specification; see runtime-spec config.md and config-linux.md.
Unknown fields are ignored, as the specification demands of a runtime.
"""

from __future__ import annotations

import msgspec

OCI_VERSION = "1.2.0"


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    """Common options: camelCase on the wire, defaults left out."""


class Box(_Spec):
    height: int = 0
    width: int = 0


class User(_Spec, omit_defaults=False):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []


class Capabilities(_Spec):
    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Rlimit(_Spec, omit_defaults=False):
    type: str
    soft: int
    hard: int


class Process(_Spec):
    cwd: str
    args: list[str] = []
    env: list[str] = []
    terminal: bool = False
    console_size: Box | None = None
    user: User = msgspec.field(default_factory=User)
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None


class Root(_Spec, omit_defaults=False):
    path: str
    readonly: bool = False


class IdMapping(_Spec, omit_defaults=False):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class Mount(_Spec):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []
    uid_mappings: list[IdMapping] = []
    gid_mappings: list[IdMapping] = []


class Hook(_Spec):
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Hooks(_Spec):
    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


class Namespace(_Spec):
    type: str
    path: str = ""


class Device(_Spec):
    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class DeviceRule(_Spec, omit_defaults=False):
    allow: bool = False
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class MemoryLimits(_Spec):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None


class CpuLimits(_Spec):
    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class PidsLimit(_Spec, omit_defaults=False):
    limit: int


class WeightDevice(_Spec):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(_Spec, omit_defaults=False):
    major: int
    minor: int
    rate: int


class BlockIo(_Spec):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[WeightDevice] = []
    throttle_read_bps_device: list[ThrottleDevice] = []
    throttle_write_bps_device: list[ThrottleDevice] = []
    throttle_read_iops_device: list[ThrottleDevice] = msgspec.field(
        default_factory=list, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[ThrottleDevice] = msgspec.field(
        default_factory=list, name="throttleWriteIOPSDevice"
    )


class HugepageLimit(_Spec, omit_defaults=False):
    page_size: str
    limit: int


class Resources(_Spec):
    devices: list[DeviceRule] = []
    memory: MemoryLimits | None = None
    cpu: CpuLimits | None = None
    pids: PidsLimit | None = None
    block_io: BlockIo | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] = []
    unified: dict[str, str] = {}


class SeccompArg(_Spec, omit_defaults=False):
    index: int
    value: int
    op: str
    value_two: int = 0


class SyscallRule(_Spec):
    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArg] = []


class Seccomp(_Spec):
    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    flags: list[str] = []
    syscalls: list[SyscallRule] = []


class Personality(_Spec):
    domain: str
    flags: list[str] = []


class Linux(_Spec):
    uid_mappings: list[IdMapping] = []
    gid_mappings: list[IdMapping] = []
    sysctl: dict[str, str] = {}
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: list[Namespace] = []
    devices: list[Device] = []
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""
    personality: Personality | None = None


class RuntimeSpec(_Spec):
    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux | None = None
