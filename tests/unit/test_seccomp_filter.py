"""The compiled filter decides as the rules say: run on a small BPF machine written for these tests."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from seom.containers.seccomp_profile import compiled, default_profile, parse_profile
from seom.errors import InvalidParameter
from seom.linux.capabilities import DEFAULT, NAMES
from seom.linux.seccomp import (
    ACTIONS,
    ARCHITECTURES,
    FLAGS_HEADER,
    action_value,
    compile_filter,
    syscall_number,
)
from seom.oci.runtime_spec import SeccompArg, SyscallRule

ALLOW = ACTIONS["SCMP_ACT_ALLOW"]
DENY = action_value("SCMP_ACT_ERRNO", errno.EPERM)
MISSING = action_value("SCMP_ACT_ERRNO", errno.ENOSYS)
X86_64 = "SCMP_ARCH_X86_64"
FAMILY = (X86_64, "SCMP_ARCH_X86", "SCMP_ARCH_X32")


def decide(program: bytes, call: str | int, *arguments: int, architecture: str = X86_64) -> int:
    """Execute the filter for one call and return the action."""
    number = call if isinstance(call, int) else syscall_number(architecture, call)
    assert number is not None
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, ARCHITECTURES[architecture].audit, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program[FLAGS_HEADER.size :]))
    position, accumulator = 0, 0
    while True:
        operation, if_true, if_false, constant = code[position]
        position += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, constant)
            case 0x54:
                accumulator &= constant
            case 0x05:
                position += constant
            case 0x06:
                return int(constant)
            case 0x15:
                position += if_true if accumulator == constant else if_false
            case 0x25:
                position += if_true if accumulator > constant else if_false
            case 0x35:
                position += if_true if accumulator >= constant else if_false
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


def build(*rules: SyscallRule, default: str = "SCMP_ACT_ERRNO") -> bytes:
    return compile_filter(default, None, FAMILY, rules)


def allow(name: str, *arguments: SeccompArg) -> SyscallRule:
    return SyscallRule([name], "SCMP_ACT_ALLOW", args=list(arguments))


@pytest.mark.parametrize("architecture", FAMILY)
def test_named_calls_are_allowed_on_every_architecture(architecture: str) -> None:
    program = build(allow("read"), allow("getpid"), allow("openat2"))
    for name in ("read", "getpid", "openat2"):
        assert decide(program, name, architecture=architecture) == ALLOW
    assert decide(program, "mount", architecture=architecture) == DENY


def test_another_architecture_is_killed() -> None:
    program = build(allow("read"))
    assert decide(program, 63, architecture="SCMP_ARCH_AARCH64") == ACTIONS["SCMP_ACT_KILL_PROCESS"]
    alone = compile_filter("SCMP_ACT_ALLOW", None, [X86_64], [])
    assert decide(alone, "read", architecture="SCMP_ARCH_X32") == ACTIONS["SCMP_ACT_KILL_PROCESS"]


def test_calls_newer_than_the_profile_do_not_exist() -> None:
    assert decide(build(allow("statx")), 5000) == MISSING
    assert decide(build(allow("statx"), default="SCMP_ACT_LOG"), 5000) == ACTIONS["SCMP_ACT_LOG"]


BIG = 1 << 40 | 7


@pytest.mark.parametrize(
    ("operator", "value", "accepted", "refused"),
    [
        ("EQ", BIG, [BIG], [7, 1 << 40, BIG + 1]),
        ("NE", BIG, [7, 1 << 40, BIG + 1, 0], [BIG]),
        ("LT", BIG, [0, 7, 1 << 40, BIG - 1], [BIG, BIG + 1, 2 << 40]),
        ("LE", BIG, [0, BIG - 1, BIG], [BIG + 1, 2 << 40]),
        ("GE", BIG, [BIG, BIG + 1, 2 << 40], [0, 7, 8, BIG - 1]),
        ("GT", BIG, [BIG + 1, 2 << 40], [0, 8, BIG, BIG - 1]),
    ],
)
def test_arguments_are_compared_in_64_bits(
    operator: str, value: int, accepted: list[int], refused: list[int]
) -> None:
    program = build(allow("socket", SeccompArg(1, value, f"SCMP_CMP_{operator}")))
    assert [decide(program, "socket", 0, number) for number in accepted] == [ALLOW] * len(accepted)
    assert [decide(program, "socket", 0, number) for number in refused] == [DENY] * len(refused)


def test_a_mask_selects_bits_of_an_argument() -> None:
    program = build(allow("clone", SeccompArg(0, 0xF0, "SCMP_CMP_MASKED_EQ", 0x20)))
    assert decide(program, "clone", 0x2F) == ALLOW
    assert decide(program, "clone", 0x3F) == DENY


def test_different_arguments_must_all_match_and_the_same_one_is_an_alternative() -> None:
    first, second = SeccompArg(0, 1, "SCMP_CMP_EQ"), SeccompArg(1, 2, "SCMP_CMP_EQ")
    both = build(allow("socket", first, second))
    assert [decide(both, "socket", *pair) for pair in [(1, 2), (1, 3), (0, 2)]] == [ALLOW, DENY, DENY]
    either = build(allow("socket", first, SeccompArg(0, 5, "SCMP_CMP_EQ")))
    assert [decide(either, "socket", value) for value in (1, 5, 2)] == [ALLOW, ALLOW, DENY]


def test_denying_a_socket_call_denies_it_through_socketcall() -> None:
    rule = SyscallRule(["connect"], "SCMP_ACT_ERRNO", errno.EACCES)
    program = build(rule, default="SCMP_ACT_ALLOW")
    refused = action_value("SCMP_ACT_ERRNO", errno.EACCES)
    assert decide(program, "socketcall", 3, architecture="SCMP_ARCH_X86") == refused
    assert decide(program, "socketcall", 2, architecture="SCMP_ARCH_X86") == ALLOW


def test_the_default_profile_follows_the_capabilities() -> None:
    plain = compiled(default_profile(DEFAULT, "x86_64"))
    admin = compiled(default_profile([*DEFAULT, "CAP_SYS_ADMIN"], "x86_64"))
    everything = compiled(default_profile(NAMES, "x86_64"))
    assert [decide(program, "mount") for program in (plain, admin)] == [DENY, ALLOW]
    assert [decide(program, "clone3") for program in (plain, admin)] == [MISSING, ALLOW]
    assert [decide(program, "clone", 0x10000000) for program in (plain, admin)] == [DENY, ALLOW]
    assert decide(plain, "clone", 0x11) == ALLOW
    assert [decide(program, "init_module") for program in (plain, admin, everything)] == [DENY, DENY, ALLOW]
    for name in ("keyctl", "add_key", "io_uring_setup", "kexec_load", "bpf", "userfaultfd", "mount_setattr"):
        assert decide(plain, name) == DENY, name
    for domain, verdict in ((1, ALLOW), (2, ALLOW), (38, DENY), (39, ALLOW), (40, DENY), (44, ALLOW)):
        assert decide(plain, "socket", domain) == verdict
    assert decide(plain, "fchmodat2") == decide(plain, "futex_wait") == ALLOW


def test_the_program_of_a_profile_is_kept_on_disk(tmp_path: os.PathLike[str]) -> None:
    profile = default_profile(["CAP_KILL"], "x86_64")
    program = compiled(profile, os.fspath(tmp_path))
    (name,) = os.listdir(tmp_path)
    with open(f"{os.fspath(tmp_path)}/{name}", "rb") as file:
        assert file.read() == program == compiled(profile)


PROFILE = """{
  "defaultAction": "SCMP_ACT_ALLOW",
  "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
  "syscalls": [
    {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
    {"name": "chmod", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["chown"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["arm64"]}},
    {"names": ["link"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "999.0"}},
    {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "3.1", "arches": ["amd64"]}}
  ]}"""


def test_a_users_profile_is_settled_for_this_machine() -> None:
    profile = parse_profile(PROFILE, (), "x86_64")
    assert profile.architectures == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [rule.names for rule in profile.syscalls] == [["mkdir"], ["chmod"], ["rmdir"]]
    program = compiled(profile)
    assert decide(program, "mkdir") == action_value("SCMP_ACT_ERRNO", errno.ENOSPC)
    assert decide(program, "read") == ALLOW
    assert len(parse_profile(PROFILE, ["CAP_SYS_ADMIN"], "x86_64").syscalls) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Decoding seccomp profile failed"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}', "Decoding seccomp profile failed"),
        (
            '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_KILL"}]}',
            "both 'name' and 'names'",
        ),
    ],
)
def test_a_bad_profile_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        parse_profile(text, ())


def test_flags_travel_with_the_program() -> None:
    plain = compile_filter("SCMP_ACT_ALLOW", None, FAMILY, [])
    logging = compile_filter("SCMP_ACT_ALLOW", None, FAMILY, [], ["SECCOMP_FILTER_FLAG_LOG"])
    assert [FLAGS_HEADER.unpack_from(one) for one in (plain, logging)] == [(4,), (2,)]
    with pytest.raises(ValueError, match="SECCOMP_FILTER_FLAG_ODD"):
        compile_filter("SCMP_ACT_ALLOW", None, FAMILY, [], ["SECCOMP_FILTER_FLAG_ODD"])


@pytest.mark.parametrize("action", ["SCMP_ACT_NOTIFY", "SCMP_ACT_PERHAPS"])
def test_an_unknown_action_is_refused(action: str) -> None:
    text = f'{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], "action": "{action}"}}]}}'
    with pytest.raises(InvalidParameter, match=action):
        compiled(parse_profile(text, ()))
