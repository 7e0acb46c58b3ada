"""YAML read into plain data, with the file and line of every value kept beside it.

Knows nothing of what the keys mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness import paths
from harness.errors import ConfigError

#: The way to a value: keys and list positions from the top.
Location = tuple[str | int, ...]
#: The tag of the key `<<`, which takes over another mapping's keys (https://yaml.org/type/merge.html).
_MERGE = "tag:yaml.org,2002:merge"
#: Values that a file may have, an alias's counted as often as it is named: some lines can name billions of them.
_MOST = 100_000


@dataclass(frozen=True)
class Mark:
    """Where a value stands."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


Marks = dict[Location, Mark]


def read(file: Path) -> tuple[dict[str, Any], Marks]:
    """Parse one YAML file that holds a mapping.

    Returns:
        The data, and the mark of every value in it (of a mapping's value: the line of its key).

    Raises:
        ConfigError: the file cannot be read, is not YAML, is no mapping, gives a key twice, or has too many values.
    """
    try:
        text = paths.content(file).decode()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from error
    marks: Marks = {(): Mark(file, 1)}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = {} if node is None else _Constructor(file, marks).value(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: is nested too deeply") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: must be a mapping of keys such as `guests:` or `variants:`")
    return data, marks


class _Constructor:
    """Makes plain data of one file's nodes, and marks each value. An alias's node is made as often as it is named."""

    def __init__(self, file: Path, marks: Marks) -> None:
        self._file, self._marks = file, marks
        self._made = 0
        #: The collections that are being made, the outermost first.
        self._open: list[yaml.Node] = []

    def value(self, node: yaml.Node, location: Location = ()) -> Any:
        """A node's value. Raises ConfigError."""
        self._made += 1
        if self._made > _MOST:
            raise ConfigError(f"{self._file}: has more than {_MOST} values, each counted as often as an alias names it")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node in self._open:
            raise self._error(node, "holds itself by an alias")
        self._open.append(node)
        value_ = self._mapping(node, location) if isinstance(node, yaml.MappingNode) else self._list(node, location)
        self._open.pop()
        return value_

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
            if key_node.tag == _MERGE:
                if not isinstance(value_node, yaml.MappingNode) or merged:
                    raise self._error(key_node, "<<: must be one mapping")
                merged = self.value(value_node, location)
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str | int):
                raise self._error(key_node, "a key must be a word or a number")
            if key in own:
                raise self._error(key_node, f"{key} is given twice")
            self._marks[(*location, key)] = Mark(self._file, _line(key_node))
            own[key] = self.value(value_node, (*location, key))
        return merged | own

    def _list(self, node: yaml.Node, location: Location) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self._marks[(*location, index)] = Mark(self._file, _line(item))
            items.append(self.value(item, (*location, index)))
        return items

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return yaml.SafeLoader("").construct_object(node)
        # the last two come of a wrong value with a tag of its own, such as `!!int ""`
        except (yaml.YAMLError, ValueError, AttributeError, LookupError) as error:
            raise self._error(node, f"not a value: {node.value}") from error

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{self._file}:{_line(node)}: {message}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
