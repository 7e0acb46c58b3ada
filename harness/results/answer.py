"""What a run answers: what was taken out of libgo and that it was really out, what came of each program, and what so
many trials could have shown.

Sentences for every report. Pure functions of a matrix and of the life cycles that were counted in its run; what stands
in them may be hostile, and is spelt out by those who show it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.durations import in_words
from harness.invocation import repeated
from harness.programs.model import CellKey
from harness.results.attribution import Effect, Factor
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import OUTCOMES, Cell, Column, Matrix, Overall
from harness.results.sequential import anytime_p
from harness.results.statistics import (
    LEVEL,
    POWER,
    fisher,
    least_trials,
    smallest_difference,
    tests_counted,
    trials_for,
)
from harness.results.systems import GuestDifference, Interaction
from harness.results.text import render_count, render_p
from harness.results.twins import Failing, Pair, find_pairs, negative_controls

#: The counters of a trace that say whether threads were destroyed, and what is said of a thread then.
_DESTROYED = {"threads torn down by Go": "torn down by Go", "threads ended in libpthread": "ended in libpthread"}
#: Differing programs that are named one by one; the matrix shows them all.
_NAMED = 10
#: Differences in a single program that more trials are proposed for, the greatest first.
_PROPOSED = (0.5, 0.25, 0.1, 0.05)


@dataclass(frozen=True)
class Paragraph:
    """A title, sentences, and a command that goes with them, or ''."""

    title: str
    sentences: tuple[str, ...]
    command: str = ""


def answer(matrix: Matrix, cycles: Sequence[LifeCycle] = (), work: Path | None = None) -> list[Paragraph]:
    """The paragraphs, in the order they are read; none where nothing is compared.

    Args:
        cycles: what was counted of threads and goroutines in the same run.
        work: the work directory that shown commands are to use.
    """
    if matrix.experiment.design:
        return [*attribution(matrix), *_of_twins(matrix), *_of_controls(matrix)]
    return [*_of_libgos(matrix, cycles, work), *_of_guests(matrix), *_of_twins(matrix), *_of_controls(matrix)]


def _of_libgos(matrix: Matrix, cycles: Sequence[LifeCycle], work: Path | None) -> list[Paragraph]:
    """What each libgo did against the baseline."""
    if not matrix.comparisons:
        return []
    overall = {(comparison.guest, comparison.variant): comparison for comparison in matrix.overall()}
    paragraphs = [
        Paragraph("What was taken out", tuple(_taken_out(matrix, cycles))),
        Paragraph("What came of it", tuple(_outcomes(matrix, overall))),
    ]
    if not matrix.most:  # a run until it is sure says by itself what it could not decide
        paragraphs.append(_power(matrix, list(overall.values()), work))
    return [paragraph for paragraph in paragraphs if paragraph.sentences]


def _taken_out(matrix: Matrix, cycles: Sequence[LifeCycle]) -> Iterator[str]:
    about = matrix.run.get("about", {})
    for variant in matrix.variants:
        if variant == matrix.baseline:
            continue
        if text := about.get(variant):
            yield f"{variant}: {text}."
        for cycle in cycles:
            before, after = cycle.columns.get(matrix.baseline), cycle.columns.get(variant)
            if before and after and before.traces and after.traces:
                counts = [
                    f"{before.count(event)} {meaning} with {matrix.baseline}, {after.count(event)} with {variant}"
                    for event, meaning in _DESTROYED.items()
                ]
                yield f"Threads of {cycle.program} on {cycle.guest}, counted by the trace: {'; '.join(counts)}."


def _outcomes(matrix: Matrix, overall: Mapping[tuple[str, str], Overall]) -> Iterator[str]:
    """What each libgo did on each guest, program by program, then all programs together."""
    for guest, variant in matrix.columns:
        pairs = list(_pairs(matrix, guest, variant))
        if variant == matrix.baseline or not pairs:
            continue
        alike = Counter(cell.verdict for cell, base in pairs if cell.counts == base.counts)
        differing = [(cell, base) for cell, base in pairs if cell.counts != base.counts]
        verdicts = ", ".join(f"{number} {verdict}" for verdict, number in alike.items())
        yield (
            f"{variant} on {guest}: {alike.total()} of {render_count(len(pairs), 'program')} came out as with"
            f" {matrix.baseline}" + (f" ({verdicts})." if verdicts else ".")
        )
        for cell, base in differing[:_NAMED]:
            yield f"{cell.program}: {_counted(cell)}; with {matrix.baseline} {_counted(base)}."
        if len(differing) > _NAMED:
            yield f"{render_count(len(differing) - _NAMED, 'more program')} came out in another way."
        if together := overall.get((guest, variant)):
            yield (
                f"All programs together: {together.passed} of {render_count(together.trials, 'trial')} passed, with"
                f" {matrix.baseline} {together.baseline_passed} of {together.baseline_trials}; p"
                f" {render_p(together.p)}, corrected {render_p(together.p_corrected)} (exact test, stratified"
                f" by program): {'they differ' if together.claimed else 'no difference can be claimed'}."
            )


def _counted(cell: Cell) -> str:
    return ", ".join(f"{cell.counts[verdict]} {verdict}" for verdict in OUTCOMES if cell.counts.get(verdict))


def _pairs(matrix: Matrix, guest: str, variant: str) -> Iterator[tuple[Cell, Cell]]:
    """The cells of one column that are compared, each with the baseline's of its program."""
    column, base = matrix.columns.index(Column(guest, variant)), matrix.columns.index(Column(guest, matrix.baseline))
    for place in range(len(matrix.programs)):
        row = matrix.row(place)
        if row[column][1].difference:
            yield row[column][1], row[base][1]


def _of_guests(matrix: Matrix) -> list[Paragraph]:
    """A paragraph for each guest that is compared with the control: what fails there and not on the control."""
    paragraphs = []
    for guest in matrix.guests:
        differences = [difference for difference in matrix.guest_differences if difference.guest == guest]
        if differences:
            interactions = [interaction for interaction in matrix.interactions if interaction.guest == guest]
            sentences = (*_guest_sentences(matrix, differences), *_interaction_sentences(matrix, interactions))
            paragraphs.append(Paragraph(f"On {guest} and not on {matrix.control}", sentences))
    return paragraphs


def _guest_sentences(matrix: Matrix, differences: Sequence[GuestDifference]) -> Iterator[str]:
    control, guest = matrix.control, differences[0].guest
    cells = matrix.by_key
    pairs = []
    for difference in differences:
        here, there = (cells[CellKey(name, difference.variant, difference.program)] for name in (guest, control))
        pairs.append((difference, here, there))
    alike = sum(here.counts == there.counts for _, here, there in pairs)
    yield f"{alike} of {render_count(len(pairs), 'cell')} came out as on {control}."
    claimed = [difference for difference in differences if difference.claimed]
    claimed.sort(key=lambda difference: difference.p_corrected)
    for difference in claimed:
        yield (
            f"{_where(difference, control)}: {difference.program} with {difference.variant}; {difference.passed} of"
            f" {difference.trials} passed against {difference.control_passed} of {difference.control_trials};"
            f" {_p_values(difference)}."
        )
    others = [pair for pair in pairs if not pair[0].claimed and pair[1].counts != pair[2].counts]
    for difference, here, there in others[:_NAMED]:
        yield (
            f"Not claimed: {difference.program} with {difference.variant}; {_counted(here)}, on {control}"
            f" {_counted(there)}; {_p_values(difference)}."
        )
    if len(others) > _NAMED:
        yield f"{render_count(len(others) - _NAMED, 'more cell')} came out in another way; that is not claimed either."
    if not claimed and not matrix.most:
        yield _guest_power(matrix, differences)


def _where(difference: GuestDifference, control: str) -> str:
    """On which of the two guests a program fails, or fails more often."""
    worse, better = (difference.guest, control) if difference.worse else (control, difference.guest)
    always = (difference.passed, difference.trials), (difference.control_passed, difference.control_trials)
    if any(passed == trials for passed, trials in always):
        return f"Fails on {worse} and not on {better}"
    return f"Fails more often on {worse} than on {better}"


def _p_values(test: GuestDifference | Interaction) -> str:
    return f"p {render_p(test.p)}, corrected {render_p(test.p_corrected)}"


def _guest_power(matrix: Matrix, differences: Sequence[GuestDifference]) -> str:
    """What so many trials could have shown of one cell."""
    trials = min(min(difference.trials, difference.control_trials) for difference in differences)
    decidable = sum(difference.decidable for difference in matrix.guest_differences)
    tests = tests_counted(len(matrix.guest_differences), decidable)
    smallest = smallest_difference(1, trials, tests)
    if smallest is None:
        return (
            f"{render_count(trials, 'trial')} of each cell can show no difference, not even of a program that always"
            f" fails on one of them: that takes {least_trials(tests)}."
        )
    return (
        f"No difference can be claimed. A program that fails in {smallest:.0%} of its trials and never on"
        f" {matrix.control} would have been found with a probability of {POWER:.0%}."
    )


def _interaction_sentences(matrix: Matrix, interactions: Sequence[Interaction]) -> Iterator[str]:
    claimed = [interaction for interaction in interactions if interaction.claimed]
    for effect in claimed:
        yield (
            f"{effect.variant} makes another difference to {effect.program} on {effect.guest} than on {matrix.control}:"
            f" {effect.passed} of {effect.trials} passed against {effect.baseline_passed} of {effect.baseline_trials}"
            f" with {matrix.baseline}; on {matrix.control} {effect.control_passed} of {effect.control_trials} against"
            f" {effect.control_baseline_passed} of {effect.control_baseline_trials}; {_p_values(effect)}."
        )
    if interactions and not claimed:
        yield f"That a libgo makes another difference here than on {matrix.control} cannot be claimed of any program."


def attribution(matrix: Matrix) -> list[Paragraph]:
    """What the failures of an experiment of all combinations follow, and what they do not."""
    levels: dict[tuple[Factor, str], list[Effect]] = {}
    for effect in matrix.effects:
        levels.setdefault((effect.factor, effect.level), []).append(effect)
    follows, unsure, other = [], [], []
    for (factor, level), effects in levels.items():
        name, base = f"The {factor} {level}", describe_base(effects[0])
        for sign in (1, -1):
            claimed = [effect for effect in effects if effect.claimed and effect.direction == sign]
            if claimed:
                follows.append(f"{name}: {_claimed_sentence(matrix, claimed, base, worse=sign > 0)}")
        if mixed := [effect.program for effect in effects if effect.claimed and not effect.direction]:
            follows.append(f"{name} makes a difference whose direction depends on the others: {_list(mixed)}.")
        doubtful = [effect for effect in effects if effect.seen and not effect.claimed]
        for effect in doubtful[:_NAMED]:
            unsure.append(
                f"{name}: {effect.program} {_rates(effect, base)}; p corrected {render_p(effect.p_corrected)}."
            )
        if alike := [effect for effect in effects if not effect.seen]:
            other.append(f"{name}: {_alike_sentence(matrix, alike, base)}")
    failing = {cell.program for cell in matrix.cells if cell.passed < cell.trials}
    passing = [program for program in matrix.programs if program not in failing]
    if passing:
        other.append(f"{_named_kinds(matrix, passing)} passed every trial, whatever they ran with: {_list(passing)}.")
    paragraphs = [
        Paragraph("What the failures follow", tuple(follows or ["Nothing that can be claimed."])),
        Paragraph("What may be chance (more --trials would show)", tuple(unsure)),
        Paragraph("What they do not follow", tuple(other)),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.sentences]


def describe_base(effect: Effect) -> str:
    """What a level is compared with, in words."""
    return "the guest's own" if effect.factor is Factor.LIBPTHREAD else effect.base


def _claimed_sentence(matrix: Matrix, effects: Sequence[Effect], base: str, worse: bool) -> str:
    """That programs fail more often, or less often, with a level of a factor than with its base."""
    base_failed = sum(effect.base_failed for effect in effects)
    kinds = _named_kinds(matrix, [effect.program for effect in effects])
    if not worse:
        relation = f"{kinds} fail less often with it than with {base}"
    elif base_failed:
        relation = f"{kinds} fail more often with it than with {base}"
    elif (others := _varied(matrix, effects[0].factor)) and all(effect.everywhere for effect in effects):
        relation = f"{kinds} fail with it, whatever the {' and '.join(others)}, and not with {base}"
    else:
        relation = f"{kinds} fail with it and not with {base}"
    p = render_p(max(effect.p_corrected for effect in effects))
    programs = _list(effect.program for effect in effects)
    return f"{relation} ({_evidence(effects, base)}; p corrected at most {p}): {programs}."


def _varied(matrix: Matrix, factor: Factor) -> list[str]:
    """The other factors that have several levels."""
    design = matrix.experiment.design
    assert design is not None
    levels = {
        Factor.LIBGO: len(design.libgos),
        Factor.LIBPTHREAD: 1 + len(design.libpthreads),
        Factor.GUEST: len(matrix.guests),
    }
    return [str(other) for other, number in levels.items() if number > 1 and other is not factor]


def _alike_sentence(matrix: Matrix, effects: Sequence[Effect], base: str) -> str:
    """That programs came out the same with a level of a factor as with its base, and how sure that is."""
    kinds = _named_kinds(matrix, [effect.program for effect in effects])
    most = max(effect.high for effect in effects)
    return (
        f"{kinds} came out the same with it as with {base} ({_evidence(effects, base)}). A single program may still"
        f" fail in up to {most:.0%} more of its trials (95 % interval)."
    )


def _evidence(effects: Sequence[Effect], base: str) -> str:
    """How many trials of some programs failed with a level of a factor, and with its base."""
    failed, trials = sum(effect.failed for effect in effects), sum(effect.trials for effect in effects)
    base_failed = sum(effect.base_failed for effect in effects)
    base_trials = sum(effect.base_trials for effect in effects)
    return f"{failed} of {render_count(trials, 'trial')} failed with it, {base_failed} of {base_trials} with {base}"


def _rates(effect: Effect, base: str) -> str:
    return (
        f"fails in {effect.failed} of {render_count(effect.trials, 'trial')} with it,"
        f" in {effect.base_failed} of {effect.base_trials} with {base}"
    )


def _named_kinds(matrix: Matrix, programs: Sequence[str]) -> str:
    """How many Go programs and C programs there are of some."""
    of_c = sum(program in matrix.experiment.c_programs for program in programs)
    counts = ((len(programs) - of_c, "Go program"), (of_c, "C program"))
    return " and ".join(render_count(number, noun) for number, noun in counts if number)


def _list(programs: Iterable[str]) -> str:
    return ", ".join(programs)


def _of_twins(matrix: Matrix) -> list[Paragraph]:
    """Which failures lie below Go, by the C programs that make the same calls."""
    pairs = find_pairs(matrix.by_key, matrix.experiment.twins, anytime_p if matrix.most else fisher)
    if not pairs:
        return []
    failing = {(pair.guest, pair.program) for pair in pairs if pair.failing is not Failing.NEITHER}
    number = len({(pair.guest, pair.program) for pair in pairs})
    named = f"{render_count(number, 'pair')} of a Go program and its C twin"
    sentences = [f"{named}: {number - len(failing) or 'none'} passed all trials."]
    for kind in (Failing.BOTH, Failing.GO_ALONE, Failing.C_ALONE):
        of_kind = [pair for pair in pairs if pair.failing is kind]
        sentences += map(describe_pair, of_kind[:_NAMED])
        if len(of_kind) > _NAMED:
            more = len(of_kind) - _NAMED
            sentences.append(f"{render_count(more, 'more pair')} {'fails' if more == 1 else 'fail'} {kind}.")
    return [Paragraph("With Go and without", tuple(sentences))]


def describe_pair(pair: Pair) -> str:
    """What a Go program and its twin say of where a failure lies, in a sentence."""
    where = f"{pair.program} ({', '.join(pair.variants)}; {pair.guest})"
    failed, twin_failed = pair.trials - pair.passed, pair.twin_trials - pair.twin_passed
    counts = f"{failed} of {render_count(pair.trials, 'trial')}"
    twin_counts = f"{twin_failed} of {pair.twin_trials}"
    if pair.failing is Failing.BOTH:
        return (
            f"Below Go (libpthread, libc, kernel): {where} fails in {counts}, and {pair.twin}, which makes the same"
            f" calls without Go, in {twin_counts}."
        ) + (f" Go fails more often (p {render_p(pair.p)}): not all of it lies there." if pair.go_fails_more else "")
    doubt = "" if pair.sure else " That may be chance; more trials would show."
    evidence = f"p {render_p(pair.p)}"
    if pair.failing is Failing.GO_ALONE:
        return (
            f"libgo: {where} fails in {counts}, and {pair.twin}, which makes the same calls without Go, in"
            f" {twin_counts} ({evidence}).{doubt}"
        )
    return (
        f"Without Go alone: {pair.twin} fails in {twin_counts}, and {where}, which makes the same calls, in {counts}"
        f" ({evidence}).{doubt}"
    )


def _of_controls(matrix: Matrix) -> list[Paragraph]:
    """What C programs say of noise: they have no libgo."""
    sentences = []
    variants = sorted(matrix.variants, key=lambda variant: variant != matrix.baseline)
    for control in negative_controls(matrix.by_key, matrix.experiment, variants):
        evidence = ""  # where the numbers of trials depend on what came of them, this test does not hold
        if not matrix.most:
            evidence = f", p corrected {render_p(control.p)}"
            evidence += "; noise of that size is in all differences of this run" * (control.p < LEVEL)
        sentences.append(
            f"{control.variant} on {control.guest}: {control.alike} of {render_count(control.programs, 'C program')}"
            f" came out as with {control.base}; all together {control.passed} of"
            f" {render_count(control.trials, 'trial')} passed against {control.base_passed} of"
            f" {control.base_trials}{evidence}."
        )
    if not sentences:
        return []
    head = "C programs have no libgo: a difference between libgos is noise, and is not among the differences."
    return [Paragraph("Negative control", (head, *sentences))]


def _power(matrix: Matrix, overall: Sequence[Overall], work: Path | None) -> Paragraph:
    """The smallest differences that would have been found, and the command that finds smaller ones."""
    trials = min(
        (min(cell.trials, cell.difference.baseline_trials) for cell in matrix.cells if cell.difference), default=0
    )
    sentences = []
    programs = min(comparison.programs for comparison in overall)
    together = smallest_difference(programs, trials, len(overall))
    sentences.append(
        "All programs together: nothing."
        if together is None
        else f"All programs together: a libgo that makes {together:.0%} of the trials fail which pass with"
        f" {matrix.baseline} would have been found with a probability of {POWER:.0%}."
    )
    tests = tests_counted(matrix.comparisons, matrix.contenders)
    single = smallest_difference(1, trials, tests)
    sentences.append(
        f"A single program: nothing, not even one that always fails; that takes"
        f" {render_count(least_trials(tests), 'trial')} of each cell."
        if single is None
        else f"A single program: one that fails in {single:.0%} of its trials and never with {matrix.baseline}, while"
        " the others go on as they did."
    )
    for difference in _PROPOSED:
        more = trials_for(difference, tests)
        if more and more > trials:
            if command := _more_trials(matrix, more, work):
                sentences.append(
                    f"To find a single program that fails in {difference:.0%} of its trials{_duration(matrix, more)}:"
                )
                return Paragraph(_title(trials), tuple(sentences), command)
            break
    return Paragraph(_title(trials), tuple(sentences))


def _title(trials: int) -> str:
    return f"What {render_count(trials, 'trial')} of each cell could have shown (level {LEVEL:.0%})"


def _more_trials(matrix: Matrix, trials: int, work: Path | None) -> str:
    """The run's command with another number of trials; '' if it is no command that takes one."""
    line = shlex.split(str(matrix.run.get("command", "")))
    if line[:2] != ["harness", "run"] or any(word.startswith("--resume") for word in line):
        return ""
    kept: list[str] = []
    rest = iter(line)
    for word in rest:
        if word == "--trials":
            next(rest, None)
        elif not word.startswith("--trials="):
            kept.append(word)
    return repeated(shlex.join([*kept, "--trials", str(trials)]), work)


def _duration(matrix: Matrix, trials: int) -> str:
    """About how long so many trials of each cell take, by those of this run; '' if that is not known."""
    for times in matrix.times:
        if times["what"] == "trials" and times["times"] and times["seconds"]:
            cells = sum(1 for cell in matrix.cells if cell.trials)
            return f" (about {in_words(times['seconds'] / times['times'] * cells * trials)})"
    return ""
