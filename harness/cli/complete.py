"""What a shell may complete: the names of guests, libgos, programs and the like, as the configuration has them.

A completion never fails: where a configuration cannot be read, nothing is offered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from harness import conf, paths
from harness.build.variants import load_configuration
from harness.conf.load import TRACED
from harness.errors import HarnessError
from harness.images import image
from harness.log import ignored
from harness.programs import gcc_suites
from harness.programs.select import own_suites, select_programs

_log = logging.getLogger(__name__)

#: What click calls: gives what an unfinished word may become.
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _of(names: Callable[[conf.Configuration], Iterable[str]]) -> Complete:
    """What completes names that the configuration of a command line has."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        with ignored(_log, "completing a name", HarnessError):  # a shell that completes shows no errors
            given = context.params
            configuration = load_configuration(given.get("conf_files") or (), paths.work_dir(given.get("work")))
            return [CompletionItem(name) for name in names(configuration) if name.startswith(begun)]
        return []

    return complete


guests = _of(lambda configuration: configuration.guests)
toolchains = _of(lambda configuration: configuration.toolchains)
variants = _of(lambda configuration: [each for name in configuration.variants for each in (name, name + TRACED)])
columns = _of(
    lambda configuration: [f"{guest}/{variant}" for guest in configuration.guests for variant in configuration.variants]
)
images = _of(lambda configuration: image.recipes())
suites = _of(lambda configuration: [*own_suites(), *gcc_suites.suites()])


def selection(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Suites and, once a suite is named, its programs; the shell completes folders and files."""
    suite, slash, _ = begun.partition("/")
    with ignored(_log, "completing a program", HarnessError):
        if slash and suite in own_suites():
            names = [program.name for program in select_programs([suite])]
            return [CompletionItem(name) for name in names if name.startswith(begun)]
    completions = suites(context, parameter, begun)
    return completions or [CompletionItem(begun, type="file")]


def suites_and_folders(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Suites; where none begins so, the shell completes folders."""
    return suites(context, parameter, begun) or [CompletionItem(begun, type="dir")]
