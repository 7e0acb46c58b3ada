"""A request resolved into objects: guests, toolchains, variants with their patches as read, and programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from harness import conf
from harness.build.variants import LibgoVariant, gcc_source, load_configuration, read_variants, variant_configs
from harness.cache import digest
from harness.conf.load import BASELINE, TRACED
from harness.errors import ConfigError, ProgramError
from harness.programs import gcc_suites
from harness.programs.model import Program, TrialSpec
from harness.programs.select import Listing, few, fitting_programs, select_programs, trial_specs
from harness.results.matrix import Column
from harness.results.store import Store
from harness.run import shards
from harness.run.expectations import all_programs, describe_unmatched
from harness.run.request import Request, request_of_run
from harness.run.shards import Shard
from harness.trial.record import Trial


@dataclass(frozen=True)
class ResolvedRequest:
    """A request, resolved into objects and found to be right. What was read here is what is built, stored and shown.

    Attributes:
        guests: by name.
        triples: the target triples of the guests, by their names.
        variants: those of the matrix and then those that only count threads, by name.
        programs: those of the matrix.
        traced: the programs of which threads are counted as well.
        part: what this job runs, if it is one of several.
        whole: what those who merge the jobs must know of all of them.
        unmatched: the known failures that no cell can be about, in words.
        unfitting: the names of selected programs that can be built for no guest with any variant.
    """

    request: Request
    configuration: conf.Configuration
    guests: dict[str, conf.Guest]
    triples: dict[str, str]
    variants: dict[str, LibgoVariant]
    programs: list[Program]
    traced: tuple[Program, ...] = ()
    part: Shard | None = None
    whole: dict[str, Any] | None = None
    unmatched: tuple[str, ...] = ()
    unfitting: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return self.request.baseline.partition("/")[2] or BASELINE

    def is_control(self, spec: TrialSpec) -> bool:
        """Whether a trial's cell is one of the negative control: to its C program the variant is the baseline."""
        base = self.variants.get(self.baseline)
        return bool(base and spec.program.is_c and self.variants[spec.variant].besides_libgo == base.besides_libgo)

    def programs_of(self, variant: str) -> Sequence[Program]:
        """The programs that are run with a variant."""
        return self.programs if variant in self.request.variants else self.traced

    def trials(self, guest: str) -> Iterator[TrialSpec]:
        """All trials of a guest, those that count threads last."""
        return chain(self.matrix_trials([guest], self.request.trials), self.traced_trials(guest))

    def traced_trials(self, guest: str) -> Iterator[TrialSpec]:
        """The trials of a guest that count threads, and are in no cell of the matrix: one of each program."""
        variants = {
            name: variant.config for name, variant in self.variants.items() if name not in self.request.variants
        }
        return trial_specs({guest: self.guests[guest]}, self.triples, variants, self.traced, 1)

    def matrix_trials(self, guests: Iterable[str], trials: int) -> Iterator[TrialSpec]:
        """The trials of the matrix on some of the guests, in their order. `trials` is how many of each cell."""
        configs = {name: self.guests[name] for name in guests}
        variants = {name: self.variants[name].config for name in self.request.variants}
        specs = trial_specs(configs, self.triples, variants, self.programs, trials, self.request.seed)
        return specs if self.part is None else filter(self.part.has, specs)

    def cells(self) -> list[TrialSpec]:
        """The first trial of each cell. Raises ProgramError if there is none."""
        specs = list(self.matrix_trials(self.guests, trials=1))
        if specs:
            return specs
        number = len(self.programs)
        subject = self.programs[0].name if number == 1 else f"each of the {number} programs"
        raise ProgramError(f"{subject} needs what its guest and libgo do not provide")

    def describe_left_out(self, cells: Sequence[TrialSpec]) -> str:
        """Which selected programs are in no cell, and why; '' if all are in one. `cells` are those of `cells`."""
        run = {spec.program.name for spec in cells}
        needing = [] if self.part else [program.name for program in self.programs if program.name not in run]
        reasons = {
            "for another system or compiler, by the header": self.unfitting,
            "for want of what they need of guest and libgo": needing,
        }
        return "; ".join(f"{why}: {few(names)}" for why, names in reasons.items() if names)

    def planned(self, cells: Sequence[TrialSpec]) -> int:
        """How many trials will be made, at most if the run goes on until it is sure. `cells` are those of `cells`."""
        if self.request.until_sure:
            counting = sum(1 for name in self.guests for _ in self.traced_trials(name))
            return len(cells) * self.request.trials + counting
        return sum(1 for name in self.guests for _ in self.trials(name))

    def cut(self, jobs: int) -> list[Shard]:
        """The trials cut into so many jobs. Raises ConfigError if they cannot be, ProgramError if there are none."""
        if self.request.until_sure:
            raise ConfigError("a run until it is sure looks at the whole matrix after every round: it cannot be cut")
        cells = [spec.cell for spec in self.cells()]
        return shards.cut(cells, self.request.trials, self.request.times, jobs)


def resolve(request: Request) -> ResolvedRequest:
    """Read all that a request names, once. Nothing after it looks a guest, a variant or a program up by its name.

    Raises:
        ConfigError, ProgramError, PatchError: bad input.
        BuildError, ToolMissing: a work tree, or GCC's own programs, cannot be read.
    """
    configuration = load_configuration(request.conf_files, request.work)
    listings = gcc_listings(request.guests, configuration)
    chosen = select_programs(request.selection, listings)
    chosen = [program for program in chosen if request.only in ("", program.name)]
    usual = configuration.usual
    if all(program.is_c for program in chosen):  # a libgo makes no difference to them
        usual = usual[:1]
    names = tuple(dict.fromkeys(request.variants or usual))
    request = replace(request, variants=names)
    guests = {name: configuration.guest(name) for name in request.guests}
    if request.baseline:
        Column.parse(request.baseline, request.guests, names)
    triples = {name: configuration.toolchain(guest.toolchain).triple for name, guest in guests.items()}
    configs = variant_configs(names, triples.values(), configuration)
    programs = fitting_programs(chosen, triples.values(), configs.values())
    if all(program.is_c for program in programs) and any(config.trace for config in configs.values()):
        raise ConfigError(f"{programs[0].name} is a C program, and has no libgo whose threads are counted")
    traced = _traced_programs(request.traced, programs, listings) if request.traced else ()
    plain = dict.fromkeys(name.removesuffix(TRACED) for name in names)
    counting = [name + TRACED for name in plain if name + TRACED not in names] if traced else []
    variants = read_variants([*names, *counting], triples.values(), configuration)
    unmatched = describe_unmatched(configuration, all_programs(chosen, listings))
    resolved = ResolvedRequest(
        request,
        configuration,
        guests,
        triples,
        variants,
        programs,
        traced,
        unmatched=tuple(unmatched),
        unfitting=tuple(program.name for program in chosen if program not in programs),
    )
    return _shard_of(resolved, *request.shard) if request.shard else resolved


def _traced_programs(
    selection: Sequence[str], programs: Sequence[Program], listings: Mapping[str, Listing]
) -> tuple[Program, ...]:
    """The programs of a run of which threads are counted. Raises ConfigError if the run does not have one."""
    in_run = {(program.from_gcc and program.name, program.source): program for program in programs}
    traced = []
    for chosen in select_programs(selection, listings):
        program = in_run.get((chosen.from_gcc and chosen.name, chosen.source))
        if program is None:
            raise ConfigError(f"--trace {chosen.name}: is not among the programs of this run")
        if program.is_c:
            raise ConfigError(f"--trace {program.name}: is a C program, and has no libgo whose threads are counted")
        traced.append(program)
    return tuple(traced)


def _shard_of(resolved: ResolvedRequest, number: int, jobs: int) -> ResolvedRequest:
    """What one of several jobs runs of a request. Raises ConfigError if that is nothing."""
    if number > jobs:
        raise ConfigError(f"there is no shard {number} of {jobs}")
    cut = resolved.cut(jobs)
    part = cut[number - 1]
    if not part.blocks:
        raise ConfigError(f"shard {number}/{jobs} is empty: these trials do not fill so many jobs")
    whole = {
        "numbers": [number],
        "of": jobs,
        "all": [place for place, shard in enumerate(cut, start=1) if shard.blocks],
        "cut": digest([[[*key, str(numbers)] for key, numbers in shard.blocks.items()] for shard in cut]),
        "guests": list(resolved.guests),
        "programs": [program.name for program in resolved.programs],
    }
    of_guests, of_programs = map(set, zip(*part.blocks, strict=True))
    guests = {name: guest for name, guest in resolved.guests.items() if name in of_guests}
    programs = [program for program in resolved.programs if program.name in of_programs]
    return replace(resolved, guests=guests, programs=programs, part=part, whole=whole)


def repeat_request(store: Store, number: int, work: Path, trials: int = 1, until: str = "") -> Request:
    """The request that makes a trial's cell again, as the run was made that the trial is of.

    Args:
        trials, until: as of Request.

    Raises:
        StoreError: there is no such trial, or its run does not tell how it was made.
        ProgramError: the program is not there any more.
    """
    run, trial = store.trial(number)
    request = request_of_run(run, work)
    listings = gcc_listings(request.guests, load_configuration(request.conf_files, work))
    chosen = [each for each in select_programs(request.selection, listings) if each.name == trial.program]
    if not chosen:
        raise ProgramError(f"{trial.program}, which trial {number} ran, is not there any more")
    request = replace(
        request,
        selection=(trial.program,) if chosen[0].from_gcc else request.selection,
        only=trial.program,
        trials=trials,
        until=until,
        until_sure=False,
        shard=None,
        traced=(),
        repeats=number,
        design=None,
        kind="rerun",
    )
    request = replace(request, seed=_seed_of(trial))
    return replace(request, guests=(trial.guest,), variants=(trial.variant,))


def _seed_of(trial: Trial) -> int:
    """The seed of a trial, which is in the command that makes it again; without one it had none, and any will do."""
    words = shlex.split(trial.command)
    return int(words[words.index("--seed") + 1]) if "--seed" in words else trial.number


def gcc_listings(guests: Sequence[str], configuration: conf.Configuration) -> dict[str, Listing]:
    """The suites that lie in GCC's source: the first guest's toolchain's, so that all guests run the same programs."""
    return gcc_suites.listings(lambda: gcc_source(configuration.guest(guests[0]).toolchain, configuration))
