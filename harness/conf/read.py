"""YAML read into plain data, with the file and line of every value kept beside it.

Knows nothing of what the keys mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError

#: The way to a value: keys and list positions from the top.
Location = tuple[str | int, ...]
#: The tag of the key `<<`, which takes over another mapping's keys (https://yaml.org/type/merge.html).
_MERGE = "tag:yaml.org,2002:merge"


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
        ConfigError: the file cannot be read, is not YAML, is no mapping, or gives a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    marks: Marks = {(): Mark(file, 1)}
    if node is None:
        return {}, marks
    data = _construct(node, (), file, marks)
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: must be a mapping of keys such as `guests:` or `variants:`")
    return data, marks


def _construct(node: yaml.Node, location: Location, file: Path, marks: Marks) -> Any:
    if isinstance(node, yaml.MappingNode):
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                if not isinstance(value_node, yaml.MappingNode) or merged:
                    raise ConfigError(f"{file}:{line}: <<: must be one mapping")
                merged = _construct(value_node, location, file, marks)
                continue
            key = yaml.SafeLoader("").construct_object(key_node)
            if not isinstance(key, str | int):
                raise ConfigError(f"{file}:{line}: a key must be a word or a number")
            if key in own:
                raise ConfigError(f"{file}:{line}: {key} is given twice")
            marks[(*location, key)] = Mark(file, line)
            own[key] = _construct(value_node, (*location, key), file, marks)
        return merged | own
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            marks[(*location, index)] = Mark(file, item.start_mark.line + 1)
            items.append(_construct(item, (*location, index), file, marks))
        return items
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file}:{node.start_mark.line + 1}: not a value: {node.value}") from error
