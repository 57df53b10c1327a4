"""Device access on cgroup v2: a BPF program per group (v1 has files for it: devices.allow).

The program gets struct bpf_cgroup_dev_ctx {u32 access_type, major, minor}, where access_type is
(access << 16) | type, and returns 1 to allow. Rules are tried from the last to the first, so that
a later rule overrides an earlier one, as on v1. See bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# (allow, type "a", "b" or "c", major or None, minor or None, access letters of "rwm")
Rule = tuple[bool, str, "int | None", "int | None", str]

BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID = 5, 8, 9, 16, 13
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
SYS_BPF = {"x86_64": 321, "ppc64le": 361, "s390x": 351}

# Opcodes of the extended BPF machine.
LOAD_WORD, MOVE, MOVE_REGISTER, EXIT = 0x61, 0xB4, 0xBC, 0x95
AND, SHIFT_RIGHT, JUMP_NOT_EQUAL = 0x54, 0x74, 0x56
TYPE, ACCESS_WANTED, MAJOR, MINOR, SCRATCH = 2, 3, 4, 5, 1

_libc = ctypes.CDLL(None, use_errno=True)


def program(rules: Sequence[Rule]) -> bytes:
    """The instructions that decide by the last matching rule, and deny without one."""
    code = [
        _instruction(LOAD_WORD, TYPE, 1, 0),
        _instruction(MOVE_REGISTER, ACCESS_WANTED, TYPE),
        _instruction(AND, TYPE, immediate=0xFFFF),
        _instruction(SHIFT_RIGHT, ACCESS_WANTED, immediate=16),
        _instruction(LOAD_WORD, MAJOR, 1, 4),
        _instruction(LOAD_WORD, MINOR, 1, 8),
    ]
    for rule in reversed(rules):
        code += _rule(rule)
        if _matches_everything(rule):
            return b"".join(code)  # the kernel refuses instructions that nothing reaches
    code += [_instruction(MOVE, 0, immediate=0), _instruction(EXIT)]
    return b"".join(code)


def v1_entry(rule: Rule) -> str:
    """The rule as v1's devices.allow and devices.deny want it: "c 1:3 rwm", or "a" for everything."""
    _, kind, major, minor, access = rule
    if kind == "a":
        return "a"
    numbers = ["*" if number is None or number < 0 else str(number) for number in (major, minor)]
    return f"{kind} {':'.join(numbers)} {access}"


def replace(cgroup: str, rules: Sequence[Rule]) -> None:
    """Make `rules` the only program of the group: the new one is attached before old ones go."""
    group = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(group)
        new = _load(program(rules))
        try:
            _bpf(BPF_PROG_ATTACH, struct.pack("=IIII", group, new, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
        finally:
            os.close(new)
        for number in old:
            fd = _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
            try:
                _bpf(BPF_PROG_DETACH, struct.pack("=IIII", group, fd, BPF_CGROUP_DEVICE, 0))
            finally:
                os.close(fd)
    finally:
        os.close(group)


def _matches_everything(rule: Rule) -> bool:
    _, kind, major, minor, access = rule
    numbers = [number for number in (major, minor) if number is not None and number >= 0]
    return kind not in TYPES and not numbers and set(access) >= set(ACCESS)


def _rule(rule: Rule) -> list[bytes]:
    allow, kind, major, minor, access = rule
    tests: list[list[bytes]] = []
    mask = sum(ACCESS[letter] for letter in set(access))
    if kind in TYPES:
        tests.append([_instruction(JUMP_NOT_EQUAL, TYPE, immediate=TYPES[kind])])
    if mask != 7:
        # An allow rule must cover all that is wanted; a deny rule bites when any of it is wanted.
        wanted = ~mask & 7 if allow else mask
        jump = JUMP_NOT_EQUAL if allow else 0x16
        tests.append(
            [
                _instruction(MOVE_REGISTER, SCRATCH, ACCESS_WANTED),
                _instruction(AND, SCRATCH, immediate=wanted),
                _instruction(jump, SCRATCH, immediate=0),
            ]
        )
    for register, number in ((MAJOR, major), (MINOR, minor)):
        if number is not None and number >= 0:
            tests.append([_instruction(JUMP_NOT_EQUAL, register, immediate=number)])
    code = [_instruction(MOVE, 0, immediate=int(allow)), _instruction(EXIT)]
    for test in reversed(tests):
        last = bytearray(test[-1])
        struct.pack_into("=h", last, 2, len(code))
        code = [*test[:-1], bytes(last), *code]
    return code


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhI", code, source << 4 | target, offset, immediate)


def _load(instructions: bytes) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"Apache")
    attributes = struct.pack(
        "=IIQQIIQII",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(BPF_PROG_LOAD, attributes)


def _attached(group: int) -> list[int]:
    """The ids of the device programs of a group."""
    ids = (ctypes.c_uint32 * 64)()
    attributes = struct.pack("=IIIIQII", group, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 64, 0)
    answer = ctypes.create_string_buffer(attributes, 64)
    _bpf_in_place(BPF_PROG_QUERY, answer)
    count: int = struct.unpack_from("=I", answer, 24)[0]
    return list(ids[:count])


def _bpf(command: int, attributes: bytes) -> int:
    return _bpf_in_place(command, ctypes.create_string_buffer(attributes, 128))


def _bpf_in_place(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(SYS_BPF.get(os.uname().machine, 280), command, attributes, len(attributes))
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, f"bpf: {os.strerror(number)}")
    return result
