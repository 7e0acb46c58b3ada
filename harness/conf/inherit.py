"""Guests that are described as others with single fields changed: `from: NAME`.

Works on plain data and the marks of where each value stands. Knows nothing of what the fields mean.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from harness.conf.naming import nearest
from harness.conf.read import Location, Mark, Marks
from harness.errors import ConfigError

#: The key that names the guest whose fields a guest has, but for its own.
FROM = "from"


def inherit(guests: Mapping[str, Any], described: Collection[str], marks: Marks) -> None:
    """Give each guest with a `from` the fields of that guest which it does not have, those within fields too.

    A field that is inherited keeps the mark of where it is written. A field that is null has been given.

    Args:
        guests: their descriptions by name, which are changed; those that are no mapping stay as they are.
        described: the names of those that an earlier file describes.
        marks: of all values, which are added to.

    Raises:
        ConfigError: a guest cannot be based on what its `from` names; the text names file, line and key.
    """

    def resolve(name: str, below: tuple[str, ...]) -> None:
        guest = guests[name]
        if not isinstance(guest, dict) or FROM not in guest:
            return
        base = guest[FROM]
        if why := _refusal(name, base, below, guests, described):
            raise ConfigError(f"{marks['guests', name, FROM]}: guests.{name}.{FROM}: {why}")
        resolve(base, (*below, name))
        del guest[FROM]
        if isinstance(guests[base], dict):
            _add(guest, guests[base], ("guests", name), ("guests", base), marks)

    for name in guests:
        resolve(name, ())


def _refusal(
    name: str, base: object, below: tuple[str, ...], guests: Collection[str], described: Collection[str]
) -> str:
    """Why a guest cannot be based on another; '' if it can.

    Args:
        below: the guests that are based on this one, and are being resolved.
    """
    if base == name:
        return "the guest is based on itself; to change a guest, give the fields that change and no `from`"
    if base in below:
        return f"the guest is based on itself: {' from '.join([*below[below.index(str(base)) :], name, str(base)])}"
    if not isinstance(base, str) or base not in guests:
        return f"no guest named {base}; {nearest(str(base), (other for other in guests if other != name))}"
    if name in described:
        return f"{name} is described already; to change a guest, give the fields that change and no `from`"
    return ""


def _add(own: dict[Any, Any], base: Mapping[Any, Any], location: Location, of_base: Location, marks: Marks) -> None:
    """Add what a mapping lacks of another one, and the marks of that."""
    for key, value in base.items():
        if key not in own:
            own[key] = copy.deepcopy(value)
            marks.update(_below((*of_base, key), (*location, key), marks))
        elif isinstance(own[key], dict) and isinstance(value, dict):
            _add(own[key], value, (*location, key), (*of_base, key), marks)


def _below(before: Location, after: Location, marks: Marks) -> dict[Location, Mark]:
    """The marks of a value and of all within it, at another place."""
    size = len(before)
    return {(*after, *place[size:]): mark for place, mark in marks.items() if place[:size] == before}
