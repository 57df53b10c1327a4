"""What seom-runtime can do (features) and a first config.json to start from (spec)."""

from __future__ import annotations

from typing import Any

import msgspec

from seom.containers.config import Config, HostConfig
from seom.containers.mount_options import supported_options
from seom.containers.spec import SpecPaths, build_spec
from seom.containers.user import ContainerUser
from seom.linux import apparmor
from seom.linux.capabilities import NAMES
from seom.linux.namespaces import FLAGS
from seom.linux.seccomp import ACTIONS, ARCHITECTURES
from seom.linux.seccomp import FLAGS as SECCOMP_FLAGS
from seom.oci.runtime_spec import User

OPERATORS = ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")


def features() -> dict[str, Any]:
    """The document of the runtime specification's features.md."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": supported_options(),
        "linux": {
            "namespaces": sorted(FLAGS),
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": [f"SCMP_CMP_{name}" for name in OPERATORS],
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(SECCOMP_FLAGS),
                "supportedFlags": sorted(SECCOMP_FLAGS),
            },
            "apparmor": {"enabled": apparmor.enabled()},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }


def example_spec() -> Any:
    """A specification with the defaults of a container of the engine: a shell on a terminal."""
    config = Config(cmd=["sh"], tty=True)
    user = ContainerUser(User(), "/root")
    spec = build_spec("seom", config, HostConfig(readonly_rootfs=True), SpecPaths(), [], user)
    return msgspec.to_builtins(spec)
