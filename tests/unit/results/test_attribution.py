"""What a failure follows, by synthetic experiments whose causes are known."""

import json
import random
from dataclasses import replace

import pytest

from harness.programs.model import CellKey
from harness.results.answer import answer
from harness.results.attribution import FEWEST, Design, Factor, find_effects, is_decided
from harness.results.build_matrix import build_matrix
from harness.results.matrix import Matrix
from harness.results.statistics import difference_interval
from harness.results.twins import Experiment
from harness.trial.record import Trial

DESIGN = Design(["pristine", "changed"], ["slow"])
PROGRAMS = ["s/go", "s/c"]


def experiment(fails, design=DESIGN, guests=("linux",), programs=PROGRAMS, most=20, seed=0):
    """Make rounds until all is decided. `fails` gives the chance that a program fails, by guest, libgo, libpthread."""
    rng = random.Random(seed)
    combinations = [(g, go, p) for g in guests for go in design.libgos for p in ("", *design.libpthreads)]
    outcomes = {}
    for blocks in range(most + 1):
        effects = find_effects(outcomes, design, guests, programs, ["s/c"])
        if blocks == most or is_decided(effects, blocks):
            return {(effect.program, effect.factor): effect for effect in effects}, blocks
        for program in programs:
            for guest, libgo, libpthread in combinations:
                key = CellKey(guest, design.variant(libgo, libpthread), program)
                failed = rng.random() < fails(program, guest, libgo, libpthread)
                outcomes.setdefault(key, {})[blocks + 1] = not failed
    raise AssertionError


def test_the_variants_of_all_combinations():
    assert DESIGN.variants() == ["pristine", "changed", "pristine+slow", "changed+slow"]


def test_a_failure_that_follows_libpthread_alone():
    effects, rounds = experiment(lambda program, guest, libgo, libpthread: float(libpthread == "slow"))
    assert rounds == FEWEST
    for program in PROGRAMS:
        effect = effects[program, Factor.LIBPTHREAD]
        assert effect.claimed and effect.everywhere
        assert (effect.failed, effect.trials, effect.base_failed) == (2 * rounds, 2 * rounds, 0)
    libgo = effects["s/go", Factor.LIBGO]
    assert not libgo.claimed and not libgo.seen and libgo.low < 0 < libgo.high
    assert ("s/c", Factor.LIBGO) not in effects, "a C program has no libgo"


def test_a_failure_that_follows_libgo_alone():
    effects, _ = experiment(lambda program, guest, libgo, libpthread: float(libgo == "changed" and program == "s/go"))
    assert effects["s/go", Factor.LIBGO].claimed and effects["s/go", Factor.LIBGO].everywhere
    assert not effects["s/go", Factor.LIBPTHREAD].seen and not effects["s/c", Factor.LIBPTHREAD].seen


def test_a_failure_that_takes_both_is_not_said_to_be_everywhere():
    effects, rounds = experiment(
        lambda program, guest, libgo, libpthread: float(libgo == "changed" and bool(libpthread))
    )
    for factor in (Factor.LIBGO, Factor.LIBPTHREAD):
        effect = effects["s/go", factor]
        assert effect.claimed and not effect.everywhere and effect.failed == rounds


def test_a_failure_that_follows_the_guest():
    effects, _ = experiment(lambda program, guest, *_: float(guest == "hurd"), guests=("linux", "hurd"))
    effect = effects["s/go", Factor.GUEST]
    assert effect.claimed and effect.everywhere and (effect.level, effect.base) == ("hurd", "linux")


def test_a_failure_now_and_then_takes_more_rounds():
    effects, rounds = experiment(lambda program, guest, libgo, libpthread: 0.5 * bool(libpthread), most=60)
    assert effects["s/go", Factor.LIBPTHREAD].claimed and rounds > FEWEST


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.9])
def test_where_nothing_makes_a_difference_little_is_claimed(chance):
    """300 experiments, each with three effects that are none: at most one in twenty may claim one."""
    claims = sum(
        any(effect.claimed for effect in experiment(lambda *_: chance, seed=seed)[0].values()) for seed in range(300)
    )
    assert claims <= 0.05 * 300


def test_a_program_that_was_not_run_everywhere_is_compared_where_it_was():
    outcomes = {CellKey("linux", "pristine", "s/go"): {1: True}, CellKey("linux", "pristine+slow", "s/go"): {1: False}}
    (effect,) = find_effects(outcomes, DESIGN, ["linux"], PROGRAMS, ["s/c"])
    assert effect.factor is Factor.LIBPTHREAD and (effect.failed, effect.trials) == (1, 1)


def test_the_interval_of_a_difference():
    """The values are those of Newcombe's paper, table II (method 10)."""
    assert difference_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert difference_interval(10, 10, 0, 10) == pytest.approx((0.6075, 1.0), abs=1e-4)


def matrix_of(fails, trials=8):
    """The matrix of an experiment of some rounds; `fails` says whether a trial fails."""
    cells = [(program, variant) for program in PROGRAMS for variant in DESIGN.variants()]
    empty = Trial(1, "linux", "", "", 1, 1, "pass", "why", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c")
    all_trials = (
        replace(
            empty,
            id=number,
            variant=variant,
            program=program,
            number=number,
            verdict="crash" if fails(program, variant, number) else "pass",
        )
        for number in range(1, trials + 1)
        for program, variant in cells
    )
    preloads = {"pristine+slow": ["slow"], "changed+slow": ["slow"]}
    experiment = Experiment({"s/go": "s/c"}, ["s/c"], preloads, DESIGN)
    axes = (["linux"], DESIGN.variants(), PROGRAMS)
    return build_matrix({}, *axes, "pristine", all_trials, [], trials, control="linux", experiment=experiment)


def sentences(matrix):
    return {paragraph.title: " ".join(paragraph.sentences) for paragraph in answer(matrix)}


def test_the_answer_in_words():
    paragraphs = sentences(matrix_of(lambda program, variant, number: "slow" in variant))
    follows = paragraphs["What the failures follow"]
    assert "The libpthread slow: 1 Go program and 1 C program fail with it, whatever the libgo, and not with" in follows
    assert "(32 of 32 trials failed with it, 0 of 32 with the guest's own; p corrected at most" in follows
    alike = paragraphs["What they do not follow"]
    assert "The libgo changed: 1 Go program came out the same with it as with pristine" in alike
    twins = paragraphs["With Go and without"]
    assert "1 pair of a Go program and its C twin: none passed all trials." in twins
    assert "Below Go (libpthread, libc, kernel): s/go (pristine+slow, changed+slow; linux) fails in 16 of 16" in twins
    assert "changed+slow on linux: 1 of 1 C program came out as with pristine+slow" in paragraphs["Negative control"]


def test_what_follows_nothing_is_told_as_such():
    paragraphs = sentences(matrix_of(lambda program, variant, number: program == "s/go" and number % 3 == 0))
    assert paragraphs["What the failures follow"] == "Nothing that can be claimed."
    assert "1 Go program came out the same" in paragraphs["What they do not follow"]
    assert "1 C program passed every trial, whatever they ran with: s/c." in paragraphs["What they do not follow"]
    now_and_then = sentences(matrix_of(lambda program, variant, number: variant == "changed" and number == 2))
    unsure = now_and_then["What may be chance (more --trials would show)"]
    assert "The libgo changed: s/go fails in 1 of 16 trials with it, in 0 of 16 with pristine" in unsure


def test_a_matrix_of_an_experiment_comes_back_from_json():
    matrix = matrix_of(lambda program, variant, number: "slow" in variant)
    assert Matrix.from_json(json.loads(json.dumps(matrix.to_json()))).to_json() == matrix.to_json()
