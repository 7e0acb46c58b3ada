"""Durations in words."""

from __future__ import annotations


def as_clock(seconds: float) -> str:
    """A duration in seconds as a clock shows it: `1:44`, or `1:02:03` from an hour on."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def in_words(seconds: float) -> str:
    """A duration in seconds, in the two units that matter: `1.5 s`, `1 min 44 s`, `1 h 2 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
