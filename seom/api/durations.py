"""Durations in words, as lists show them."""

from __future__ import annotations

import time


def ago(since_ns: int, now_ns: int | None = None) -> str:
    """How long ago a moment was: Less than a second, 12 seconds, About an hour, 3 weeks ..."""
    seconds = max(0, ((now_ns or time.time_ns()) - since_ns) // 1_000_000_000)
    minutes, hours = seconds // 60, round(seconds / 3600)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
