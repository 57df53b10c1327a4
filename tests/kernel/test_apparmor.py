"""The default AppArmor profile, loaded into the kernel and taken on by real programs."""

from __future__ import annotations

import subprocess

import pytest

from seom.containers.apparmor_profile import DEFAULT_PROFILE, ensure_loaded
from seom.containers.config import Config, HostConfig
from seom.containers.spec import SpecPaths, build_spec
from seom.containers.user import ContainerUser
from seom.linux import apparmor
from seom.oci.runtime_spec import User

pytestmark = pytest.mark.skipif(not apparmor.enabled(), reason="this host has no AppArmor")


def profile_of(host: HostConfig) -> str:
    root = ContainerUser(User(), "/")
    process = build_spec("x" * 64, Config(cmd=["sh"]), host, SpecPaths(), [], root).process
    assert process is not None
    return process.apparmor_profile


def confined(script: str) -> subprocess.CompletedProcess[str]:
    ensure_loaded()
    return subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        preexec_fn=lambda: apparmor.set_exec_profile(DEFAULT_PROFILE),
    )


def test_the_apparmor_profile_of_a_container_is_loaded_and_chosen() -> None:
    assert profile_of(HostConfig()) == DEFAULT_PROFILE
    assert apparmor.loaded(DEFAULT_PROFILE)
    assert profile_of(HostConfig(privileged=True)) == ""
    assert profile_of(HostConfig(security_opt=["apparmor=unconfined"])) == ""
    assert profile_of(HostConfig(security_opt=["apparmor=mine"])) == "mine"


def test_apparmor_lets_ordinary_work_pass() -> None:
    done = confined(
        "cat /proc/self/attr/current; ls / | head -1 > /dev/null; echo x > /tmp/x && rm /tmp/x; kill -0 $$"
    )
    assert done.stdout.strip() == f"{DEFAULT_PROFILE} (enforce)"
    assert done.returncode == 0


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /mnt",
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/drop_caches",
        "ls /sys/kernel/security/apparmor > /dev/null && cat /sys/kernel/security/apparmor/profiles",
    ],
)
def test_apparmor_denies_root_what_reaches_the_host(script: str) -> None:
    done = confined(script)
    assert done.returncode != 0
    assert "denied" in done.stderr


def test_an_apparmor_profile_that_is_not_loaded_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot change to AppArmor profile"):
        apparmor.set_exec_profile("no-such-profile")
