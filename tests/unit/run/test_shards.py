"""Shards: a cut loses no trial and doubles none, keeps what is compared together, and is fair and always the same."""

import json
import random

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from harness.cli.app import main
from harness.errors import ConfigError, StoreError
from harness.programs.header import read_program
from harness.programs.model import CellKey, TrialSpec
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import ci, shards
from harness.run.request import Request
from harness.run.resolve import resolve
from harness.run.shards import Times
from tests.unit.results.test_store import TRIAL

VARIANTS = ("pristine", "other")


def cells_of(guests, programs):
    return [CellKey(f"g{g}", variant, f"s/{p}") for p in range(programs) for g in range(guests) for variant in VARIANTS]


def trials_of(shard):
    return [(*key, number) for key, numbers in shard.blocks.items() for block in numbers for number in block]


@given(
    st.integers(1, 3), st.integers(1, 12), st.integers(1, 30), st.integers(1, 9),
    st.lists(st.floats(0, 100), min_size=1, max_size=8),
)  # fmt: skip
@example(1, 2, 1, 1, [0.0, 0.0, 5e-324])
def test_every_trial_is_in_one_shard(guests, programs, trials, jobs, seconds):
    cells = cells_of(guests, programs)
    times = Times(dict(zip(cells, seconds, strict=False)))
    cut = shards.cut(cells, trials, times, jobs)
    sharded = sorted(trial for shard in cut for trial in trials_of(shard))
    blocks = sorted({(guest, program) for guest, _, program in cells})
    assert sharded == [(*block, number) for block in blocks for number in range(1, trials + 1)]
    assert len(cut) == jobs
    again = shards.cut(cells, trials, Times.from_json(json.loads(json.dumps(times.to_json()))), jobs)
    assert cut == again


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_jobs_take_about_as_long(jobs):
    cells = cells_of(1, 100)
    choose = random.Random(5)
    times = Times({cell: choose.choice([0.5, 1, 3, 60]) for cell in cells})
    seconds = [shard.seconds for shard in shards.cut(cells, 3, times, jobs)]
    assert max(seconds) - min(seconds) < 0.05 * max(seconds)
    total = 3 * sum(times.known.values()) + jobs * (shards.BOOT + 2 * shards.LIBGO)
    assert sum(seconds) == pytest.approx(total)


def test_one_long_program_is_made_by_several_jobs():
    cells = cells_of(1, 3)
    times = Times({cell: 100.0 if cell[2] == "s/1" else 1.0 for cell in cells})
    cut = shards.cut(cells, 50, times, 4)
    assert all(("g0", "s/1") in shard.blocks for shard in cut)
    assert max(shard.seconds for shard in cut) < 1.1 * min(shard.seconds for shard in cut)


def test_a_job_has_few_guests():
    cut = shards.cut(cells_of(2, 40), 1, Times(), 4)
    assert [len({guest for guest, _ in shard.blocks}) for shard in cut] == [1, 1, 1, 1]


def test_a_job_that_would_only_boot_is_empty():
    cut = shards.cut(cells_of(1, 2), 1, Times(), 4)
    assert [bool(shard.blocks) for shard in cut] == [True, True, False, False]


def test_a_shard_holds_its_trials_with_every_variant(write):
    program = read_program(write("s/0.go", "package main\n"))
    first, second = shards.cut([CellKey("g0", variant, "s/0") for variant in VARIANTS], 4, Times(), 2)
    for number in range(1, 5):
        has = {variant: first.has(TrialSpec("g0", variant, program, number)) for variant in VARIANTS}
        assert set(has.values()) == {number <= 2}
        assert second.has(TrialSpec("g0", "pristine", program, number)) == (number > 2)
    assert not first.has(TrialSpec("g1", "pristine", program, 1))


def test_what_is_not_known_is_the_median_of_its_suite_on_its_guest():
    seconds = {CellKey("g", "v", f"s/{n}"): float(n) for n in (1, 2, 9)} | {CellKey("g", "v", "t/1"): 50.0}
    of = Times(seconds).of(
        [CellKey("g", "v", "s/1"), CellKey("g", "v", "s/x"), CellKey("g", "v", "u/x"), CellKey("h", "v", "s/x")]
    )
    assert list(of.values()) == [1.0, 2.0, 5.5, 5.5]
    assert set(Times().of([CellKey("g", "v", "s/x")]).values()) == {shards.UNKNOWN}


def call(*words):
    return CliRunner().invoke(main, words)


def test_a_plan_and_its_jobs_make_the_same_cut(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    run = store.begin(RunPlan())
    cell = {"guest": "linux-i386", "variant": "pristine", "program": "threads/lock-ring"}
    for number, verdict, durations in [(1, "pass", 30.0), (2, "hang", 70.0), (2, "error", 999.0)]:
        store.add(
            run,
            TRIAL.__class__(**{**TRIAL.__dict__, **cell, "number": number, "verdict": verdict, "seconds": durations}),
        )
    times = tmp_path / "new" / "times.json"
    words = ["threads", "--trials", "2", "--variant", "pristine", "--isolation", "cell"]
    result = call("ci", "plan", *words, "--jobs", "3", "--from", str(tmp_path), "--times", str(times))
    assert result.exit_code == 0, result.output
    planned = json.loads(result.stdout)["jobs"]
    durations = ci.read_times(times).known
    assert durations == {("linux-i386", "pristine", "threads/lock-ring"): (100 + shards.RESTORE) / 2 + shards.AROUND}
    assert planned[0]["command"] == (
        f"harness run threads --times {times} --variant pristine --trials 2 --isolation cell --shard 1/3"
    )
    lines = []
    for place, job in enumerate(planned, start=1):
        request = Request(
            ("threads",),
            ("linux-i386",),
            ("pristine",),
            2,
            None,
            (),
            tmp_path,
            shard=(place, 3),
            times=ci.read_times(times),
        )
        resolved = resolve(request)
        assert job["seconds"] == round(resolved.part.seconds)
        lines += [(spec.program.name, spec.number) for spec in resolved.matrix_trials(resolved.guests, 2)]
    whole = resolve(Request(("threads",), ("linux-i386",), ("pristine",), 2, None, (), tmp_path))
    assert sorted(lines) == sorted((spec.program.name, spec.number) for spec in whole.matrix_trials(whole.guests, 2))


def test_a_plan_for_github_and_for_gitlab():
    github = call("ci", "plan", "threads", "--jobs", "2", "--format", "github").stdout
    assert len(github.splitlines()) == 1
    rows = json.loads(github)["include"]
    assert [row["shard"] for row in rows] == ["1/2", "2/2"]
    gitlab = yaml.safe_load(call("ci", "plan", "threads", "--jobs", "2", "--format", "gitlab").stdout)
    assert [job["script"] for job in gitlab.values()] == [[row["command"]] for row in rows]
    assert {job["extends"] for job in gitlab.values()} == {".harness-shard"}


def test_github_s_limit():
    job = ci.ShardJob("1/300", "", 1, "")
    with pytest.raises(ConfigError, match="at most 256 jobs"):
        ci.render([job] * 257, "github")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--shard", "3/2"), "'3/2' is not K/N"),
        (("run", "--shard", "2"), "'2' is not K/N"),
        (("run", "--times", "x.json"), "there is no --shard"),
        (("run", "--shard", "1/2", "--times", "none.json"), "none.json: cannot be read: No such file"),
        (("run", "threads/lock-ring", "--shard", "2/2"), "shard 2/2 is empty"),
        (("run", "--shard", "1/2", "--until-sure"), "it cannot be cut"),
        (("run", "--resume", "--shard", "1/2"), "shard cannot be changed"),
        (("ci", "plan", "--jobs", "2", "--from", "."), "--from and --times belong together"),
        (("ci", "plan", "--jobs", "2", "--from", "none", "--times", "x"), "none: not a work directory"),
        (("ci", "plan", "threds", "--jobs", "2"), "did you mean threads?"),
    ],
)
def test_bad_input(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2 and message in result.output


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"schema": 1, "times": [["g", "v", "p"]]}',
        '{"schema": 1, "times": 3}',
        '{"schema": 1, "times": [["g", "v", "p", NaN]]}',
    ],
)
def test_a_file_of_times_that_is_none(write, text):
    with pytest.raises(ConfigError, match="not a file of times"):
        ci.read_times(write("t.json", text))


def test_times_of_another_harness(write, tmp_path):
    with pytest.raises(ConfigError, match="has schema 9"):
        ci.times_of(write("t.json", '{"schema": 9}'))
    with pytest.raises(ConfigError, match="cannot be written"):
        ci.write_times(write("file", "") / "below", Times())
    with pytest.raises(StoreError):
        ci.times_of(write("r.sqlite", "no database" * 200))
