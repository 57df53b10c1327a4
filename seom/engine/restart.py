"""Restart policies: whether, and after how long."""

from __future__ import annotations

from seom.containers.config import RestartPolicy
from seom.engine.container import State

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
HEALTHY_RUN_S = 10.0
"""A run of this length sets the delay back to the first."""


def wants_restart(policy: RestartPolicy | None, state: State) -> bool:
    """Whether a container that has just exited is to be started again."""
    if policy is None or state.stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and state.exit_code != 0:
        return policy.maximum_retry_count == 0 or state.restart_count < policy.maximum_retry_count
    return False


def wants_start_with_daemon(policy: RestartPolicy | None, state: State) -> bool:
    """Whether a stopped container is to be started when the daemon starts."""
    if policy is None:
        return False
    return policy.name == "always" or (policy.name == "unless-stopped" and not state.stopped_by_user)


class RestartDelay:
    """0.1 s, doubled by every short run, at most a minute."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def next_s(self, ran_s: float) -> float:
        """The delay before the next start, after a run of ran_s seconds."""
        if ran_s >= HEALTHY_RUN_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(self._delay_s * 2, LONGEST_DELAY_S)
        return delay_s
