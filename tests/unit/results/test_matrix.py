"""The matrix beyond its first uses (those are in test_results): order, lost trials, what is compared, how often."""

import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import StoreError
from harness.results.build_matrix import build_matrix
from harness.results.matrix import TRIAL_VERDICTS, CellVerdict
from harness.results.statistics import LEVEL, fisher, holm, least_p, least_trials, smallest_difference, wilson
from harness.results.text import describe_power
from harness.trial.record import JUDGED, Trial

EMPTY = Trial(1, "g", "base", "s/p", 1, 1, "pass", "", "", 0, "", 0.1, b"", b"", 0, 0, "", "again")


def trials_of(**kinds: dict[str, int]):
    """Trials by variant and verdict: base={"pass": 3} is three passes."""
    number = 0
    for variant, verdicts in kinds.items():
        for verdict, times in verdicts.items():
            for _ in range(times):
                number += 1
                yield dataclasses.replace(EMPTY, id=number, number=number, variant=variant, verdict=verdict)


def matrix_of(trials, variants=("base", "other"), baseline="base", programs=("s/p",), guests=("g",)):
    return build_matrix({}, guests, variants, programs, baseline, trials, [])


@pytest.mark.parametrize(
    ("passed", "trials", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_in_newcombe_s_table(passed, trials, low, high):
    assert wilson(passed, trials) == pytest.approx((low, high), abs=1e-4)


#: Passes of trials.
COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, COUNTS)
def test_the_numbers_are_scipy_s(first, second):
    interval = stats.binomtest(*first).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(*first) == pytest.approx((interval.low, interval.high), abs=1e-12)
    table = [[passed, trials - passed] for passed, trials in (first, second)]
    assert fisher(*first, *second) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


def test_many_trials_are_no_trouble():
    assert fisher(9_000, 10_000, 8_900, 10_000) == pytest.approx(
        stats.fisher_exact([[9_000, 1_000], [8_900, 1_100]]).pvalue, rel=1e-9
    )


@pytest.mark.parametrize(("passed", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_counts_that_cannot_be(passed, trials):
    with pytest.raises(ValueError):
        wilson(passed, trials)
    if trials:
        with pytest.raises(ValueError):
            fisher(1, 2, passed, trials)


@given(COUNTS)
def test_wilson_holds_the_share_and_keeps_within_bounds(counts):
    low, high = wilson(*counts)
    assert -1e-12 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] - 1e-12 <= high <= 1 + 1e-12


@given(st.integers(0, 8), st.integers(0, 8))
def test_fisher_does_not_care_which_side_is_which(first, second):
    assert fisher(first, 8, second, 8) == pytest.approx(fisher(second, 8, first, 8))
    assert fisher(first, 8, first, 8) == pytest.approx(1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_starts_with_bonferroni(values):
    corrected = holm(values)
    assert corrected[values.index(min(values))] == min(1.0, min(values) * len(values))
    in_order = sorted(range(len(values)), key=values.__getitem__)
    assert [corrected[place] for place in in_order] == sorted(corrected)


def fisher_and_least(counts):
    return [fisher(*four) for four in counts], [least_p(*four) for four in counts]


def test_what_could_never_be_significant_is_not_counted():
    """653 cells of which 640 always pass: 20 of 20 against 12 of 20."""
    calm, flaky = [(20, 20, 20, 20)] * 640, [(19, 20, 20, 20)] * 12
    values, least = fisher_and_least([(12, 20, 20, 20), *flaky, *calm])
    assert holm(values)[0] == 1.0
    assert holm(values, least)[0] == pytest.approx(values[0]) and 0.003 < values[0] < 0.004


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_counting_fewer_tests_never_makes_a_p_value_greater(passes):
    values, least = fisher_and_least([(a, 6, b, 6) for a, b in passes])
    assert all(bound <= p + 1e-12 for bound, p in zip(least, values, strict=True))
    for p, counted, all_counted in zip(values, holm(values, least), holm(values), strict=True):
        assert p - 1e-12 <= counted <= all_counted + 1e-12


def test_matrices_of_flakes_are_claimed_as_seldom_as_stated():
    """Simulated: no cell differs, most always pass, some flake."""
    dice, matrices, false = random.Random(5), 1000, 0
    for _ in range(matrices):
        chances = [1.0] * 40 + [dice.choice([0.3, 0.7, 0.9]) for _ in range(10)]
        passes = [tuple(sum(dice.random() < chance for _ in range(8)) for _ in range(2)) for chance in chances]
        values, least = fisher_and_least([(a, 8, b, 8) for a, b in passes])
        false += min(holm(values, least)) < LEVEL
    assert false <= LEVEL * matrices + 3 * (matrices * LEVEL) ** 0.5


@given(st.integers(1, 5000))
def test_least_trials_is_where_the_extreme_table_can_first_be_claimed(comparisons):
    least = least_trials(comparisons)
    assert fisher(least, least, 0, least) * comparisons < LEVEL
    assert fisher(least - 1, least - 1, 0, least - 1) * comparisons >= LEVEL if least > 1 else True


@given(st.lists(st.sampled_from(TRIAL_VERDICTS), max_size=12))
def test_a_cell_counts_every_trial_once(verdicts):
    trials = [dataclasses.replace(EMPTY, id=n, number=n, verdict=v) for n, v in enumerate(verdicts, 1)]
    matrix = matrix_of(trials)
    cell = matrix.cells[0]
    assert cell.trials + cell.errors == len(cell.ids) == len(verdicts)
    assert cell.trials == sum(verdict in JUDGED for verdict in verdicts)
    assert sum(finding.count for finding in cell.findings) == len(verdicts) - cell.passed
    assert (cell.interval is None) == (cell.trials == 0)
    assert cell.verdict in CellVerdict
    assert sum(matrix.totals().cells.values()) == len(matrix.cells)


def test_two_ways_to_go_wrong_are_flaky():
    assert matrix_of(trials_of(base={"crash": 1, "hang": 1})).cells[0].verdict == "flaky"
    assert matrix_of(trials_of(base={"hang": 2})).cells[0].verdict == "hang"
    assert matrix_of([]).cells[0].verdict == "none"


def test_an_error_that_was_never_repeated_is_lost():
    spoilt = dataclasses.replace(EMPTY, verdict="error")
    tries = [spoilt, dataclasses.replace(spoilt, attempt=2), dataclasses.replace(spoilt, number=2)]
    cell = matrix_of([*tries, dataclasses.replace(EMPTY, number=2, attempt=2)]).cells[0]
    assert (cell.trials, cell.errors, cell.lost) == (1, 3, 1)


def test_a_cell_is_green_only_if_no_guest_died_and_no_trial_is_missing():
    spoilt = dataclasses.replace(EMPTY, verdict="error", reason="lost SSH")
    repeated = [spoilt, dataclasses.replace(EMPTY, id=2, attempt=2)]
    died = [dataclasses.replace(spoilt, reason="panic: page fault"), repeated[1]]
    lost = [EMPTY, dataclasses.replace(spoilt, id=2, number=2)]
    cells = [matrix_of(trials).cells[0] for trials in (repeated, died, lost)]
    assert [cell.verdict for cell in cells] == ["pass"] * 3
    assert [(cell.hue, cell.deaths) for cell in cells] == [("pass", 0), ("error", 1), ("error", 0)]


def test_a_cell_that_flakes_has_its_parts():
    assert matrix_of(trials_of(base={"pass": 3, "hang": 1, "crash": 2})).cells[0].parts == [("crash", 2), ("hang", 1)]
    assert not matrix_of(trials_of(base={"crash": 2})).cells[0].parts


def test_findings_are_grouped_by_signature_and_keep_the_first_command():
    crash = dataclasses.replace(EMPTY, verdict="crash", signature="SIGSEGV in f")
    tries = [dataclasses.replace(crash, id=n, number=n, command=f"again {n}") for n in (7, 8)]
    cell = matrix_of([*tries, dataclasses.replace(crash, id=9, signature="", reason="no core")]).cells[0]
    assert cell.signatures == {"SIGSEGV in f": 2}
    assert [(f.title, f.count, f.trial) for f in cell.findings] == [("SIGSEGV in f", 2, 7), ("no core", 1, 9)]
    assert cell.findings[0].command == "again 7"


def test_only_what_has_trials_on_both_sides_is_compared():
    assert matrix_of(trials_of(other={"pass": 5})).comparisons == 0
    assert matrix_of(trials_of(base={"error": 5}, other={"pass": 5})).comparisons == 0
    assert matrix_of(trials_of(base={"pass": 5}, other={"pass": 5}), baseline="absent").comparisons == 0
    assert matrix_of(trials_of(base={"pass": 5}, other={"hang": 5})).comparisons == 1


def test_a_comparison_stays_on_its_guest_and_program():
    def at(guest, program, variant, verdict):
        return [
            dataclasses.replace(EMPTY, guest=guest, program=program, variant=variant, verdict=verdict, number=n)
            for n in range(1, 9)
        ]

    trials = at("g", "s/p", "base", "pass") + at("h", "s/q", "base", "crash") + at("h", "s/q", "other", "pass")
    matrix = matrix_of(trials, programs=["s/p", "s/q"], guests=["g", "h"])
    ((index, cell, difference),) = matrix.differences(claimed=True)
    assert (cell.guest, cell.program, difference.baseline_passed) == ("h", "s/q", 0)
    assert matrix.cells[index] is cell
    assert matrix.row(1)[3] == (index, cell)


def test_the_correction_turns_claims_into_suspicions_and_says_how_many_trials_it_needs():
    programs = [f"s/p{n}" for n in range(20)]

    def made_of(others):
        """One program fails with the other libgo alone; of the others so many of five trials pass with each libgo."""
        passes = {(p, v): {("s/p0", "base"): 5, ("s/p0", "other"): 0}.get((p, v), n) for p in programs
                  for v, n in zip(("base", "other"), others, strict=True)}  # fmt: skip
        trials = [
            dataclasses.replace(EMPTY, program=p, variant=v, number=n, verdict="pass" if n <= passed else "fail")
            for (p, v), passed in passes.items()
            for n in range(1, 6)
        ]
        return matrix_of(trials, programs=programs)

    matrix = made_of((2, 3))
    assert matrix.differences(claimed=True) == []
    assert [cell.program for _, cell, _ in matrix.differences(claimed=False)] == ["s/p0"]
    assert (matrix.comparisons, matrix.contenders, matrix.trials_needed) == (20, 20, None)
    calm = made_of((5, 5))
    assert [cell.program for _, cell, _ in calm.differences(claimed=True)] == ["s/p0"]
    assert (calm.comparisons, calm.contenders) == (20, 1), "what always passes counts in no correction"
    assert matrix_of(trials_of(base={"pass": 3}, other={"fail": 3})).trials_needed == 4
    assert matrix_of(trials_of(base={"pass": 5}, other={"fail": 5})).trials_needed is None


def test_trials_are_read_once_and_not_kept():
    import weakref

    alive = []

    def stream():
        for number in range(1, 50):
            trial = dataclasses.replace(EMPTY, id=number, number=number, stdout=b"x" * 1000)
            alive.append(weakref.ref(trial))
            yield trial
            del trial
            assert sum(reference() is not None for reference in alive) <= 1

    assert matrix_of(stream()).cells[0].trials == 49


def test_an_unknown_verdict_is_refused():
    with pytest.raises(StoreError, match="unknown verdict"):
        matrix_of([dataclasses.replace(EMPTY, verdict="fine")])


def test_json_has_all_that_is_documented():
    matrix = matrix_of(trials_of(base={"pass": 8}, other={"pass": 2, "crash": 6}))
    document = json.loads(json.dumps(matrix.to_json()))
    names = "schema run guests variants programs baseline cells most expired totals overall events times"
    names += " control guest_differences interactions experiment effects unmatched"
    assert set(document) == set(names.split())
    base, other = document["cells"]
    assert (other["verdict"], other["passed"], other["trials"]) == ("flaky", 2, 8)
    assert other["counts"] == {"pass": 2, "fail": 0, "crash": 6, "hang": 0}
    assert base["difference"] is None
    assert other["difference"] == {
        "p": pytest.approx(0.00699, abs=1e-4),
        "p_corrected": pytest.approx(0.00699, abs=1e-4),
        "claimed": True,
        "baseline_passed": 8,
        "baseline_trials": 8,
        "detectable": None,
    }
    assert document["totals"]["claimed"] == 1


def test_what_is_not_claimed_tells_what_would_have_been():
    unclaimed, claimed = (
        matrix_of(trials_of(base={"pass": 20}, other=other)) for other in ({"pass": 20}, {"crash": 20})
    )
    assert unclaimed.cells[1].difference.detectable == smallest_difference(1, 20, 1)
    sentence = describe_power(unclaimed, unclaimed.cells[1].difference)
    assert sentence == "not claimed: failures in 32% of its trials would have been found with a probability of 80%"
    assert claimed.cells[1].difference.detectable is None
    assert describe_power(claimed, claimed.cells[1].difference) == ""
    few = matrix_of(trials_of(base={"pass": 1}, other={"crash": 1}))
    assert describe_power(few, few.cells[1].difference) == "not claimed: so few trials can show no difference"
