"""The command attribute: what a failure follows."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click
import yaml

from harness import paths
from harness.build.variants import load_configuration
from harness.cache import digest
from harness.cli import complete
from harness.cli.options import CONF, COUNT, FULL_TIMEOUT, GUESTS, SELECTION, WORK, WORKERS, progress_options
from harness.cli.output import show_attribution
from harness.cli.run import make_run
from harness.conf import naming
from harness.errors import ConfigError, StoreError
from harness.files import written_whole
from harness.programs.model import Program
from harness.programs.select import select_programs
from harness.results.attribution import FEWEST, Design
from harness.run.request import Request
from harness.run.resolve import gcc_listings


@click.command("attribute")
@SELECTION
@GUESTS
@click.option(
    "--libgo",
    "libgos",
    multiple=True,
    metavar="VARIANT",
    shell_complete=complete.plain_variants,
    help="A libgo; repeatable. [default: the usual ones]",
)
@click.option(
    "--libpthread",
    "libpthreads",
    multiple=True,
    metavar="VARIANT|FILE.c",
    shell_complete=complete.libpthreads_and_files,
    help="A variant that preloads something, or a C file to be preloaded; repeatable. The guest's own is always there.",
)
@click.option("--trials", type=COUNT, default=20, show_default=True, help="Trials of each combination at most.")
@WORKERS
@FULL_TIMEOUT
@progress_options
@CONF
@WORK
def attribute(
    selection: tuple[str, ...],
    guests: tuple[str, ...],
    libgos: tuple[str, ...],
    libpthreads: tuple[str, ...],
    trials: int,
    jobs: int | None,
    full_timeout: bool,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Find out what a failure follows: the guest, libgo or libpthread.

    Runs the programs, and the C twins that make the same calls without Go, in all combinations of guests, libgos and
    libpthreads, one trial of each in a round, until each effect is certain or not visible at all. Says what the
    failures follow, what they do not, and how sure that is.

    \b
    harness attribute seed-2013 --libpthread threadvars-2013
    harness attribute my.go --guest linux-i386 --guest hurd-i386 --libpthread my-pthread.c

    Exit status: 0 all passed, or each failure follows something; 1 a failure follows nothing that can be claimed; 2 bad
    input, 3 trouble with a guest, 130 interrupted.
    """
    folder = paths.work_dir(work)
    if not selection:
        raise click.UsageError("name the programs, or suites of them")
    files = [Path(word) for word in dict.fromkeys(libpthreads) if word.endswith(".c")]
    if files:
        known = load_configuration(conf_files, folder).variants
        conf_files = (*conf_files, _described(files, known, folder))
    configuration = load_configuration(conf_files, folder)
    names = list(dict.fromkeys(Path(word).stem if word.endswith(".c") else word for word in libpthreads))
    design = Design(list(dict.fromkeys(libgos)) or list(configuration.usual), names)
    if trials < FEWEST:
        raise ConfigError(f"--trials {trials}: an experiment has {FEWEST} rounds at least")
    if len(design.variants()) * len(set(guests)) < 2:
        raise ConfigError("nothing to compare: name another --guest, --libgo or --libpthread")
    for name in names:
        if not (configuration.variant(name).preload or configuration.variant(name).env):
            raise ConfigError(f"--libpthread {name}: this variant preloads nothing")
    chosen = select_programs(selection, gcc_listings(guests, configuration))
    selected = {program.name for program in chosen}
    twins = [_word_of_twin(program) for program in chosen if program.twin and program.twin not in selected]
    words = tuple(dict.fromkeys([*selection, *twins]))
    request = Request(
        words,
        guests,
        tuple(design.variants()),
        trials,
        jobs,
        conf_files,
        folder,
        until_sure=True,
        design=design,
        kind="attribute",
        full_timeout=full_timeout,
    )
    show_attribution(*make_run(request), folder)


def _word_of_twin(program: Program) -> str:
    """The term that selects a program's twin, which may lie beside it. Raises ConfigError if it is no C program."""
    suite, _, name = program.twin.partition("/")
    beside = program.source.with_name(f"{name}.c")
    word = str(beside) if suite == program.source.parent.name and beside.is_file() else program.twin
    if not all(twin.is_c for twin in select_programs([word])):
        raise ConfigError(f"{program.source}: its twin {program.twin} is no C program")
    return word


def _described(files: list[Path], known: Collection[str], work: Path) -> Path:
    """A YAML file in the work directory that has a variant for each C file. Raises ConfigError, StoreError.

    Args:
        known: the names that other variants have.
    """
    variants: dict[str, dict[str, str]] = {}
    for file in files:
        if not file.is_file():
            raise ConfigError(f"--libpthread {file}: there is no such file")
        if file.stem in known or file.stem in variants:
            raise ConfigError(f"--libpthread {file}: there is a variant {file.stem} already; rename the file")
        try:
            naming.name(file.stem)
        except ValueError as error:
            raise ConfigError(f"--libpthread {file}: {error}") from error
        variants[file.stem] = {"about": f"{file.name} is preloaded", "preload": str(file.absolute())}
    path = work / "attribute" / f"{digest(variants)}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text("# Made by `harness attribute`.\n" + yaml.safe_dump({"variants": variants}))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    return path
