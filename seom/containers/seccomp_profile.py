"""Seccomp profiles: the default one, those that users bring, and the compiled programs.

The default denies what a contained program has no business with: other namespaces, mounts, modules,
clocks, keyrings, io_uring, raw I/O, and whatever nobody has looked at yet. It admits the same calls
as Docker's default profile does, including those that come back with a capability.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable

import msgspec

from seom.containers.seccomp_cache import cached_program
from seom.errors import InvalidParameter
from seom.linux.seccomp import FAMILIES, compile_filter
from seom.oci.runtime_spec import Seccomp, SeccompArg, SyscallRule

EPERM, ENOSYS = 1, 38
AF_VSOCK, AF_ALG, AF_QIPCRTR = 40, 38, 42

ALLOWED = {
    "files": """
        access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3
        faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat
        fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64
        fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 link
        linkat listmount lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
        newfstatat open openat openat2 readahead readlink readlinkat rename renameat renameat2 rmdir
        stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs
        truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes""",
    "extended attributes": """
        fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr
        listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat""",
    "reading and writing": """
        pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv sendfile sendfile64
        splice tee vmsplice write writev""",
    "waiting": """
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 _newselect pause poll ppoll ppoll_time64 pselect6
        pselect6_time64 select""",
    "asynchronous input and output": """
        io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit""",
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
        recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall
        socketpair""",
    "memory": """
        brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock
        mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc
        pkey_free pkey_mprotect process_mrelease remap_file_pages""",
    "processes": """
        execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid kill
        pidfd_open pidfd_send_signal prctl ptrace process_vm_readv process_vm_writev rseq
        set_robust_list get_robust_list set_tid_address setpgid setsid tgkill tkill vfork wait4
        waitid waitpid""",
    "threads": """
        futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_thread_area
        set_thread_area""",
    "signals": """
        restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd
        signalfd4 sigprocmask sigreturn""",
    "identity": """
        capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
        getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid
        setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32
        setresuid setresuid32 setreuid setreuid32 setuid setuid32""",
    "scheduling and limits": """
        getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_getaffinity
        sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
        sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
        sched_setattr sched_setparam sched_setscheduler sched_yield setpriority setrlimit
        ugetrlimit""",
    "time": """
        adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
        clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep
        setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
        timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
        timerfd_settime timerfd_settime64 times""",
    "System V and POSIX messages": """
        ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
        mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
        semtimedop_time64 shmat shmctl shmdt shmget""",
    "the system": """
        getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self riscv_hwprobe
        seccomp sysinfo uname uretprobe""",
}

BY_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree
        perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2
        unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# The flags of clone(2) that make namespaces: mount, cgroup, uts, ipc, user, pid, net.
NAMESPACE_FLAGS = 0x7E020000
# Linux, 32-bit Linux, each without and with uname26, and "tell me the current one".
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# Docker's names of architectures in "includes", by uname(2)'s machine.
PROFILE_ARCHES = {
    "x86_64": ("amd64", "x86", "x32"),
    "aarch64": ("arm64", "arm"),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x", "s390"),
    "riscv64": ("riscv64",),
    "loongarch64": ("loong64",),
}


def default_profile(capabilities: Collection[str], machine: str | None = None) -> Seccomp:
    """The profile of a container that has these capabilities in its bounding set; not to be changed."""
    return _default_profile(frozenset(capabilities), machine or os.uname().machine)


@functools.lru_cache(maxsize=32)
def _default_profile(capabilities: frozenset[str], machine: str) -> Seccomp:
    names = " ".join([*ALLOWED.values(), BY_MACHINE.get(machine, "")]).split()
    for capability, calls in BY_CAPABILITY.items():
        if capability in capabilities:
            names += calls.split()
    rules = [_allow(sorted(set(names)))]
    # Kernel crypto has a history of holes, and vsock would reach the hypervisor.
    rules += [_allow(["socket"], 0, AF_ALG, "LT"), _allow(["socket"], 0, 39, "EQ")]
    rules += [_allow(["socket"], 0, AF_VSOCK, "GT")]
    rules += [_allow(["personality"], 0, domain, "EQ") for domain in PERSONALITIES]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags_argument = 1 if machine == "s390x" else 0
        rules.append(_allow(["clone"], flags_argument, NAMESPACE_FLAGS, "MASKED_EQ"))
        # A filter cannot see clone3's flags, which are in memory: ENOSYS makes C libraries use clone.
        rules.append(SyscallRule(["clone3"], "SCMP_ACT_ERRNO", ENOSYS))
    return Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=EPERM,
        architectures=list(FAMILIES.get(machine, ())),
        syscalls=rules,
    )


def _allow(names: list[str], index: int | None = None, value: int = 0, operator: str = "EQ") -> SyscallRule:
    arguments = [] if index is None else [SeccompArg(index, value, f"SCMP_CMP_{operator}")]
    return SyscallRule(names, "SCMP_ACT_ALLOW", args=arguments)


# -- profiles in Docker's file format


class _Condition(msgspec.Struct, rename="camel"):
    caps: list[str] | None = None
    arches: list[str] | None = None
    min_kernel: str | None = None


class _ProfileRule(msgspec.Struct, rename="camel"):
    action: str
    names: list[str] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: list[SeccompArg] | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _ArchitectureEntry(msgspec.Struct, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class _Profile(msgspec.Struct, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    arch_map: list[_ArchitectureEntry] | None = None
    architectures: list[str] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    syscalls: list[_ProfileRule] | None = None


def parse_profile(text: str | bytes, capabilities: Collection[str], machine: str | None = None) -> Seccomp:
    """Read a profile as `docker run --security-opt seccomp=FILE` takes it, and settle its conditions.

    Raises InvalidParameter with Docker's wording for bad JSON and for contradictory members.
    """
    machine = machine or os.uname().machine
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if profile.architectures and profile.arch_map:
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile;"
            " use either 'architectures' or 'archMap'"
        )
    if profile.listener_path:
        raise InvalidParameter("seccomp profile: listenerPath is not supported; remove it from the profile")
    return Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=_architectures(profile, machine),
        flags=profile.flags or [],
        syscalls=list(_settled(profile.syscalls or [], capabilities, machine)),
    )


def _architectures(profile: _Profile, machine: str) -> list[str]:
    if profile.architectures:
        return profile.architectures
    own = FAMILIES.get(machine, ("",))[0]
    for entry in profile.arch_map or []:
        if entry.architecture == own:
            return [own, *(entry.sub_architectures or [])]
    return []


def _settled(rules: list[_ProfileRule], capabilities: Collection[str], machine: str) -> Iterable[SyscallRule]:
    for rule in rules:
        if rule.name and rule.names:
            raise InvalidParameter(
                "both 'name' and 'names' are specified in the seccomp profile; use either 'name' or 'names'"
            )
        names = rule.names or ([rule.name] if rule.name else [])
        if _applies(rule, capabilities, machine) and names:
            yield SyscallRule(names, rule.action, rule.errno_ret, rule.args or [])


def _applies(rule: _ProfileRule, capabilities: Collection[str], machine: str) -> bool:
    """Do the conditions of a rule hold here? Includes must all hold; any exclusion rules it out."""
    arches = PROFILE_ARCHES.get(machine, (machine,))
    includes, excludes = rule.includes or _Condition(), rule.excludes or _Condition()
    if includes.arches and not set(includes.arches) & set(arches):
        return False
    if includes.caps and not set(includes.caps) <= set(capabilities):
        return False
    if includes.min_kernel and _running_kernel() < _version(includes.min_kernel):
        return False
    if set(excludes.arches or ()) & set(arches) or set(excludes.caps or ()) & set(capabilities):
        return False
    return not (excludes.min_kernel and _running_kernel() >= _version(excludes.min_kernel))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not major.isdigit() or not minor.isdigit():
        raise InvalidParameter(f"invalid kernel version in the seccomp profile: {text!r}; write it like 4.8")
    return int(major), int(minor)


@functools.cache
def _running_kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)


# -- compiled programs


def compiled(seccomp: Seccomp, cache: str | None = None) -> bytes:
    """The BPF program of a profile, kept in memory and, given a folder, on disk.

    Compiling takes milliseconds, and a host uses very few different profiles.
    Raises InvalidParameter for actions, operators or architectures that do not exist.
    """
    return _compiled(msgspec.json.encode(seccomp), cache)


@functools.lru_cache(maxsize=64)
def _compiled(profile: bytes, cache: str | None) -> bytes:
    return cached_program(profile, cache, lambda: _compile(profile))


def _compile(profile: bytes) -> bytes:
    seccomp = msgspec.json.decode(profile, type=Seccomp)
    try:
        return compile_filter(
            seccomp.default_action,
            seccomp.default_errno_ret,
            seccomp.architectures,
            seccomp.syscalls,
            seccomp.flags,
        )
    except ValueError as error:
        raise InvalidParameter(str(error)) from error
