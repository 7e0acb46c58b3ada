"""How far a build is: the costs of its steps, those that remain, and the time to go, on machines of many speeds."""

import os
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.build import steps
from harness.build.steps import BuildEstimate, Plan, SpeedEstimate, Step, dependents, known, schedule
from tests.faults import until


def test_the_costs_are_those_of_a_whole_libgo():
    assert len(known()) > 250
    assert "internal/abi" in known()["runtime"].needs and "runtime" in (*known()["net/http"].needs, "runtime")
    costliest = sorted(known(), key=lambda name: known()[name].seconds)[-3:]
    assert "net/http" in costliest
    assert all(need in known() for step in known().values() for need in step.needs)


def test_names_are_those_of_object_files():
    assert steps.name("internal/.libs/abi.o") == "internal/abi"
    assert steps.name("net/http.lo") == steps.name("net/.libs/http.o") == "net/http"
    assert steps.name("runtime/libgobegin_a-go-main.o") == "runtime/libgobegin_a-go-main"


def test_all_that_imports_a_package_is_made_again():
    packages = dependents({"net/http"})
    assert {"net/http", "net/http/httptest", "net/rpc"} <= packages.keys()
    assert "strings" not in packages and "runtime" not in packages
    assert dependents({"no/such"}) == {}


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 10.0), (2, 7.0), (8, 7.0)])
def test_side_by_side_as_their_needs_allow(jobs, seconds):
    diamond = {
        "a": Step(1, ()),
        "b": Step(2, ("a",)),
        "c": Step(3, ("a",)),
        "d": Step(3, ("b", "c")),
        "e": Step(1, ("a",)),
    }
    assert schedule(diamond, jobs)[-1] == (seconds, 10.0)


@given(st.lists(st.tuples(st.floats(0.01, 9), st.sets(st.integers(0, 30))), max_size=30), st.integers(1, 8))
def test_no_schedule_beats_the_longest_chain_or_the_sum(rows, jobs):
    graph = {
        str(place): Step(seconds, tuple(str(need) for need in needs if need < place))
        for place, (seconds, needs) in enumerate(rows)
    }
    longest: dict[str, float] = {}
    for name, step in graph.items():
        longest[name] = step.seconds + max((longest[need] for need in step.needs), default=0)
    total = sum(step.seconds for step in graph.values())
    ends = schedule(graph, jobs)
    seconds = ends[-1][0] if ends else 0
    assert len(ends) == len(graph) and ends == sorted(ends)
    assert seconds >= max(max(longest.values(), default=0), total / jobs) - 1e-6
    assert seconds <= total + 1e-6


def build_on(speed, jobs, wobble, seed=1):
    """A whole build on a machine of some speed: every two seconds the time to go as estimated, and the real one.

    Args:
        wobble: each step takes up to this many times as long as its cost says, or as little.
    """
    rng = random.Random(seed)
    real = {
        name: Step(step.seconds * rng.uniform(1 / wobble, wobble) / speed, step.needs) for name, step in known().items()
    }
    ends = simulate(real, jobs)
    plan = Plan(known(), jobs, configures=True, listings=229)
    configuring, listing, linking = 12 / speed, 229 * 0.15 / jobs / speed, 7 / speed
    compiling = max(ends.values())
    truth = configuring + listing + compiling + linking
    estimate, reports = SpeedEstimate(plan.whole), []
    for second in range(0, int(truth), 2):
        compiled = {name for name, end in ends.items() if end <= second - configuring - listing}
        listed = int(max(0, min(1, (second - configuring) / listing)) * 229)
        reached, before = plan.reached(min(1, second / configuring), listed, compiled)
        reports.append((second, *estimate.update(reached, before, second), truth - second))
    return reports, truth


def simulate(steps_, jobs):
    """When each step ends."""
    ends, running, now = {}, [], 0.0
    waiting = {name: {need for need in step.needs if need in steps_} for name, step in steps_.items()}
    while len(ends) < len(steps_):
        for name in list(waiting):
            if len(running) < jobs and not waiting[name] - ends.keys():
                running.append((now + steps_[name].seconds, name))
                del waiting[name]
        running.sort()
        now, ended = running.pop(0)
        ends[ended] = now
    return ends


@pytest.mark.parametrize("jobs", [1, 2, 4, 16])
@pytest.mark.parametrize("speed", [0.2, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_time_to_go_is_near_and_does_not_grow(speed, jobs, seed):
    reports, truth = build_on(speed, jobs, wobble=1.25, seed=seed)
    shown = [(second, to_go, left) for second, _, to_go, left in reports if to_go is not None]
    assert shown and shown[0][0] <= 22
    least = float("inf")
    for second, to_go, left in shown:
        assert to_go <= least * 1.25 + 1e-6
        least = min(least, to_go)
        if second >= 30:  # a factor of 1.5; near the end, where one step is the whole rest, 5 % of it all
            assert left / 1.5 - 0.05 * truth <= to_go <= left * 1.5 + 0.05 * truth, (second, to_go, left)
    parts = [part for _, part, _, _ in reports]
    assert parts == sorted(parts) and parts[0] == 0 and parts[-1] > 0.9


def test_a_time_to_go_that_has_passed_is_not_shown_again():
    """A step takes fifty times as long as the machine's speed would have it."""
    estimate = SpeedEstimate(100.0)
    for second in range(2, 81, 2):
        _, least = estimate.update(second, min(second + 10, 100), second)
    shown = [estimate.update(80, 90, second)[1] for second in range(82, 600, 2)]
    assert shown[0] <= 1.25 * least
    assert shown[-1] > 2 * least, shown


def test_a_build_is_reported_from_its_first_second_to_its_end(tmp_path):
    names = ["internal/abi", "runtime", "strings"]
    reports = []
    plan = Plan({name: known()[name] for name in names}, 2, configures=True, listings=2)
    with BuildEstimate(tmp_path, plan, reports.append):
        until(lambda: reports)
        assert reports[-1] == "configuring: 0%"
        (tmp_path / "config.log").write_bytes(bytes(90_000))
        until(lambda: reports[-1] != "configuring: 0%")
        assert re.fullmatch(r"configuring: \d+%.*", reports[-1])
        (tmp_path / "Makefile").touch()
        (tmp_path / "strings.lo.dep").touch()
        until(lambda: "listing imports" in reports[-1])
        assert ", 1 of 2" in reports[-1]
        (tmp_path / "runtime.lo.dep").touch()
        (tmp_path / "internal").mkdir()
        (tmp_path / "internal" / "abi.lo").touch()
        until(lambda: "compiling" in reports[-1])
        assert ", 1 of 3" in reports[-1]
        for name in ("runtime", "strings"):
            (tmp_path / f"{name}.lo").touch()
        until(lambda: "linking" in reports[-1])
    parts = [int(re.search(r"(\d+)%", text)[1]) for text in reports]
    assert parts == sorted(parts)


def test_files_of_an_earlier_build_are_not_counted(tmp_path):
    """A copied tree holds all object files; those that are made anew are newer."""
    old = time.time() - 1000
    for name in ("runtime", "strings"):
        (tmp_path / f"{name}.lo").touch()
        os.utime(tmp_path / f"{name}.lo", (old, old))
    reports = []
    plan = Plan({name: known()[name] for name in ("runtime", "strings")}, 2)
    with BuildEstimate(tmp_path, plan, reports.append):
        until(lambda: reports)
        assert ", 0 of 2" in reports[-1]
        (tmp_path / "runtime.lo").touch()
        until(lambda: ", 1 of 2" in reports[-1])
