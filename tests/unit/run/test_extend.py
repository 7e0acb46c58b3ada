"""A run that is extended: its cells get more trials and lose none, all else stays as it was, and what is claimed of it
allows for the results having been seen."""

import random

import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.errors import StoreError
from harness.locks import lock
from harness.progress import Reporter
from harness.results import merge, text
from harness.results.listing import lock_file
from harness.results.load import load_matrix
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import conductor
from harness.run.prepare import PreparedRun
from harness.run.request import Request, extended_request, stored_request
from harness.trial.record import Verdict
from tests.unit.run.test_conductor import InstantExecutor, outcome

VARIANTS = ("pristine", "no-sysmon")
NAMES = ("threads/lock-ring", "threads/lock-nested")


class Executor(InstantExecutor):
    """Stands in for guests: all trials pass, but those of one variant fail with a chance of its own."""

    def __init__(self, context, report, fails=0.0):
        super().__init__()
        self.specs = []
        self.fails, self.dice = fails, random.Random(1)

    def put(self, spec):
        self.specs.append(spec)
        wrong = spec.variant != "pristine" and self.dice.random() < self.fails
        self.results.put(outcome(spec, Verdict.FAIL if wrong else Verdict.PASS))


@pytest.fixture
def made_of():
    """What runs are made of: tests change it."""
    return {"origin": {"harness": "0.1.0", "compilers": {}, "images": {"linux-i386": "1"}}, "made of": {"libgo": "1"}}


@pytest.fixture(autouse=True)
def no_guests(monkeypatch, made_of):
    """Nothing is built and no guest is booted. Gives the executors of the runs."""
    executors = []

    def prepare(resolved, *_, **__):
        request = {"selection": list(resolved.request.selection), "guests": list(resolved.guests)}
        request |= {"variants": list(resolved.request.variants), "trials": resolved.request.trials}
        request |= {"until_sure": resolved.request.until_sure, "conf_files": []}
        names = {"guests": list(resolved.guests), "variants": request["variants"], "kind": resolved.request.kind}
        programs = [program.name for program in resolved.programs]
        facts = {"command": "harness run", "trials of each cell": request["trials"]}
        plan = {**names, "programs": programs, "trials": request["trials"], "facts": facts, "request": request}
        plan |= {"expected": [], "expectations": {}}
        return PreparedRun({}, {}, {}, RunPlan.model_validate({**plan, **made_of}), {})

    def worker_pool(context, report, inspect=None):
        executors.append(Executor(context, report, fails=0.9 if len(executors) > 1 else 0.0))
        return executors[-1]

    monkeypatch.setattr(conductor, "prepare_run", prepare)
    monkeypatch.setattr(conductor, "run_context", lambda *_: None)
    monkeypatch.setattr(conductor, "WorkerPool", worker_pool)
    return executors


def request(work, trials=3, **more):
    return Request(NAMES, ("linux-i386",), VARIANTS, trials, 1, (), work, **more)


def extend(work, trials, run=1):
    return conductor.run_request(extended_request(work, run, trials), Reporter(), run)


def numbers(store, run=1):
    cells = {}
    for trial in store.trials(run):
        cells.setdefault((trial.variant, trial.program), []).append(trial.number)
    return cells


def call(work, *words):
    result = CliRunner().invoke(main, ["run", *words, "--work", str(work)])
    return result.exit_code, result.output


def test_no_trial_is_made_twice_and_none_is_left_out(tmp_path, no_guests):
    store, _ = conductor.run_request(request(tmp_path), Reporter())
    before = list(store.trials(1))
    store, run = extend(tmp_path, 8)
    assert list(store.trials(1))[: len(before)] == before
    assert {spec.number for spec in no_guests[1].specs} == {4, 5, 6, 7, 8}
    assert len(numbers(store)) == 4 and all(sorted(trials) == list(range(1, 9)) for trials in numbers(store).values())
    assert (run.plan.trials, run.plan.planned, run.plan.extended, run.plan.request.trials) == (8, 32, [3], 8)
    assert run.finished and run.plan.facts["trials of each cell"] == 8
    _, run = extend(tmp_path, 9)
    assert run.plan.extended == [3, 8] and run.plan.facts["extended"] == "from 3, 8 to 9 trials of each cell"


def test_a_run_that_was_stopped_gets_all_that_it_lacks(tmp_path):
    store, _ = conductor.run_request(request(tmp_path), Reporter())
    store.db.execute("DELETE FROM trials WHERE id > 5")
    store.db.execute("UPDATE runs SET finished = NULL")
    store.db.commit()
    store, _ = extend(tmp_path, 5)
    assert all(sorted(trials) == [1, 2, 3, 4, 5] for trials in numbers(store).values()) and len(numbers(store)) == 4


def test_an_extension_that_is_stopped_is_resumed(tmp_path, monkeypatch):
    conductor.run_request(request(tmp_path), Reporter())
    with monkeypatch.context() as patch:
        patch.setattr(Executor, "put", lambda *_: (_ for _ in ()).throw(StoreError("disk full")))
        with pytest.raises(StoreError, match="disk full") as caught:
            extend(tmp_path, 6)
    assert caught.value.run == 1, "whoever tells of it can say what goes on with the run"
    before, number = stored_request(tmp_path, None)
    assert (before.trials, number) == (6, 1)
    store, _ = conductor.run_request(before, Reporter(), number)
    assert all(sorted(trials) == list(range(1, 7)) for trials in numbers(store).values())


def test_what_is_claimed_allows_for_what_was_seen(tmp_path):
    conductor.run_request(request(tmp_path), Reporter())
    store, run = conductor.run_request(request(tmp_path), Reporter())
    assert load_matrix(store, run).most is None
    store, run = extend(tmp_path, 30)
    matrix = load_matrix(store, run)
    assert matrix.most == 30 and not matrix.overall()
    assert "The run was extended, from 3 to 30 trials of each cell" in text.describe_comparisons(matrix)
    assert "Claimed: 2 cells." in text.describe_comparisons(matrix)
    with pytest.raises(StoreError, match="was extended"):
        merge.check_together([merge.source("1", tmp_path), merge.source("2", tmp_path)])


def test_a_run_until_it_is_sure_goes_on_with_more_at_most(tmp_path):
    store, _ = conductor.run_request(request(tmp_path, 6, until_sure=True), Reporter())
    assert all(len(trials) < 6 for trials in numbers(store).values()), "no outcome of the rest could have made a claim"
    store, run = extend(tmp_path, 40)
    assert (run.plan.until_sure, run.plan.extended, run.plan.facts["trials of each cell"]) == (True, [6], "at most 40")
    assert all(sorted(trials) == list(range(1, len(trials) + 1)) for trials in numbers(store).values())
    assert "Sequential test against pristine after every round" in text.describe_comparisons(load_matrix(store, run))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("made of", {"libgo": "2"}, "run 1 cannot be extended: libgo has changed since the run began"),
        ("made of", {"source of threads/lock-ring": "2", "libgo": "1"}, None),  # was not stored then
        (
            "origin",
            {"harness": "9"},
            "run 1 cannot be extended: it was made by version 0.1.0 of the harness, this is 9",
        ),
        ("origin", {"harness": "0.1.0", "images": {"linux-i386": "2"}}, "the image of linux-i386 has changed"),
    ],
)
def test_what_has_changed_is_refused_and_changes_nothing(tmp_path, made_of, part, value, message):
    store, before = conductor.run_request(request(tmp_path), Reporter())
    made_of[part] = value
    if message is None:
        assert extend(tmp_path, 4)[1].plan.trials == 4
        return
    with pytest.raises(StoreError, match=message):
        extend(tmp_path, 4)
    assert store.run(1) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--extend", "1"), "--extend needs --trials, how many trials each cell is to have"),
        (("--extend", "1", "--trials", "3"), "run 1 has 3 trials of each cell already; --trials must be more"),
        (("--extend", "1", "--trials", "2"), "run 1 has 3 trials of each cell already; --trials must be more"),
        (("--extend", "7", "--trials", "5"), "there is no run 7; the newest is 1"),
        (("threads", "--extend", "1", "--trials", "5"), "--extend goes on with what the run was asked for; selection"),
        (("--extend", "1", "--trials", "5", "--guest", "x"), "guests cannot be changed"),
        (("--extend", "1", "--resume", "--trials", "5"), "--resume and --extend do not go together"),
    ],
)
def test_bad_input(tmp_path, words, message):
    conductor.run_request(request(tmp_path), Reporter())
    status, output = call(tmp_path, *words)
    assert status == 2 and message in output and len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bisect": {}, "resumable": False}, "run 1 is a bisect"),
        ({"request": {"design": {"libgos": ["pristine"]}}}, "run 1 is an experiment of `harness attribute`"),
        ({"kind": "pytest", "resumable": False}, "run 1 was made by pytest"),
        ({"request": {"shard": [1, 4]}}, "run 1 is a shard"),
        ({"request": None}, "run 1 was made by an older version"),
    ],
)
def test_runs_that_cannot_be_extended(tmp_path, changes, message):
    store, run = conductor.run_request(request(tmp_path), Reporter())
    store.replan(1, run.plan.with_changes(changes))
    status, output = call(tmp_path, "--extend", "1", "--trials", "5")
    assert status == 2 and message in output and len(output.splitlines()) == 1


def test_one_that_was_stopped_before_so_many_is_resumed(tmp_path):
    store, _ = conductor.run_request(request(tmp_path), Reporter())
    store.db.execute("UPDATE runs SET finished = NULL")
    store.db.commit()
    status, output = call(tmp_path, "--extend", "1", "--trials", "3")
    assert status == 2 and "run 1 was to make 3 trials of each cell already" in output and "--resume 1" in output


def test_a_run_that_is_being_made_is_refused(tmp_path):
    conductor.run_request(request(tmp_path), Reporter())
    with lock(lock_file(tmp_path, 1)):
        status, output = call(tmp_path, "--extend", "1", "--trials", "5")
    assert status == 2 and output == "harness: run 1 is in use by another harness\n"


def test_a_merged_run_is_extended_like_any_other(tmp_path):
    for name in "ab":
        conductor.run_request(request(tmp_path / name), Reporter())
    sources = [merge.source(str(tmp_path / name), tmp_path) for name in "ab"]
    merge.merge(sources, tmp_path)
    store, run = extend(tmp_path, 9)
    assert run.plan.run_kind == "merge" and run.plan.resumable and run.plan.extended == [3]
    assert all(sorted(trials) == list(range(1, 10)) for trials in numbers(store).values()) and len(numbers(store)) == 4
    assert Store(tmp_path / "a" / "results.sqlite").run(1).plan.trials == 3


def test_what_the_workers_of_pytest_made_stays_pytest_s(tmp_path):
    for name in "ab":
        conductor.run_request(request(tmp_path / name, kind="pytest"), Reporter())
    merge.merge([merge.source(str(tmp_path / name), tmp_path) for name in "ab"], tmp_path)
    with pytest.raises(StoreError, match="was made by pytest, which chose its trials; it cannot be extended"):
        extended_request(tmp_path, 1, 9)
