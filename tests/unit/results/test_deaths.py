"""Guests that die: which of their deaths are an outcome of a cell, by counts, in matrices, and in what is shown."""

import dataclasses
import io
import json
import random

import pytest
from rich.console import Console

from harness.programs.model import CellKey
from harness.results import formats, terminal
from harness.results.build_matrix import build_matrix
from harness.results.deaths import Attempts, death_title, killers
from harness.results.matrix import CellVerdict, Matrix
from harness.trial.record import Trial, Verdict

PANIC = "panic in thread_terminate (../kern/thread.c:614): thread 0xc1234567 has no stack"
TITLE = "panic in thread_terminate (thread.c:N): thread ADDR has no stack"
VARIANTS, PROGRAMS = ["pristine", "other"], [f"s/p{n}" for n in range(12)]
TRIAL = Trial(1, "g", "pristine", "s/p0", 1, 1, Verdict.PASS, "", "", 0, "", 1.0, b"", b"", 0, 0, "", "again")


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        (PANIC, TITLE),
        ("oops: kernel: Page fault trap (14), code=0", "oops: kernel: Page fault trap (N), code=N"),
        ("kernel debugger: db>", "kernel debugger: db>"),
        ("QEMU ended", "QEMU ended"),
        ("QEMU stopped it: its kernel panicked", "QEMU stopped it: its kernel panicked"),
        ("the guest itself hangs: no answer within 20 s", "the guest itself hangs"),
        ("QEMU stopped it: its disk's overlay cannot be written, so this machine's disk is full", ""),
        ("the guest is not as it was: lib is gone", ""),
        ("upload of /tmp/x: no progress for 60 s", ""),
        ("each worker that made it died, several times", ""),
    ],
)
def test_what_an_error_says_of_a_death(reason, title):
    assert death_title(reason) == title


def cells_of(dying, attempts=5, deaths=3):
    """A matrix in which cells that a function names have deaths."""
    return {
        CellKey("g", variant, program): Attempts(attempts, deaths if dying(variant, program) else 0)
        for variant in VARIANTS
        for program in PROGRAMS
    }


@pytest.mark.parametrize(
    ("dying", "kills"),
    [
        (lambda variant, program: (variant, program) == ("other", "s/p0"), 1),
        (lambda variant, program: variant == "other", 12),  # a libgo, whatever it runs
        (lambda variant, program: program == "s/p0", 2),  # a program, whatever it is run with
        (lambda variant, program: True, 0),  # guests that die whatever they run
    ],
)
def test_who_kills_guests(dying, kills):
    cells = cells_of(dying)
    assert len(killers(cells)) == kills and all(cells[key].deaths for key in killers(cells))


def test_one_death_is_an_accident_and_two_of_two_of_a_single_cell_are_not():
    key = CellKey("g", "v", "s/p")
    assert not killers({key: Attempts(1, 1)}) and killers({key: Attempts(3, 3)}) == {key}


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_guests_that_die_by_themselves_are_seldom_blamed_on_a_cell(rate):
    """Simulated: every guest dies with the same chance, whatever it runs."""
    dice, matrices, false = random.Random(11), 400, 0
    for _ in range(matrices):
        cells = {key: Attempts(6, sum(dice.random() < rate for _ in range(6))) for key in cells_of(lambda v, p: False)}
        false += bool(killers(cells))
    assert false <= 0.08 * matrices


def trials_of(dying, each=5):
    """Trials of which those of cells that a function names lose their guest two times in three, and then pass."""
    number = 0
    for variant in VARIANTS:
        for program in PROGRAMS:
            for turn in range(1, each + 1):
                lost = 2 if dying(variant, program) else 0
                for attempt in range(1, lost + 2):
                    number += 1
                    verdict = Verdict.ERROR if attempt <= lost else Verdict.PASS
                    reason = PANIC.replace("1234567", f"{number:07x}") if attempt <= lost else "as expected"
                    yield dataclasses.replace(
                        TRIAL, id=number, variant=variant, program=program, number=turn, attempt=attempt,
                        verdict=verdict, reason=reason,
                    )  # fmt: skip


def matrix_of(dying):
    return build_matrix({}, ["g"], VARIANTS, PROGRAMS, "pristine", trials_of(dying), [])


def test_a_libgo_that_kills_its_guest_is_seen_and_compared():
    """Today's `5/5 !15` of a libgo that panics the kernel two times in three."""
    matrix = matrix_of(lambda variant, program: variant == "other")
    cells = [cell for cell in matrix.cells if cell.variant == "other"]
    for cell in cells:
        assert (cell.verdict, cell.passed, cell.trials, cell.errors, cell.lost) == ("flaky", 5, 15, 0, 0)
        assert cell.counts[Verdict.KILLS] == 10 and cell.surprise and cell.interval[1] < 0.7
        (finding,) = cell.findings
        assert (finding.verdict, finding.title, finding.count) == ("kills guest", TITLE, 10)
    (overall,) = matrix.overall()
    assert (overall.passed, overall.trials) == (60, 180) and overall.claimed
    assert matrix.totals().trials[Verdict.KILLS] == 120 and not matrix.totals().trials[Verdict.ERROR]


def test_a_run_until_it_is_sure_counts_deaths_as_what_is_no_pass():
    matrix = build_matrix(
        {}, ["g"], VARIANTS, PROGRAMS, "pristine", trials_of(lambda v, p: p == "s/p0", 12), [], most=12
    )
    cell = next(cell for cell in matrix.cells if (cell.variant, cell.program) == ("other", "s/p0"))
    assert cell.difference.p == 1.0, "with both libgos the guest dies"
    matrix = build_matrix(
        {}, ["g"], VARIANTS, PROGRAMS, "pristine", trials_of(lambda v, p: v == "other", 12), [], most=12
    )
    assert len(matrix.differences(claimed=True)) == 12


def test_a_guest_that_always_dies_of_a_program_is_a_verdict_of_its_own():
    trials = [
        dataclasses.replace(trial, verdict=Verdict.ERROR, reason=PANIC) if trial.program == "s/p0" else trial
        for trial in trials_of(lambda variant, program: False)
    ]
    matrix = build_matrix({}, ["g"], VARIANTS, PROGRAMS, "pristine", trials, [])
    first = matrix.cells[0]
    assert first.verdict is CellVerdict.KILLS and (first.passed, first.trials, first.lost) == (0, 5, 0)
    stream = io.StringIO()
    terminal.print_table(matrix, Console(file=stream, width=100))
    assert "† kills guest 2" in stream.getvalue() and TITLE in stream.getvalue()
    again = Matrix.from_json(json.loads(formats.json_text(matrix)))
    assert again.cells[0].verdict is CellVerdict.KILLS
    assert "kills guest" in formats.csv_text(matrix) and TITLE in formats.markdown(matrix)
    assert "kills guest" in formats.junit(matrix, {trial.id: trial for trial in trials}.__getitem__)


def test_deaths_of_the_guest_s_own_stay_errors():
    matrix = matrix_of(lambda variant, program: True)
    assert {cell.verdict for cell in matrix.cells} == {CellVerdict.PASS}
    assert matrix.totals().trials[Verdict.ERROR] == 240 and Verdict.KILLS not in matrix.cells[0].counts
    assert "kills guest" not in formats.json_text(matrix)
