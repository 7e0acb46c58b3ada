"""A request resolved into objects: guests, toolchains, variants with their patches as read, and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from harness import conf
from harness.build.variants import check_variants, gcc_source, load_configuration
from harness.cache import digest
from harness.conf.load import TRACED
from harness.errors import ConfigError, ProgramError
from harness.programs import gcc_suites
from harness.programs.model import Program, TrialSpec
from harness.programs.select import Listing, fitting_programs, select_programs, trial_specs
from harness.results.store import Store
from harness.run import shards
from harness.run.request import Request, request_of_run
from harness.run.shards import Shard


@dataclass(frozen=True)
class ResolvedRequest:
    """A request, read and found to be right. `triples` are the target triples of the guests.

    Attributes:
        traced: the programs of which threads are counted as well.
        part: what the job makes, if it is one of several.
        whole: what is told of all the jobs, for those who put them together.
    """

    request: Request
    configuration: conf.Configuration
    guests: dict[str, conf.Guest]
    triples: dict[str, str]
    programs: list[Program]
    traced: tuple[Program, ...] = ()
    part: Shard | None = None
    whole: dict[str, Any] | None = None

    @property
    def variants(self) -> list[str]:
        """The libgos that are needed: those of the matrix, then those that count threads besides."""
        return [*self.request.variants, *(self.traced_variants if self.traced else [])]

    @property
    def traced_variants(self) -> list[str]:
        """Those of the request with the trace, if they are not in the request themselves."""
        plain = dict.fromkeys(name.removesuffix(TRACED) for name in self.request.variants)
        return [name + TRACED for name in plain if name + TRACED not in self.request.variants]

    def programs_of(self, variant: str) -> Sequence[Program]:
        """The programs that are run with one of `variants`."""
        return self.programs if variant in self.request.variants else self.traced

    def traced_slots(self, name: str) -> Iterator[TrialSpec]:
        """The trials of a guest that count threads, and are in no cell of the matrix: one of each program."""
        traced_variants = self.traced_variants if self.traced else []  # a prebuilt one has none
        variants = {variant: self.configuration.variant(variant) for variant in traced_variants}
        return trial_specs({name: self.guests[name]}, self.triples, variants, self.traced, 1)

    def all_slots(self, name: str) -> Iterator[TrialSpec]:
        """All trials of a guest, those that count threads last."""
        return chain(self.slots({name: self.guests[name]}, self.request.trials), self.traced_slots(name))

    def slots(self, guests: Mapping[str, conf.Guest], trials: int) -> Iterator[TrialSpec]:
        """All trials of some of the guests, so many of each cell, in their order."""
        variants = {name: self.configuration.variant(name) for name in self.request.variants}
        found = trial_specs(guests, self.triples, variants, self.programs, trials)
        return found if self.part is None else filter(self.part.has, found)

    def cut(self, jobs: int) -> list[Shard]:
        """The trials cut into so many jobs. Raises ConfigError if they cannot be, ProgramError if there are none."""
        if self.request.until_sure:
            raise ConfigError("a run until it is sure looks at the whole matrix after every round: it cannot be cut")
        self.cell()
        cells = [(one.guest, one.variant, one.program.name) for one in self.slots(self.guests, trials=1)]
        return shards.cut(cells, self.request.trials, self.request.times, jobs)

    def cell(self) -> TrialSpec:
        """The first cell of a request. Raises ProgramError if nothing of it can be run."""
        for slot in self.slots(self.guests, trials=1):
            return slot
        number = len(self.programs)
        what = self.programs[0].name if number == 1 else f"each of the {number} programs"
        raise ProgramError(f"{what} needs what its guest and libgo do not provide")


def resolve(request: Request) -> ResolvedRequest:
    """Read what a request names. Raises HarnessError: bad input."""
    configuration = load_configuration(request.conf_files, request.work)
    request = replace(request, variants=tuple(dict.fromkeys(request.variants or configuration.usual)))
    guests = {name: configuration.guest(name) for name in request.guests}
    triples = {name: configuration.toolchain(guest.toolchain).triple for name, guest in guests.items()}
    check_variants(request.variants, triples.values(), configuration)
    others = gcc_listings(request.guests, configuration)
    chosen = select_programs(request.selection, others)
    variants = [configuration.variant(name) for name in request.variants]
    fitting = fitting_programs(chosen, triples.values(), variants)
    asked = ResolvedRequest(request, configuration, guests, triples, fitting)
    if request.traced:
        asked = replace(asked, traced=_traced_programs(request.traced, fitting, others))
        for name in asked.traced_variants:
            configuration.variant(name)
    return _shard_of(asked, *request.shard) if request.shard else asked


def _traced_programs(
    selection: Sequence[str], programs: Sequence[Program], others: Mapping[str, Listing]
) -> tuple[Program, ...]:
    """The programs of a run of which threads are counted. Raises ConfigError if the run does not have one."""
    names = {program.name for program in programs}
    chosen = select_programs(selection, others)
    for missing in (test.name for test in chosen if test.name not in names):
        raise ConfigError(f"--trace {missing}: is not among the programs of this run")
    return tuple(chosen)


def _shard_of(asked: ResolvedRequest, number: int, jobs: int) -> ResolvedRequest:
    """What one of several jobs makes of a request. Raises ConfigError if that is nothing."""
    if number > jobs:
        raise ConfigError(f"there is no shard {number} of {jobs}")
    cut = asked.cut(jobs)
    part = cut[number - 1]
    if not part.blocks:
        raise ConfigError(f"shard {number}/{jobs} is empty: there are not so many jobs in these trials")
    whole = {
        "numbers": [number],
        "of": jobs,
        "all": [place for place, one in enumerate(cut, start=1) if one.blocks],
        "cut": digest([[[*key, str(numbers)] for key, numbers in one.blocks.items()] for one in cut]),
        "guests": list(asked.guests),
        "programs": [one.name for one in asked.programs],
    }
    of_guests, of_programs = map(set, zip(*part.blocks, strict=True))
    guests = {name: guest for name, guest in asked.guests.items() if name in of_guests}
    programs = [one for one in asked.programs if one.name in of_programs]
    return replace(asked, guests=guests, programs=programs, part=part, whole=whole)


def repeat_request(store: Store, number: int, work: Path, trials: int = 1) -> Request:
    """The request that makes a trial's cell again, as the run was made that the trial is of.

    Raises:
        StoreError: there is no such trial, or its run does not tell how it was made.
        ProgramError: the program is not there any more.
    """
    run_, trial = store.trial(number)
    request = request_of_run(run_, work)
    others = gcc_listings(request.guests, load_configuration(request.conf_files, work))
    found = [one for one in select_programs(request.selection, others) if one.name == trial.program]
    if not found:
        raise ProgramError(f"{trial.program}, which trial {number} ran, is not there any more")
    selection = (found[0].word,)
    request = replace(request, selection=selection, trials=trials, until_sure=False, shard=None, traced=())
    return replace(request, guests=(trial.guest,), variants=(trial.variant,))


def gcc_listings(guests: Sequence[str], configuration: conf.Configuration) -> dict[str, Listing]:
    """The suites that lie in GCC's source: the first guest's toolchain's, so that all guests run the same programs."""
    return gcc_suites.listings(lambda: gcc_source(configuration.guest(guests[0]).toolchain, configuration))
