"""A container's definition becomes the runtime specification that Docker's users expect."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from seom.containers.config import Config, HostConfig
from seom.containers.resources import check_resources, parse_cpuset, resources_of
from seom.containers.spec import JoinedNamespaces, SpecPaths, build_spec, check_host_config, exec_process
from seom.containers.user import ContainerUser
from seom.errors import InvalidParameter, NotSupported
from seom.linux.capabilities import DEFAULT
from seom.linux.cgroup import Layout
from seom.oci.runtime_spec import Mount, RuntimeSpec, User

ID = "0123456789abcdef" * 4
ROOT = ContainerUser(User(), "/root")
V2 = Layout({}, "/nowhere", frozenset({"cpu", "cpuset", "io", "memory", "pids"}))


def host_config(**members: Any) -> HostConfig:
    return msgspec.convert({**members}, HostConfig)


def spec(
    config: Config | None = None,
    host: HostConfig | None = None,
    mounts: list[Mount] | None = None,
    user: ContainerUser = ROOT,
    paths: SpecPaths = SpecPaths(),  # noqa: B008
    joined: JoinedNamespaces = JoinedNamespaces(),  # noqa: B008
) -> RuntimeSpec:
    return build_spec(
        ID, config or Config(cmd=["sh"]), host or HostConfig(), paths, mounts or [], user, joined, "seom/x"
    )


def test_a_plain_container_gets_dockers_defaults() -> None:
    built = spec()
    assert built.process is not None and built.linux is not None and built.process.capabilities is not None
    assert built.process.args == ["sh"]
    assert built.process.cwd == "/"
    assert built.process.env == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=0123456789ab",
        "HOME=/root",
    ]
    assert sorted(built.process.capabilities.bounding) == sorted(DEFAULT)
    assert built.process.capabilities.inheritable == built.process.capabilities.ambient == []
    assert built.hostname == "0123456789ab"
    assert {entry.type for entry in built.linux.namespaces} == {
        *("mount", "pid", "ipc", "uts", "network", "cgroup")
    }
    assert built.linux.seccomp is not None
    assert "/proc/kcore" in built.linux.masked_paths
    assert "/proc/sys" in built.linux.readonly_paths
    assert built.linux.cgroups_path == "/seom/x"
    assert built.linux.sysctl["net.ipv4.ip_unprivileged_port_start"] == "0"
    by_destination = {mount.destination: mount for mount in built.mounts}
    assert "ro" in by_destination["/sys"].options
    assert "size=67108864" in by_destination["/dev/shm"].options


def test_entrypoint_and_command_are_joined() -> None:
    built = spec(Config(entrypoint=["/entry"], cmd=["a", "b"], tty=True, env=["TERM=vt100", "X=1", "PATH"]))
    assert built.process is not None
    assert built.process.args == ["/entry", "a", "b"]
    assert built.process.env == ["HOSTNAME=0123456789ab", "TERM=vt100", "X=1", "HOME=/root"]
    with pytest.raises(InvalidParameter, match="no command specified"):
        spec(Config())


def test_another_user_keeps_capabilities_only_in_the_bounding_set() -> None:
    built = spec(user=ContainerUser(User(uid=5, gid=5), "/"))
    assert built.process is not None and built.process.capabilities is not None
    assert built.process.capabilities.effective == built.process.capabilities.permitted == []
    assert built.process.capabilities.bounding


@pytest.mark.parametrize(
    ("added", "dropped", "present", "absent"),
    [
        (["NET_ADMIN"], ["chown"], "CAP_NET_ADMIN", "CAP_CHOWN"),
        (["ALL"], ["SYS_ADMIN"], "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"),
        (["CAP_KILL"], ["ALL"], "CAP_KILL", "CAP_CHOWN"),
    ],
)
def test_capabilities_are_added_and_dropped(
    added: list[str], dropped: list[str], present: str, absent: str
) -> None:
    built = spec(host=HostConfig(cap_add=added, cap_drop=dropped))
    assert built.process is not None and built.process.capabilities is not None
    assert present in built.process.capabilities.bounding
    assert absent not in built.process.capabilities.bounding


def test_privileged_lifts_every_restriction() -> None:
    built = spec(host=HostConfig(privileged=True))
    assert built.linux is not None and built.linux.resources is not None
    assert built.linux.seccomp is None
    assert built.linux.masked_paths == built.linux.readonly_paths == []
    assert [(rule.allow, rule.type) for rule in built.linux.resources.devices] == [(True, "a")]
    assert any(device.path == "/dev/kmsg" for device in built.linux.devices) == os.path.exists("/dev/kmsg")
    assert "ro" not in next(mount for mount in built.mounts if mount.destination == "/sys").options


def test_namespaces_of_the_host_are_left_out_and_others_are_joined() -> None:
    host = HostConfig(pid_mode="host", ipc_mode="container:x", uts_mode="host", network_mode="host")
    built = spec(host=host, joined=JoinedNamespaces(ipc="/proc/7/ns/ipc"))
    assert built.linux is not None
    namespaces = {entry.type: entry.path for entry in built.linux.namespaces}
    assert namespaces == {"mount": "", "ipc": "/proc/7/ns/ipc", "cgroup": ""}
    assert built.hostname == ""
    assert built.linux.sysctl == {}


def test_a_users_mount_takes_the_place_of_a_standard_one() -> None:
    mine = Mount("/dev/shm", "bind", "/tmp", ["rbind"])
    deep = Mount("/a/b/c/d", "bind", "/tmp", ["rbind"])
    paths = SpecPaths(hosts="/h", hostname="/n", resolv_conf="/r")
    built = spec(mounts=[deep, mine, Mount("/a", "tmpfs", "tmpfs")], paths=paths)
    destinations = [mount.destination for mount in built.mounts]
    assert [mount for mount in built.mounts if mount.destination == "/dev/shm"] == [mine]
    assert destinations.index("/a") < destinations.index("/a/b/c/d")
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(destinations)


def test_devices_are_found_by_path_and_folder() -> None:
    mapping = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}
    host = host_config(Devices=[mapping], DeviceCgroupRules=["c 13:* rw"])
    built = spec(host=host)
    assert built.linux is not None and built.linux.resources is not None
    (device,) = built.linux.devices
    assert (device.path, device.type, device.major, device.minor) == ("/dev/nothing", "c", 1, 3)
    rules = [(r.allow, r.type, r.major, r.minor, r.access) for r in built.linux.resources.devices]
    assert rules == [(False, "a", None, None, "rwm"), (True, "c", 1, 3, "r"), (True, "c", 13, None, "rw")]
    mapping = {"PathOnHost": "/no/such", "PathInContainer": "", "CgroupPermissions": ""}
    with pytest.raises(InvalidParameter, match='custom device "/no/such": no such file or directory'):
        spec(host=host_config(Devices=[mapping]))


MB = 1 << 20


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"Memory": MB}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 * MB, "MemorySwap": 32 * MB}, "Minimum memoryswap limit should be larger"),
        ({"MemorySwap": 32 * MB}, "You should always set the Memory limit"),
        ({"Memory": 64 * MB, "MemoryReservation": 65 * MB}, "can not be less than memory reservation"),
        ({"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "5-1"}, "Invalid value 5-1 for cpuset cpus"),
        ({"CpusetCpus": "9999"}, "Requested CPUs are not available - requested 9999, available: "),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        ({"CapAdd": ["NOPE"]}, 'unknown capability: "CAP_NOPE"'),
        ({"SecurityOpt": ["what=ever"]}, 'invalid --security-opt 2: "what=ever"'),
        ({"SecurityOpt": ["nonsense"]}, 'invalid --security-opt 1: "nonsense"'),
        ({"SecurityOpt": ["seccomp={"]}, "Decoding seccomp profile failed"),
        ({"Ulimits": [{"Name": "nofiles", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: nofiles"),
        ({"Sysctls": {"kernel.panic": "1"}}, '"kernel.panic" is not in a separate kernel namespace'),
        ({"Sysctls": {"net.a": "1"}, "NetworkMode": "host"}, "not allowed in host network namespace"),
        ({"PidMode": "shared"}, "invalid PID mode: shared"),
        ({"OomScoreAdj": 2000}, "range for oom score adj"),
        ({"DeviceCgroupRules": ["x"]}, "invalid device cgroup rule format: 'x'"),
    ],
)
def test_what_cannot_work_is_refused_in_dockers_words(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        check_host_config(Config(), host_config(**members))


def test_gpus_are_refused_in_dockers_words() -> None:
    with pytest.raises(
        NotSupported, match=r'could not select device driver "" with capabilities: \[\[gpu\]\]'
    ):
        check_host_config(Config(), host_config(DeviceRequests=[{"Count": -1, "Capabilities": [["gpu"]]}]))


def test_limits_the_host_lacks_are_dropped_with_a_warning() -> None:
    nothing = Layout({}, "/nowhere", frozenset())
    host = host_config(Memory=64 * MB, PidsLimit=5, CpuShares=5, BlkioWeight=100, OomKillDisable=True)
    warnings = check_resources(host, layout=nothing)
    assert len(warnings) == 5
    limits = resources_of(host)
    assert limits.pids is None and limits.block_io is None


def test_cpus_become_a_quota() -> None:
    limits = resources_of(host_config(NanoCpus=1_500_000_000)).cpu
    assert limits is not None
    assert (limits.quota, limits.period) == (150_000, 100_000)


@pytest.mark.parametrize(
    ("text", "numbers"), [("", set()), ("0-2,7", {0, 1, 2, 7}), ("a", None), ("1-", None), ("3-1", None)]
)
def test_lists_of_cpus_are_read(text: str, numbers: set[int] | None) -> None:
    assert parse_cpuset(text) == numbers


def test_an_exec_inherits_from_its_container() -> None:
    config = Config(env=["A=1"], working_dir="/srv")
    process = exec_process(config, HostConfig(), ROOT, ["ls"], env=["B=2"], tty=True)
    assert process.cwd == "/srv"
    assert process.env[1:] == ["TERM=xterm", "A=1", "B=2", "HOME=/root"]
    assert process.capabilities is not None
    assert "CAP_SYS_ADMIN" not in process.capabilities.bounding
    everything = exec_process(config, HostConfig(), ROOT, ["ls"], privileged=True).capabilities
    assert everything is not None and "CAP_SYS_ADMIN" in everything.effective
