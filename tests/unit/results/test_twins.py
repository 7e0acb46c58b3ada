"""Twins: which failures lie below Go; and C programs as a negative control. The text of both."""

import dataclasses
import json
import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import paths
from harness.programs.model import CellKey
from harness.results.answer import answer, describe_pair
from harness.results.build_matrix import build_matrix
from harness.results.load import load_matrix
from harness.results.plan import RunPlan
from harness.results.statistics import LEVEL, fisher, stratified
from harness.results.store import Store
from harness.results.twins import Experiment, Failing, Pair, find_pairs, negative_controls
from harness.trial.record import Trial

TRIAL = Trial(1, "g", "pristine", "s/go", 1, 1, "pass", "", "", 0, "", 0.5, b"", b"", 0, 0, "", "again")


class Counts(NamedTuple):
    passed: int
    trials: int


#: Passes of trials, perhaps of none.
COUNTS = st.integers(0, 30).flatmap(lambda n: st.builds(Counts, st.integers(0, n), st.just(n)))


def pair_of(mine, twin):
    return Pair("g", ("pristine",), "s/go", "p/c", *mine, *twin, (fisher(*mine, *twin),))


@pytest.mark.parametrize(
    ("mine", "twin", "failing", "sure"),
    [
        ((20, 20), (20, 20), Failing.NEITHER, True),
        ((1, 1), (1, 1), Failing.NEITHER, True),
        ((19, 20), (19, 20), Failing.BOTH, True),
        ((0, 1), (0, 1), Failing.BOTH, True),
        ((10, 20), (20, 20), Failing.GO_ALONE, True),
        ((16, 20), (20, 20), Failing.GO_ALONE, False),
        ((19, 20), (20, 20), Failing.GO_ALONE, False),
        ((20, 20), (10, 20), Failing.C_ALONE, True),
        ((3, 3), (2, 3), Failing.C_ALONE, False),
    ],
)
def test_which_of_a_pair_fail(mine, twin, failing, sure):
    pair = pair_of(mine, twin)
    assert (pair.failing, pair.sure) == (failing, sure)


@given(COUNTS, COUNTS, COUNTS)
def test_a_pair_is_of_two_cells_with_trials(mine, twin, elsewhere):
    cells = {
        CellKey("g", "v", "s/go"): mine,
        CellKey("g", "v", "p/c"): twin,
        CellKey("g", "v", "s/other"): Counts(1, 2),
        CellKey("h", "v", "p/c"): elsewhere,
        CellKey("g", "w", "s/go"): elsewhere,
    }
    pairs = list(find_pairs(cells, {"s/go": "p/c", "s/none": "p/c"}))
    assert [(pair.guest, pair.variants, pair.program, pair.twin) for pair in pairs] == (
        [("g", ("v",), "s/go", "p/c")] if mine.trials and twin.trials else []
    )
    for pair in pairs:
        assert (pair.passed, pair.trials, pair.twin_passed, pair.twin_trials) == (*mine, *twin)
        assert pair.p == fisher(*mine, *twin)
        assert pair.sure or pair.p >= LEVEL


def test_one_twin_is_that_of_several_programs_on_each_guest_and_libgo():
    names = [CellKey(guest, variant, program) for guest in "gh" for variant in "vw" for program in ("a", "b", "c")]
    pairs = find_pairs(dict.fromkeys(names, Counts(2, 2)), {"a": "c", "b": "c"})
    assert [(pair.guest, pair.variants, pair.program) for pair in pairs] == [
        (guest, ("v", "w"), program) for guest in "gh" for program in "ab"
    ]
    assert all((pair.trials, pair.twin_trials, pair.compared) == (4, 4, 2) for pair in pairs)


def test_variants_in_which_the_same_of_the_two_fail_are_told_together():
    counts = {"v": (0, 5, 5, 5), "w": (1, 5, 5, 5), "x": (5, 5, 5, 5), "y": (4, 5, 4, 5)}
    cells = {CellKey("g", name, "a"): Counts(*four[:2]) for name, four in counts.items()}
    cells |= {CellKey("g", name, "c"): Counts(*four[2:]) for name, four in counts.items()}
    pairs = {pair.failing: pair for pair in find_pairs(cells, {"a": "c"})}
    alone = pairs[Failing.GO_ALONE]
    assert (alone.variants, alone.passed, alone.trials, alone.compared) == (("v", "w"), 1, 10, 4)
    assert alone.p == pytest.approx(4 * fisher(0, 5, 5, 5)), "each variant's own test, corrected for all four"
    assert pairs[Failing.NEITHER].variants == ("x",) and pairs[Failing.BOTH].variants == ("y",)


def test_few_flakes_with_many_variants_are_no_sure_difference():
    """Both fail one time in ten: of 300 runs with 12 variants at most one in twenty is sure of a difference."""
    rng = random.Random(1)
    false = 0
    for _ in range(300):
        names = [CellKey("g", f"v{place}", program) for place in range(12) for program in "ac"]
        cells = {key: Counts(sum(rng.random() < 0.9 for _ in range(5)), 5) for key in names}
        pairs = find_pairs(cells, {"a": "c"})
        false += any(pair.sure for pair in pairs if pair.failing in (Failing.GO_ALONE, Failing.C_ALONE))
    assert false <= 0.05 * 300


EXPERIMENT = Experiment({}, ["p/c", "p/d"], {"slow": ["slow-exit"], "slow-too": ["slow-exit"], "loud": ["perturb"]})


@pytest.mark.parametrize(
    ("program", "variant", "baseline", "is_control"),
    [
        ("p/c", "other", "pristine", True),
        ("s/go", "other", "pristine", False),
        ("p/c", "slow", "pristine", False),
        ("p/c", "pristine", "slow", False),
        ("p/c", "slow", "loud", False),
        ("p/c", "slow-too", "slow", True),
        ("s/go", "slow-too", "slow", False),
    ],
)
def test_a_control_is_a_c_program_with_the_same_preloads(program, variant, baseline, is_control):
    assert EXPERIMENT.is_control(program, variant, baseline) is is_control


def test_controls_are_counted_by_guest_and_libgo():
    counts = {
        ("g", "pristine", "p/c"): (3, 4), ("g", "other", "p/c"): (6, 8), ("g", "pristine", "p/d"): (4, 4),
        ("g", "other", "p/d"): (3, 4), ("g", "slow", "p/c"): (0, 4), ("g", "other", "s/go"): (0, 4),
        ("g", "pristine", "s/go"): (4, 4), ("h", "pristine", "p/c"): (0, 0), ("h", "other", "p/c"): (1, 1),
    }  # fmt: skip
    cells = {CellKey(*key): Counts(*count) for key, count in counts.items()}
    (control,) = negative_controls(cells, EXPERIMENT, ["pristine", "other", "slow"])
    assert (control.guest, control.variant, control.programs, control.alike) == ("g", "other", 2, 1)
    assert (control.passed, control.trials, control.base_passed, control.base_trials) == (9, 12, 7, 8)
    assert control.p == stratified(((6, 8, 3, 4), (3, 4, 4, 4)))
    assert negative_controls(cells, Experiment(), ["pristine", "other", "slow"]) == []


def test_a_control_of_a_changed_libpthread_is_one_with_the_same():
    counts = {"pristine": (4, 4), "other": (4, 4), "slow": (0, 4), "other+slow": (1, 4)}
    cells = {CellKey("g", variant, "p/c"): Counts(*count) for variant, count in counts.items()}
    changes = {"slow": ["slow-exit"], "other+slow": ["slow-exit"]}
    controls = negative_controls(cells, Experiment({}, ["p/c"], changes), list(counts))
    assert [(control.variant, control.base) for control in controls] == [("other", "pristine"), ("other+slow", "slow")]
    assert controls[0].p == controls[1].p == 1.0


@pytest.mark.parametrize(
    ("mine", "twin", "beginning", "parts"),
    [
        ((3, 4), (1, 4), "Below Go (libpthread, libc, kernel): ", ["1 of 4 trials", "p/c, which makes the", "3 of 4"]),
        ((10, 20), (20, 20), "libgo: s/go (pristine; g) fails in 10 of 20 trials", ["in 0 of 20 (p "]),
        ((20, 20), (10, 20), "Without Go alone: p/c fails in 10 of 20, and s/go", ["in 0 of 20 trials (p "]),
    ],
)  # fmt: skip
def test_what_a_pair_says(mine, twin, beginning, parts):
    text = describe_pair(pair_of(mine, twin))
    assert text.startswith(beginning) and all(part in text for part in parts)
    assert "chance" not in text


@pytest.mark.parametrize(("mine", "twin"), [((3, 4), (4, 4)), ((4, 4), (3, 4))])
def test_a_pair_of_few_trials_is_said_to_be_perhaps_chance(mine, twin):
    assert describe_pair(pair_of(mine, twin)).endswith(" That may be chance; more trials would show.")


def test_a_go_program_that_fails_far_more_often_is_not_explained_by_its_twin():
    text = describe_pair(pair_of((0, 20), (19, 20)))
    assert (
        text.startswith("Below Go") and "Go fails more often (p " in text and text.endswith("not all of it lies there.")
    )
    assert "more often" not in describe_pair(pair_of((19, 20), (0, 20)))


def matrix_of(failing, experiment, variants=("pristine", "other"), programs=("s/go", "p/c"), each=8, guests=("g",)):
    """A run with so many trials of each cell; `failing` is how many of them fail, by variant and program."""
    trials = [
        dataclasses.replace(
            TRIAL,
            guest=guest,
            variant=variant,
            program=program,
            number=number,
            verdict="crash" if number <= failing.get((variant, program), 0) else "pass",
        )
        for guest in guests
        for variant in variants
        for program in programs
        for number in range(1, each + 1)
    ]
    numbered = [dataclasses.replace(trial, id=place) for place, trial in enumerate(trials, start=1)]
    run = {"about": {}, "command": "harness run s --trials 8"}
    return build_matrix(run, guests, list(variants), list(programs), "pristine", numbered, [], experiment=experiment)


def sentences_of(matrix, title):
    return [sentence for part in answer(matrix) if part.title == title for sentence in part.sentences]


TWINS = Experiment({"s/go": "p/c"}, ["p/c"])


def test_a_report_says_what_pairs_show():
    matrix = matrix_of({("other", "s/go"): 8}, TWINS)
    first, *more = sentences_of(matrix, "With Go and without")
    assert first == "1 pair of a Go program and its C twin: none passed all trials."
    assert len(more) == 1 and more[0].startswith("libgo: s/go (other; g) fails in 8 of 8 trials")


def test_a_report_without_twins_or_c_programs_says_nothing_of_them():
    matrix = matrix_of({("other", "s/go"): 8}, Experiment())
    assert {part.title for part in answer(matrix)}.isdisjoint({"With Go and without", "Negative control"})


def test_failures_with_go_and_without_are_named_first_and_only_ten_of_them():
    programs = [f"s/p{place}" for place in range(12)]
    twins = Experiment(dict.fromkeys(programs, "p/c"), ["p/c"])
    failing = {("pristine", program): 1 for program in programs[1:]} | {("pristine", "p/c"): 1}
    matrix = matrix_of(failing, twins, ("pristine",), [*programs, "p/c"])
    first, *more = sentences_of(matrix, "With Go and without")
    assert first == "12 pairs of a Go program and its C twin: none passed all trials."
    assert [text.partition(":")[0] for text in more] == [
        *["Below Go (libpthread, libc, kernel)"] * 10,
        "1 more pair fails with Go and without.",
        "Without Go alone",
    ]


def test_a_report_says_how_much_is_noise():
    (head, sentence) = sentences_of(matrix_of({("other", "p/c"): 1}, TWINS), "Negative control")
    assert "C programs have no libgo" in head
    assert sentence.startswith(
        "other on g: 0 of 1 C program came out as with pristine; all together 7 of 8 trials passed"
    )
    assert "against 8 of 8, p " in sentence and "noise of that size" not in sentence
    (_, sentence) = sentences_of(matrix_of({("other", "p/c"): 8}, TWINS), "Negative control")
    assert sentence.endswith("; noise of that size is in all differences of this run.")


def test_the_cells_of_the_negative_control_have_no_difference():
    failing = {("other", "s/go"): 8, ("other", "p/c"): 8, ("slow", "p/c"): 8, ("slow", "s/go"): 8}
    experiment = dataclasses.replace(TWINS, besides_libgo={"slow": ["slow-exit"]})
    matrix = matrix_of(failing, experiment, ("pristine", "other", "slow"))
    differing = {(cell.variant, cell.program) for cell in matrix.cells if cell.difference}
    assert differing == {("other", "s/go"), ("slow", "s/go"), ("slow", "p/c")}
    assert matrix.comparisons == 3


def test_a_control_makes_no_other_difference_less_sure():
    programs = ["s/go", *(f"p/c{place}" for place in range(30))]
    failing = {("other", program): 4 for program in programs} | {("pristine", program): 1 for program in programs[1:]}
    matrix = matrix_of(failing, Experiment({}, programs[1:]), programs=programs)
    (difference,) = [cell.difference for cell in matrix.cells if cell.difference]
    alone = matrix_of(failing, Experiment(), programs=programs[:1])
    assert difference == next(cell.difference for cell in alone.cells if cell.difference)


def test_json_has_the_experiment():
    experiment = Experiment({"s/go": "p/c"}, ["p/c"], {"slow": ["slow-exit", "perturb"]})
    stored = json.loads(json.dumps(matrix_of({}, experiment).to_json()))["experiment"]
    assert stored == {
        "twins": {"s/go": "p/c"},
        "c_programs": ["p/c"],
        "besides_libgo": {"slow": ["slow-exit", "perturb"]},
        "design": None,
    }
    schema = json.loads((paths.DATA / "harness/results/run.schema.json").read_text())["properties"]["experiment"]
    assert set(schema["required"]) | {"design"} == set(schema["properties"]) == set(stored)


def test_a_stored_run_has_its_experiment_and_an_old_one_none(tmp_path):
    plan = {
        "guests": ["g"], "variants": ["pristine", "slow"], "programs": ["s/go", "p/c"], "expected": [],
        "twins": {"s/go": "p/c"}, "c_programs": ["p/c"], "besides_libgo": {"slow": ["slow-exit"]},
    }  # fmt: skip
    store = Store(tmp_path / "results.sqlite")
    new = store.begin(RunPlan.model_validate(plan))
    old = store.begin(
        RunPlan.model_validate({key: plan[key] for key in ("guests", "variants", "programs", "expected")})
    )
    experiment = load_matrix(store, store.run(new)).experiment
    assert experiment == Experiment({"s/go": "p/c"}, ["p/c"], {"slow": ["slow-exit"]})
    assert load_matrix(store, store.run(old)).experiment == Experiment()
