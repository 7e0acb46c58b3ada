"""The commands as a shell's completion needs them, without what they do.

To import all commands takes a second, and a shell asks at each Tab. So the names, options and arguments of all commands
are written down once for each state of the harness's files, in the cache, and commands are made of that which can be
completed and not run.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import shell_complete

from harness.cli import complete

#: The variable by which a shell asks (click's manual, Shell Completion).
VARIABLE = "_HARNESS_COMPLETE"


def main() -> None:
    """Answer a shell, and say nothing if that cannot be done."""
    logging.disable(logging.CRITICAL)
    try:
        root = rebuild(complete.remembered(["commands", *_state()], "the commands, for shells", _describe_all))
        status = shell_complete(root, {}, "harness", VARIABLE, os.environ[VARIABLE])
    except Exception:
        status = 0
    sys.exit(status)


def _state() -> list[object]:
    """What the commands depend on: the harness's own files."""
    package = Path(__file__).parents[1]
    states = ((str(path.relative_to(package)), path.stat()) for path in sorted(package.rglob("*.py")))
    return [str(package), *([name, state.st_mtime_ns, state.st_size] for name, state in states)]


def _describe_all() -> dict[str, Any]:
    from harness.cli import app

    return describe(app.main)


def describe(command: click.Command) -> dict[str, Any]:
    """A command, and those below it, as a JSON object that `rebuild` takes."""
    described: dict[str, Any] = {
        "name": command.name,
        "help": command.get_short_help_str(limit=80),
        "hidden": command.hidden,
        "params": [_describe_parameter(parameter) for parameter in command.params],
    }
    if isinstance(command, click.Group):
        described["commands"] = [describe(each) for each in command.commands.values()]
    return described


def _describe_parameter(parameter: click.Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "nargs": parameter.nargs,
        "complete": _name_of(parameter),
        "choices": list(map(str, parameter.type.choices)) if isinstance(parameter.type, click.Choice) else None,
        "path": isinstance(parameter.type, click.Path),
    }
    if isinstance(parameter, click.Option):
        optional = not parameter.is_flag and parameter._flag_needs_value
        described["option"] = {
            "words": [*parameter.opts, *parameter.secondary_opts],
            "help": parameter.help,
            "hidden": parameter.hidden,
            "is_flag": parameter.is_flag,
            "multiple": parameter.multiple,
            "count": parameter.count,
            "value_is_optional": optional,
        }
    return described


def _name_of(parameter: click.Parameter) -> str | None:
    """The name in `complete` of what completes a parameter."""
    completer = parameter._custom_shell_complete
    return next((name for name, value in vars(complete).items() if completer is not None and value is completer), None)


def rebuild(described: dict[str, Any]) -> click.Command:
    """Commands that can be completed, of what `describe` gave."""
    params = [_rebuild_parameter(each) for each in described["params"]]
    settings = {"help_option_names": ["-h", "--help"]}
    common: dict[str, Any] = {"params": params, "short_help": described["help"], "hidden": described["hidden"]}
    if "commands" in described:
        commands = [rebuild(each) for each in described["commands"]]
        return click.Group(described["name"], commands, context_settings=settings, **common)
    return click.Command(described["name"], **common)


def _rebuild_parameter(described: dict[str, Any]) -> click.Parameter:
    kind: click.ParamType[Any] = click.Path() if described["path"] else click.STRING
    if described["choices"] is not None:
        kind = click.Choice(described["choices"])
    completer = getattr(complete, described["complete"]) if described["complete"] else None
    common: dict[str, Any] = {"nargs": described["nargs"], "shell_complete": completer}
    option = described.get("option")
    if option is None:
        return click.Argument([described["name"]], type=kind, required=False, **common)
    more: dict[str, Any] = {key: option[key] for key in ("help", "hidden", "multiple")}
    words = [described["name"], *option["words"]]
    if option["count"]:
        return click.Option(words, count=True, help=option["help"], hidden=option["hidden"])
    if option["is_flag"]:
        return click.Option(words, is_flag=True, **more)
    if option["value_is_optional"]:
        more |= {"is_flag": False, "flag_value": ""}
    return click.Option(words, type=kind, **common, **more)
