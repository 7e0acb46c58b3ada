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

    A field that is inherited keeps the mark of where it is written. A field that is null has been given; what that
    comes to, `drop_nulls` says.

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


def drop_nulls(guests: Mapping[str, Any], marks: Marks) -> None:
    """Take the fields that are null out of guests' descriptions, those within fields too: each is then as if nobody had
    given it, which is how a guest gets rid of a field of its base. They keep their marks."""
    for name, guest in guests.items():
        if isinstance(guest, dict):
            _drop_nulls(guest, ("guests", name), marks)


def _drop_nulls(fields: dict[Any, Any], location: Location, marks: Marks) -> None:
    for key, value in list(fields.items()):
        place = (*location, key)
        if value is None:
            del fields[key]
            for stale in [each for each in marks if each[: len(place)] == place and each != place]:
                del marks[stale]
        elif isinstance(value, dict):
            _drop_nulls(value, place, marks)


def _refusal(
    name: str, base: object, below: tuple[str, ...], guests: Collection[str], described: Collection[str]
) -> str:
    """Why a guest cannot be based on another; '' if it can.

    Args:
        below: the guests that are based on this one, and are being resolved.
    """
    if not isinstance(base, str):
        return f"must be the name of a guest; {nearest('', (other for other in guests if other != name))}"
    if base == name:
        return "the guest is based on itself; to change a guest, give the fields that change and no `from`"
    if base in below:
        return f"the guest is based on itself: {' from '.join([*below[below.index(base) :], name, base])}"
    if base not in guests:
        return f"no guest named {base}; {nearest(base, (other for other in guests if other != name))}"
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
