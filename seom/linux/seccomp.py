"""Seccomp filters: compiled to BPF once, installed as bytes.

libseccomp serves as the table of system call names; the program is built here, because a binary
search over ranges of call numbers loads in a third of the time that a list of comparisons takes.

    load architecture -> one section per architecture
    load call number  -> binary search over ranges -> return an action, or check arguments first

See seccomp(2), and "struct seccomp_data" there for the offsets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from seom.linux.seccomp_syscalls import MULTIPLEXED, NEWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class Argument(Protocol):
        """One comparison of an argument; op is LT, LE, EQ, NE, GE, GT or MASKED_EQ (SCMP_CMP_ in front)."""

        index: int
        value: int
        value_two: int
        op: str

    class Rule(Protocol):
        """An action for some calls, if all arguments compare true (the OCI shape)."""

        names: list[str]
        action: str
        errno_ret: int | None

        @property
        def args(self) -> Sequence[Argument]: ...

    Check = tuple[tuple[Argument, ...], int]


class Architecture:
    """How one architecture numbers calls: libseccomp's token, the kernel's id, and its shape."""

    def __init__(self, token: int, audit: int = 0, bits: int = 64, big_endian: bool = False) -> None:
        self.token = token
        self.audit = audit or token
        self.bits = bits
        self.big_endian = big_endian


X32_BIT = 0x40000000
ARCHITECTURES = {
    "SCMP_ARCH_X86": Architecture(0x40000003, bits=32),
    "SCMP_ARCH_X86_64": Architecture(0xC000003E),
    "SCMP_ARCH_X32": Architecture(0x4000003E, audit=0xC000003E),
    "SCMP_ARCH_ARM": Architecture(0x40000028, bits=32),
    "SCMP_ARCH_AARCH64": Architecture(0xC00000B7),
    "SCMP_ARCH_RISCV64": Architecture(0xC00000F3),
    "SCMP_ARCH_LOONGARCH64": Architecture(0xC0000102),
    "SCMP_ARCH_PPC64LE": Architecture(0xC0000015),
    "SCMP_ARCH_S390": Architecture(0x00000016, bits=32, big_endian=True),
    "SCMP_ARCH_S390X": Architecture(0x80000016, big_endian=True),
}
# The machine of uname(2) -> its own architecture, then those whose programs it can run as well.
FAMILIES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
}

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
PERMISSIVE = {ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"]}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
FLAGS_HEADER = struct.Struct("=I")
DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)

SECCOMP_SET_MODE_FILTER = 1
# Looked up now: a process with another personality is told another machine.
_SYS_SECCOMP = {"x86_64": 317, "ppc64le": 358, "s390x": 348}.get(os.uname().machine, 277)
MAX_INSTRUCTIONS = 4096

LD_WORD, ALU_AND, JUMP, JEQ, JGT, JGE, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]
Code = list[Instruction]


def action_value(action: str, errno_ret: int | None) -> int:
    """The 32 bits a filter returns for an OCI action name.

    Raises ValueError for names that are unknown or need a listening agent (SCMP_ACT_NOTIFY).
    """
    if action not in ACTIONS:
        raise ValueError(f"seccomp action {action!r} is not supported")
    value = ACTIONS[action]
    if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= (errno.EPERM if errno_ret is None else errno_ret) & 0xFFFF
    return value


def compile_filter(
    default_action: str,
    default_errno: int | None,
    architectures: Iterable[str],
    rules: Iterable[Rule],
    flags: Iterable[str] = (),
) -> bytes:
    """Compile rules to the bytes that install() takes: its flags, then a BPF program.

    Calls newer than everything a restrictive filter names answer ENOSYS, so that a C library
    falls back to an older call instead of giving up on EPERM. Names that exist on no architecture
    here are ignored. Raises ValueError for unknown actions, operators, architectures and flags.
    """
    default = action_value(default_action, default_errno)
    rules = [rule for rule in rules if action_value(rule.action, rule.errno_ret) != default]
    chosen = list(architectures) or [FAMILIES[os.uname().machine][0]]
    unknown = [name for name in chosen if name not in ARCHITECTURES]
    if unknown:
        raise ValueError(f"seccomp architecture {unknown[0]!r} is not supported")
    program: Code = [(LD_WORD, 0, 0, OFFSET_ARCHITECTURE)]
    for audit in dict.fromkeys(ARCHITECTURES[name].audit for name in chosen):
        names = [name for name in chosen if ARCHITECTURES[name].audit == audit]
        section = _section(names, rules, default)
        # The jump over a section may be longer than a conditional jump reaches.
        program += [(JEQ, 1, 0, audit), (JUMP, 0, 0, len(section)), *section]
    program.append((RET, 0, 0, ACTIONS["SCMP_ACT_KILL_PROCESS"]))
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(f"seccomp profile is too large: {len(program)} of {MAX_INSTRUCTIONS} instructions")
    bits = flag_bits(list(flags) or DEFAULT_FLAGS)
    return FLAGS_HEADER.pack(bits) + b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def flag_bits(flags: Iterable[str]) -> int:
    """The flags of seccomp(2) for their names; raises ValueError for one that is unknown."""
    bits = 0
    for flag in flags:
        if flag not in FLAGS:
            raise ValueError(f"seccomp flag {flag!r} is not supported")
        bits |= FLAGS[flag]
    return bits


def install(compiled: bytes) -> None:
    """seccomp(SECCOMP_SET_MODE_FILTER) on the calling thread, with what compile_filter() made.

    Needs no_new_privs or CAP_SYS_ADMIN (EACCES otherwise).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    (bits,) = FLAGS_HEADER.unpack_from(compiled)
    program = compiled[FLAGS_HEADER.size :]
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.syscall(_SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, bits, ctypes.c_char_p(header)):
        failure = ctypes.get_errno()
        raise OSError(failure, f"seccomp: {os.strerror(failure)}")


_library: list[ctypes.CDLL] = []


def _libseccomp() -> ctypes.CDLL:
    if not _library:
        library = ctypes.CDLL("libseccomp.so.2")
        library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
        _library.append(library)
    return _library[0]


def syscall_number(architecture: str, name: str) -> int | None:
    """The number of a system call, None where the architecture has none of that name."""
    number: int = _libseccomp().seccomp_syscall_resolve_name_arch(
        ARCHITECTURES[architecture].token, name.encode()
    )
    if number >= 0:
        return number
    newer = NEWER.get(name)
    if newer is None or (newer < 424 and architecture != "SCMP_ARCH_X86_64"):
        return None
    return newer | X32_BIT if architecture == "SCMP_ARCH_X32" else newer


def _section(names: list[str], rules: list[Rule], default: int) -> Code:
    """The code for calls with one audit number; X32 shares it with x86-64."""
    checks: dict[int, list[Check]] = {}
    ranges: list[tuple[int, Code]] = []
    for name in sorted(names, key=lambda name: name == "SCMP_ARCH_X32"):
        base = X32_BIT if name == "SCMP_ARCH_X32" else 0
        checks = _checks(name, rules)
        ranges += _ranges(checks, base, default, ARCHITECTURES[name])
    if "SCMP_ARCH_X86_64" in names and "SCMP_ARCH_X32" not in names:
        ranges.append((X32_BIT, [(RET, 0, 0, ACTIONS["SCMP_ACT_KILL_PROCESS"])]))
    return [(LD_WORD, 0, 0, OFFSET_NUMBER), *_search(ranges)]


def _checks(architecture: str, rules: list[Rule]) -> dict[int, list[Check]]:
    """Call number -> (arguments to compare, action) in the order in which they are tried."""
    found: dict[int, list[Check]] = {}
    for rule in rules:
        action = action_value(rule.action, rule.errno_ret)
        for name in rule.names:
            number = syscall_number(architecture, name)
            if number is not None:
                found.setdefault(number, []).extend((group, action) for group in _groups(rule.args))
            if ARCHITECTURES[architecture].bits == 32 and name in MULTIPLEXED and not rule.args:
                call, selector = MULTIPLEXED[name]
                through = syscall_number(architecture, call)
                if through is not None:
                    found.setdefault(through, []).append(((_Selector(selector),), action))
    return found


class _Selector:
    """Compares the first argument of socketcall(2) and ipc(2), which says what call is meant."""

    index = 0
    op = "SCMP_CMP_EQ"
    value_two = 0

    def __init__(self, value: int) -> None:
        self.value = value


def _groups(arguments: Sequence[Argument]) -> list[tuple[Argument, ...]]:
    """All arguments must match, but comparisons of the same argument are alternatives."""
    indexes = [argument.index for argument in arguments]
    if len(set(indexes)) == len(indexes):
        return [tuple(arguments)]
    return [(argument,) for argument in arguments]


def _ranges(
    checks: dict[int, list[Check]], base: int, default: int, architecture: Architecture
) -> list[tuple[int, Code]]:
    """Split all call numbers from `base` up into ranges with the same code: (first number, code)."""
    ranges: list[tuple[int, Code]] = []

    def add(first: int, code: Code) -> None:
        if not ranges or ranges[-1][1] != code:
            ranges.append((first, code))

    following = base
    for number in sorted(checks):
        if number > following:
            add(following, [(RET, 0, 0, default)])
        add(number, _leaf(checks[number], default, architecture))
        following = number + 1
    beyond = default if default in PERMISSIVE else action_value("SCMP_ACT_ERRNO", errno.ENOSYS)
    add(following, [(RET, 0, 0, beyond)])
    return ranges


def _search(ranges: list[tuple[int, Code]]) -> Code:
    """Binary search for the range of the accumulator."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    if len(left) <= 255:
        return [(JGE, len(left), 0, ranges[middle][0]), *left, *right]
    return [(JGE, 0, 1, ranges[middle][0]), (JUMP, 0, 0, len(left)), *left, *right]


def _leaf(checks: list[Check], default: int, architecture: Architecture) -> Code:
    """The code for one call: conditional rules in order, then the unconditional one or the default."""
    code: Code = []
    last = default
    for arguments, action in checks:
        if arguments:
            body = [(RET, 0, 0, action)]
            for argument in reversed(arguments):
                body = _compare(argument, architecture, body)
            code += body
        else:
            last = action
    return [*code, (RET, 0, 0, last)]


def _compare(argument: Argument, architecture: Architecture, matched: Code) -> Code:
    """Run `matched` if the argument compares true; otherwise fall behind it."""
    offset = OFFSET_ARGUMENTS + 8 * argument.index
    low, high = (offset + 4, offset) if architecture.big_endian else (offset, offset + 4)
    value, mask = argument.value, 0xFFFFFFFFFFFFFFFF
    operator = argument.op.removeprefix("SCMP_CMP_")
    if operator == "MASKED_EQ":
        value, mask, operator = argument.value_two, argument.value, "EQ"
    words = [(low, value & 0xFFFFFFFF, mask & 0xFFFFFFFF)]
    if architecture.bits == 64:
        words.insert(0, (high, value >> 32 & 0xFFFFFFFF, mask >> 32))
    size = len(matched)
    if operator == "EQ":
        code: Code = []
        for word in reversed(words):
            skip = size + len(code)
            code = [*_load(word), (JEQ, 0, skip, word[1]), *code]
        return code + matched
    if operator == "NE":
        code = [*_load(words[-1]), (JEQ, size, 0, words[-1][1])]
        if len(words) == 2:
            code = [*_load(words[0]), (JEQ, 0, len(code), words[0][1]), *code]
        return code + matched
    return _order(operator, words, matched)


def _order(operator: str, words: list[tuple[int, int, int]], matched: Code) -> Code:
    """LT, LE, GE and GT on one or two words."""
    if operator not in ("LT", "LE", "GE", "GT"):
        raise ValueError(f"seccomp operator {operator!r} is not supported")
    size = len(matched)
    jump = JGE if operator in ("LT", "GE") else JGT
    greater = operator in ("GE", "GT")
    yes, no = (0, size) if greater else (size, 0)
    code = [*_load(words[-1]), (jump, yes, no, words[-1][1])]
    if len(words) == 2:
        over_code, over_all = len(code), len(code) + size
        greater_high, less_high = (over_code + 1, over_all) if greater else (over_all + 1, over_code)
        code = [
            *_load(words[0]),
            (JGT, greater_high, 0, words[0][1]),
            (JEQ, 0, less_high, words[0][1]),
            *code,
        ]
    return code + matched


def _load(word: tuple[int, int, int]) -> Code:
    offset, _, mask = word
    code: Code = [(LD_WORD, 0, 0, offset)]
    return code if mask == 0xFFFFFFFF else [*code, (ALU_AND, 0, 0, mask)]
