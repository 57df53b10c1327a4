"""The AppArmor profile of containers, on hosts that have AppArmor.

It repeats in another mechanism what masked paths, capabilities and seccomp do already, so that one
mistake in any of these is not enough to reach the host. See apparmor.d(5).
"""

from __future__ import annotations

import subprocess
import threading

from seom.errors import SystemFailure
from seom.linux import apparmor

DEFAULT_PROFILE = "seom-default"
PARSER_TIMEOUT_S = 30

# Files in /proc itself; then folders there that are neither a process's nor sys; in sys all but kernel/shm*.
_DENIED = """
  deny mount,

  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
"""

_lock = threading.Lock()


def profile_text(name: str = DEFAULT_PROFILE) -> str:
    """The profile in the language of apparmor_parser(8): everything but what is denied by name."""
    return f"""profile {name} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  unix,
  dbus,

  signal (receive) peer=unconfined,
  signal (send,receive) peer={name},
  ptrace (trace,read,tracedby,readby) peer={name},
{_DENIED}}}
"""


def ensure_loaded(name: str = DEFAULT_PROFILE) -> None:
    """Load the default profile if the kernel does not have it (any more); blocks for 0.1 seconds then.

    Raises SystemFailure with the parser's words when it is refused.
    """
    with _lock:
        if apparmor.loaded(name):
            return
        parser = apparmor.parser() or "apparmor_parser"
        try:
            done = subprocess.run(
                [parser, "--replace", "--skip-cache"],
                input=profile_text(name),
                capture_output=True,
                text=True,
                timeout=PARSER_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SystemFailure(f"cannot load the AppArmor profile {name}: {error}") from error
        if done.returncode:
            reason = done.stderr.strip() or f"exit status {done.returncode}"
            raise SystemFailure(f"cannot load the AppArmor profile {name}: {reason}")
