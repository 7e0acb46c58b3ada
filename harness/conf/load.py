"""The given configuration and the user's own files, put together and checked.

A later file adds to an earlier one, or changes single fields of what is there; lists are replaced as a whole, except
the list of known failures, which grows. A guest `from` another inherits what that one is at the end of the file.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_origin

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict

from harness import paths
from harness.conf import naming
from harness.conf.inherit import FROM, drop_nulls, inherit
from harness.conf.model import Expected, Guest, Toolchain, Variant
from harness.conf.naming import nearest
from harness.conf.read import Location, Mark, Marks, read
from harness.conf.system import SYSTEMS
from harness.errors import ConfigError

T = TypeVar("T")

#: The variant that others are compared with.
BASELINE = "pristine"
#: A variant's name with this at its end is the same with the life-cycle trace.
TRACED = "+trace"


class _Top(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    guests: dict[str, Guest] = {}
    toolchains: dict[str, Toolchain] = {}
    variants: dict[Annotated[str, AfterValidator(naming.name)], Variant] = {}
    signals: dict[str, dict[int, str]] = {}
    usual: list[str] = [BASELINE]
    expected: list[Expected] = []


class Configuration:
    """All guests, toolchains and variants by name.

    Args:
        data: the merged data of all files.
        marks: where each value stands.

    Raises:
        ConfigError: a key or a value is wrong; the text names file, line and key.
    """

    def __init__(self, data: dict[str, Any], marks: Marks) -> None:
        self._marks = marks
        try:
            top = _Top.model_validate(data)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(error, marks)) from error
        self.guests, self.toolchains, self.variants = top.guests, top.toolchains, top.variants
        self._signals = {**{name: system.signals for name, system in SYSTEMS.items()}, **top.signals}
        for place, name in enumerate(top.usual):
            self._check(name, self.variants, "variant", ("usual", place))
        #: The files that the user gave besides those that are always read, for commands that are shown.
        self.given: tuple[Path, ...] = ()
        #: The variants that are run when none is named.
        self.usual = tuple(top.usual)
        #: The known failures, each with the file and line that say so.
        self.expected = [(failure, self._where(("expected", place))) for place, failure in enumerate(top.expected)]
        for place, failure in enumerate(top.expected):
            self._check_pattern(failure.guest, self.guests, "guest", ("expected", place, "guest"))
            self._check_pattern(failure.variant, self.variants, "variant", ("expected", place, "variant"))
        for name, guest in self.guests.items():
            self._check(guest.toolchain, self.toolchains, "toolchain", ("guests", name, "toolchain"))
            if guest.system is not None:
                self._check(guest.system, SYSTEMS, "system", ("guests", name, "system"))
            elif guest.signals is None:
                raise self.error(("guests", name), "has neither system nor signals")
            if isinstance(guest.signals, str):
                self._check(guest.signals, self._signals, "signals", ("guests", name, "signals"))
            if guest.kernel is None and guest.disk is None:
                raise self.error(("guests", name), "has neither kernel nor disk")
            if guest.initrd and guest.modules:
                raise self.error(("guests", name), "has both initrd and modules")

    def guest(self, name: str) -> Guest:
        """A guest by name. Raises ConfigError, with the nearest name, if there is none."""
        return _pick("guest", name, self.guests)

    def variant(self, name: str) -> Variant:
        """A variant by name, or several put together as `A+B`, also with TRACED at the end.

        Raises:
            ConfigError: there is none (the text has the nearest name), they cannot be put together, or it cannot be
                traced.
        """
        plain = name.removesuffix(TRACED)
        parts = self._parts(plain)
        if len(set(parts)) < len(parts):
            raise ConfigError(f"variant {plain}: names a variant twice")
        first, *others = (_pick("variant", part, self.variants) for part in parts)
        variant = first
        for other in others:
            if variant.only and other.only and not set(variant.only) & set(other.only):
                raise ConfigError(f"variant {plain}: these cannot be put together, for they are for different systems")
            if variant.prebuilt and (other.patches or other.tree or other.flags or other.configure):
                raise ConfigError(f"variant {plain}: a prebuilt libgo cannot be changed")
            if other.prebuilt:
                raise ConfigError(f"variant {plain}: name the prebuilt libgo first")
            if variant.tree and other.tree:
                raise ConfigError(f"variant {plain}: these cannot be put together, for each has a work tree")
            variant = _together(variant, other)
        if plain == name:
            return variant
        if variant.prebuilt:
            raise ConfigError(f"variant {plain} is prebuilt and cannot be traced; trace {BASELINE} instead")
        return variant.model_copy(update={"trace": True})

    def _parts(self, name: str) -> list[str]:
        """The variants that a name puts together."""
        return [name] if name in self.variants else name.removesuffix(TRACED).split("+")

    def add(self, name: str, variant: Variant) -> None:
        """Add a variant that stands in no file; the files that it names are absolute."""
        self.variants[name] = variant

    def patches(self, name: str) -> list[Path]:
        """The files of a variant's own patches, in their order. Raises ConfigError if there is no such variant."""
        return self._files(name, "patches")

    def preloads(self, name: str) -> list[Path]:
        """The C files that a variant preloads, in their order. Raises ConfigError if there is no such variant."""
        return self._files(name, "preload")

    def _files(self, name: str, key: str) -> list[Path]:
        return [
            self.beside(file, "variants", part, key, place)
            for part in self._parts(name)
            for place, file in enumerate(getattr(self.variant(part), key))
        ]

    def tree(self, name: str) -> Path | None:
        """A variant's work tree, if it has one. Raises ConfigError if there is no such variant."""
        trees = {part: self.variant(part).tree for part in self._parts(name)}
        return next((self.beside(tree, "variants", part, "tree") for part, tree in trees.items() if tree), None)

    def toolchain(self, name: str) -> Toolchain:
        """A toolchain by name. Raises ConfigError, with the nearest name, if there is none."""
        return _pick("toolchain", name, self.toolchains)

    def signal_names(self, name: str) -> dict[int, str]:
        """The names of a guest's signals by its own numbers, such as {11: "SIGSEGV"}."""
        guest = self.guests[name]
        table = self._signals[guest.signals] if isinstance(guest.signals, str) else guest.signals
        if table is None:
            table = guest.os.signals
        return {number: signal if signal.startswith("SIG") else f"SIG{signal}" for number, signal in table.items()}

    def file(self, value: str, *location: str | int) -> Path | None:
        """The path that a file name means, seen from the YAML file that says it.

        Args:
            value: the name as written.
            location: the way to the value, such as "guests", "linux-i386", "kernel".

        Returns:
            The absolute path, or None for a bare name, which is a file of the image or of conf/.
        """
        path = Path(value).expanduser()
        if path.is_absolute():
            return path
        if value.startswith(("./", "../")):
            return self._mark(location).file.parent.absolute() / path
        return None

    def beside(self, value: str, *location: str | int) -> Path:
        """The path of a file that lies beside the YAML file that names it, whatever way it is written."""
        return self.file(value, *location) or self._mark(location).file.parent.absolute() / value

    def error(self, location: Location, text: str) -> ConfigError:
        """An error about a value.

        Args:
            location: the way to the value, such as ("guests", "linux-i386", "cpu").
            text: what is wrong with it.
        """
        return ConfigError(f"{self._mark(location)}: {_key(location, self._marks)}: {text}")

    def _mark(self, location: Location) -> Mark:
        while location not in self._marks:
            location = location[:-1]
        return self._marks[location]

    def where(self, location: Location) -> str:
        """A value's file and line; a file that came with the harness is named from where it lies there. '' if nobody
        wrote it."""
        return self._where(location) if location in self._marks else ""

    def _where(self, location: Location) -> str:
        """The same of a value, or else of what holds it."""
        mark = self._mark(location)
        if mark.file.is_relative_to(paths.DATA):
            return f"{mark.file.relative_to(paths.DATA)}:{mark.line}"
        return str(mark)

    def _check_pattern(self, pattern: str, known: Mapping[str, object], what: str, location: Location) -> None:
        for part in pattern.removesuffix(TRACED).split("+") if what == "variant" else [pattern]:
            if not any(fnmatch.fnmatchcase(name, part) for name in known):
                self._check(part, known, what, location)

    def _check(self, word: str, known: Mapping[str, object], what: str, location: Location) -> None:
        if word not in known:
            raise self.error(location, f"no {what} named {word}; {nearest(word, known)}")


def _together(first: Variant, second: Variant) -> Variant:
    """A variant that is both: what the second one says of the environment counts."""
    only = [*first.only, *second.only]
    if first.only and second.only:
        only = [triple for triple in first.only if triple in second.only]
    return first.model_copy(
        update={
            "about": "; ".join(filter(None, (first.about, second.about))),
            "patches": [*first.patches, *second.patches],
            "tree": first.tree or second.tree,
            "flags": [*first.flags, *second.flags],
            "configure": [*first.configure, *second.configure],
            "env": {**first.env, **second.env},
            "only": only,
            "lacks": [*first.lacks, *second.lacks],
            "preload": [*first.preload, *second.preload],
            "seeded": first.seeded or second.seeded,
        }
    )


def recorded() -> Path:
    """The file in which `harness toolchain` keeps the toolchains that the user has built or named."""
    return paths.config_dir() / "toolchains.yaml"


def load(extra: Iterable[Path] = ()) -> Configuration:
    """Read conf/*.yaml, the toolchains that are recorded, and then the user's own files, in their order.

    Raises:
        ConfigError: a file cannot be read or says something wrong.
    """
    data: dict[str, Any] = {}
    marks: Marks = {}
    given = [
        paths.DATA / "conf" / name for name in ("guests.yaml", "toolchains.yaml", "variants.yaml", "expected.yaml")
    ]
    if recorded().is_file():
        given.append(recorded())
    extra = tuple(extra)
    for file in [*given, *extra]:
        more, more_marks = read(file)
        if isinstance(data.get("expected"), list) and isinstance(more.get("expected"), list):
            before = len(data["expected"])
            more["expected"] = [*data["expected"], *more["expected"]]
            more_marks = {_moved(location, before): mark for location, mark in more_marks.items()}
        known = _guests(data)
        _merge(data, more)
        marks.update(more_marks)
        inherit(_guests(data), known, marks)
    drop_nulls(_guests(data), marks)
    configuration = Configuration(data, marks)
    configuration.given = tuple(extra)
    return configuration


def _guests(data: Mapping[str, Any]) -> dict[str, Any]:
    """The guests by name; none where that is no mapping, which is told later. Whoever changes one changes the data."""
    guests = data.get("guests")
    return dict(guests) if isinstance(guests, dict) else {}


def _moved(location: Location, places: int) -> Location:
    """Where a value of the list `expected` stands after so many entries of other files."""
    if len(location) > 1 and location[0] == "expected" and isinstance(location[1], int):
        return ("expected", location[1] + places, *location[2:])
    return location


def _merge(base: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _pick(what: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise ConfigError(f"no {what} named {name}; {nearest(name, known)}")
    return known[name]


def explain(error: pydantic.ValidationError, marks: Marks, top: type[BaseModel] = _Top) -> str:
    """The first error of pydantic's in one sentence, with file, line and key; a misspelt key before a missing one."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    location = tuple(first["loc"])
    while location not in marks and location:
        location = location[:-1]
    key = _key(first["loc"], marks)
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            message = f"unknown key; {nearest(str(first['loc'][-1]), _known_keys(first['loc'], top))}"
        case "missing":
            message = "is missing"
        case "model_type" | "dict_type":
            message = "must be a mapping of keys to values"
        case _:
            message = message[0].lower() + message[1:]
    return f"{marks[location]}: {key}: {message}"


def _key(location: Location, marks: Marks) -> str:
    """A location in words, where a known failure's place is that in its own file, not that in all files' list."""
    parts = [part for part in location if part != "[key]"]  # what pydantic adds where a key is wrong, not its value
    match parts:
        case ["expected", int(place), *_]:
            file = marks["expected", place].file
            parts[1] = sum(marks["expected", before].file == file for before in range(place))
    return ".".join(map(str, parts))


def _known_keys(location: tuple[int | str, ...], top: type[BaseModel]) -> list[str]:
    """The keys that a model knows, found by walking from the top to where the unknown key stands."""
    model: Any = top
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        else:  # dict[str, X] and list[X] lead to X, X | None to X
            model = getattr(model, "__args__", (None,))[-1]
        options = [
            option
            for option in getattr(model, "__args__", ())
            if isinstance(option, type) and issubclass(option, BaseModel)
        ]
        if options and get_origin(model) in (Union, UnionType):
            model = options[0]
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [*model.model_fields, *([FROM] if model is Guest else [])]
