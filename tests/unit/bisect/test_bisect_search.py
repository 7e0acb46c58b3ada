"""The arithmetic of a bisect, tested with synthetic bisects whose culprits are known; and its course."""

import math
import random

import numpy as np
import pytest

from harness.bisect.course import NOTHING, Case, Course, JudgedTrial, Question
from harness.bisect.fit import FITS, PRIOR
from harness.bisect.search import Costs, Search, alike, least_shown, mask, subset_of, would_show
from harness.bisect.steps import course_steps
from tests import bisects

COSTS = Costs(1.0, 10.0, {})


@pytest.mark.parametrize(("kind", "number"), [("any", 120), ("pair", 40), ("prefixes", 150), ("needs", 80)])
def test_as_right_as_claimed_with_half_the_trials_of_a_plain_bisect(kind, number):
    summary = bisects.many(kind, number)
    assert summary.right >= summary.claimed - summary.spread, summary
    assert summary.answers >= 0.95 * number, summary
    # About half: tools/bench.py has the figures of thousands; of these few some take longer by chance. The plain bisect
    # knows the probabilities, and what cannot be built; of commits only one is to blame.
    assert summary.trials <= {"needs": 0.65, "prefixes": 0.7}.get(kind, 0.55) * summary.plain, summary


A, B = frozenset({2}), frozenset({6})


@pytest.mark.parametrize(
    "grades",
    [
        ((A, 0.3), (B, 0.6), (A | B, 0.9)),  # each adds its share
        ((A, 0.3), (B, 0.3), (A | B, 0.9)),
        ((A, 0.3), (A | B, 0.9)),  # the one matters only with the other
    ],
)
def test_graded_effects_are_found_to_be_graded(grades):
    case = bisects.Case(9, A | B, 0.0, 0.9, grades=grades)
    results = [bisects.bisect(case, seed=seed).course.result for seed in range(20)]
    right = [result for result in results if result.grades and result.answer.alternatives == (A | B,)]
    certain = [result for result in results if not result.grades and result.decided and result.misfit <= FITS]
    assert len(right) >= 12, "most are"
    assert len(certain) <= 4, "and few of the others say that two rates fit"


def test_graded_effects_of_commits_are_found_one_by_one():
    steps = ((frozenset(range(8)), 0.3), (frozenset(range(25)), 0.9))
    case = bisects.Case(40, frozenset({7}), 0.0, 0.9, prefixes=True, grades=steps)
    results = [bisects.bisect(case, seed=seed).course.result for seed in range(30)]
    causes = [{max(grade.answer.alternatives[0]) for grade in result.grades} for result in results]
    assert causes.count({7, 24}) >= 18 and sum(bool(units - {7, 24}) for units in causes) <= 3


@pytest.mark.parametrize(("p0", "p1", "size"), [(0.0, 1.0, 1), (0.0, 0.7, 1), (0.1, 0.7, 1), (0.0, 0.9, 2)])
def test_plain_effects_are_rarely_taken_for_graded(p0, p1, size):
    case = bisects.Case(9, frozenset(range(3, 3 + size)), p0, p1)
    results = [bisects.bisect(case, seed=seed).course.result for seed in range(25)]
    assert sum(bool(result.grades) for result in results) <= 2
    assert sum(result.misfit > PRIOR for result in results) <= 4, "few stay undecided for that"


def test_without_a_difference_there_is_no_answer():
    rng = random.Random(1)
    answers = 0
    for seed in range(25):
        p = rng.choice([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
        case = bisects.Case(rng.randint(2, 20), frozenset(), p, p)
        answers += bisects.bisect(case, seed=seed, max_trials=20).answer is not None
    assert answers <= 0.1 * 25


def test_without_flakes_it_takes_about_as_many_trials_as_halvings():
    for units in (8, 16, 32, 64):
        case = bisects.Case(units, frozenset({units // 3}), 0, 1)
        results = [bisects.bisect(case, seed=seed) for seed in range(5)]
        assert max(result.trials - result.checks for result in results) <= 2 * math.log2(units) + 10
        assert all(result.answer.alternatives == (frozenset({units // 3}),) for result in results)


def test_a_set_that_does_not_build_is_not_asked_again_and_is_no_answer():
    case = bisects.Case(12, frozenset({4}), 0.0, 0.5, needs=frozenset({(4, 9)}))
    result = bisects.bisect(case, seed=3)
    assert result.answer.alternatives == (frozenset({4, 9}),)
    failed = [build.subset for build in result.course.failed]
    assert len(failed) == len(set(failed)) and not {trial.subset for trial in result.course.trials} & set(failed)


def test_commits_that_cannot_be_told_apart_are_named_together():
    search = Search(6, prefixes=True)
    search.fails(frozenset(range(3)))
    for _ in range(20):
        search.record(frozenset(range(4)), True)
        search.record(frozenset(range(2)), False)
    assert search.answer().alternatives == (frozenset({2}), frozenset({3}))
    assert search.answer().probability > 0.99


def test_more_than_two_are_needed():
    case = bisects.Case(30, frozenset(range(0, 30, 3)), 0.0, 1.0)
    result = bisects.bisect(case, seed=1)
    assert result.answer.whole and result.answer.alternatives == (frozenset(range(30)),)
    result = bisects.bisect(bisects.Case(8, frozenset({1, 4, 6}), 0.0, 1.0), seed=1)
    assert result.answer.alternatives == (frozenset({1, 4, 6}),)


def test_needs_are_learnt_from_builds():
    search = Search(4)
    search.fails(frozenset({0, 1}))
    assert search.needs.chance[0, 2] > 0.1
    for subset in ({0, 2}, {1, 2}, {1, 3}):
        search.builds(frozenset(subset))
    assert search.needs.chance[0, 3] == 0.0 or search.needs.chance[0, 2] == 0.0
    search = Search(3)
    search.fails(frozenset({0}))
    search.builds(frozenset({0, 1}))
    assert search.needs.chance[0, 1] == pytest.approx(1.0)
    assert subset_of(search.needs.closed(mask({0}, 3)[None, :])[0]) == {0, 1}


def test_probabilities_add_up_and_do_not_depend_on_the_order():
    rng = random.Random(2)
    trials = [(frozenset(rng.sample(range(6), rng.randint(0, 6))), rng.random() < 0.5) for _ in range(40)]
    first, second = searches = [Search(6), Search(6)]
    for search, order in zip(searches, (trials, trials[::-1]), strict=True):
        for subset, failed in order:
            search.record(subset, failed)
    assert np.allclose(first.blame(), second.blame()) and first.none == pytest.approx(second.none)
    everything = frozenset(range(6))
    assert first.inside(everything) + first.none == pytest.approx(1.0)


def test_the_difference_that_would_have_shown():
    assert alike(5, 5, 0, 5) < 0.01 < 0.3 < alike(0, 20, 0, 20)
    difference = least_shown(40, 0, 40, 0.9, 0.9)
    assert would_show(difference, 40, 0, 40, 0.9) >= 0.9 > would_show(difference - 0.01, 40, 0, 40, 0.9)
    rng = random.Random(3)
    differs = [alike(sum(rng.random() < difference for _ in range(40)), 40, 0, 40) <= 0.1 for _ in range(400)]
    assert 0.84 < sum(differs) / 400 < 0.96
    assert least_shown(20, 20, 20, 0.9, 0.9) is None, "an outcome of all trials cannot be more frequent"


# The course.


def play(course, outcome, max_trials=200):
    """Make trials of a course until it is over. `outcome` gives the verdict and title of a trial of a set."""
    for number in range(max_trials):
        subset = course.next(Costs(1.0, 5.0, dict.fromkeys(course.built, 1.0)))
        if subset is None:
            return course.result
        if subset not in course.built:
            course.builds(subset)
        else:
            course.record(JudgedTrial(subset, *outcome(subset, number)))
    raise AssertionError("the bisect does not end")


CRASH, PASS = ("crash", "panic: boom"), ("pass", "as expected")


def test_the_question_is_what_differs_most():
    result = play(Course(Case(6, confidence=0.9)), lambda subset, number: CRASH if 2 in subset else PASS)
    assert result.question == Question(title="panic: boom") and result.answer.alternatives == (frozenset({2}),)
    fixed = play(Course(Case(6)), lambda subset, number: PASS if 1 in subset else CRASH)
    assert fixed.question == Question(verdict="pass") and fixed.answer.alternatives == (frozenset({1}),)


@pytest.mark.parametrize(("units", "culprit"), [(16, 5), (60, 33)])
def test_how_many_builds_are_left_is_near(units, culprit):
    course = Course(Case(units))
    reports = []  # the builds so far, and how many are said to be left

    def outcome(subset, number):
        reports.append((len(course.built), course.builds_to_go()))
        return CRASH if culprit in subset else PASS

    assert play(course, outcome).answer.alternatives == (frozenset({culprit}),)
    assert reports[0] == (2, units.bit_length())
    for built, left in reports:
        truth = len(course.built) - built
        assert truth / 3 - 2 <= left <= 3 * truth + 3, (built, left, truth)
    assert course.builds_to_go() == 0


def test_another_crash_neither_counts_nor_diverts():
    rng = random.Random(5)
    other = ("crash", "fatal error: another one")

    def outcome(subset, number):
        if 1 in subset and rng.random() < 0.6:
            return other  # before the crash that is looked for
        return CRASH if 4 in subset and rng.random() < 0.7 else PASS

    course = Course(Case(8, question=Question(title="panic: boom")))
    result = play(course, outcome, 600)
    assert result.answer.alternatives == (frozenset({4}),)
    count = course.count(course.case.whole)
    trials = [trial for trial in course.trials if trial.subset == course.case.whole]
    assert count.others > 0 and count.trials + count.others == len(trials)


def test_a_set_that_shows_only_other_failures_is_not_tried_again():
    other = ("hang", "hang: select")
    course = Course(Case(4, question=Question(title="panic: boom")))
    result = play(course, lambda subset, number: other if subset == {0, 1} else CRASH if 3 in subset else PASS)
    assert result.answer.alternatives == (frozenset({3}),)
    assert sum(trial.subset == {0, 1} for trial in course.trials) <= 5


def test_a_set_that_no_guest_survives_is_not_tried_again():
    course = Course(Case(4))
    for _ in range(200):
        subset = course.next(Costs(1.0, 5.0, dict.fromkeys(course.built, 1.0)))
        if subset is None:
            break
        if subset not in course.built:
            course.builds(subset)
        elif subset == {2, 3}:
            course.lost(subset)
        else:
            course.record(JudgedTrial(subset, *(CRASH if 3 in subset else PASS)))
    assert course.result.answer.alternatives == (frozenset({3}),)


def test_a_crash_of_the_baseline_counts_as_another_outcome():
    course = Course(Case(4))
    result = play(course, lambda subset, number: ("hang", "hang: select") if 3 in subset else CRASH)
    assert result.question == Question(title="hang: select")
    assert result.answer.alternatives == (frozenset({3}),)


def test_without_a_difference_the_detectable_one_is_given():
    course = Course(Case(4, max_trials=15))
    result = play(course, lambda subset, number: PASS)
    assert result.answer is None and len(course.trials) == 30
    difference, chance = course.detectable()
    assert 0.1 < difference < 0.6 and chance == 0.9


def test_a_course_follows_from_its_trials():
    case = Case(9, max_trials=30)
    course = Course(case)
    rng = random.Random(7)
    play(course, lambda subset, number: CRASH if 5 in subset and rng.random() < 0.5 else PASS)
    replay = Course(case)
    for trial in course.trials:
        if trial.subset not in replay.built:
            replay.builds(trial.subset)
        replay.record(trial)
    assert replay.question == course.question
    assert replay.search.answer().alternatives == course.search.answer().alternatives
    rows = course_steps(course)
    assert sum(len(step.trials) for step in rows) == len(course.trials)
    assert [step.subset for step in rows[:2]] == [case.whole, NOTHING]
    assert rows[-1].answer.alternatives == course.result.answer.alternatives


@pytest.mark.parametrize("p1", [0.4, 1.0])
def test_of_two_culprits_one_is_named(p1):
    for seed in range(6):
        rng = random.Random(seed)
        result = play(
            Course(Case(12)),
            lambda subset, number, rng=rng: CRASH if subset & {2, 9} and rng.random() < p1 else PASS,
            400,
        )
        assert result.answer.alternatives in ((frozenset({2}),), (frozenset({9}),))
