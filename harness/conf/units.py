"""Values that carry a unit, as people write them in YAML and in program headers."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?")
_FACTORS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(value: object) -> float:
    """A time: `30`, `1.5`, `"500ms"`, `"30s"`, `"2m"`, `"1h"`, in seconds.

    Raises:
        ValueError: it is none of these, or not more than nothing.
    """
    match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value).strip())
    if match is None or (result := float(match[1]) * _FACTORS[match[2]]) <= 0:
        raise ValueError(f"{value!r} is not a time such as 30s, 2m or 500ms")
    return result
