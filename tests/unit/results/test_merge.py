"""Merging: shards come to the matrix of one run, nothing is lost or counted twice, and strangers are refused."""

import itertools
import random
from dataclasses import replace

import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.errors import StoreError
from harness.guest.workspace import SCREENS
from harness.programs.model import CellKey
from harness.results import merge as merging
from harness.results.load import load_matrix
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import shards
from harness.run.request import stored_request
from harness.run.shards import Times
from harness.trial import cores
from harness.trial.record import Trial

GUESTS, VARIANTS, PROGRAMS = ["g1", "g2"], ["pristine", "other"], [f"s/p{n}" for n in range(6)]
TRIALS = 4
CELLS = [CellKey(guest, variant, program) for program in PROGRAMS for guest in GUESTS for variant in VARIANTS]


def plan_of(guests, programs, shard=None):
    return {
        "guests": guests,
        "variants": VARIANTS,
        "programs": programs,
        "trials": TRIALS,
        "expected": [],
        "expectations": {name: {"exit_status": 0} for name in programs},
        "facts": {"gcc": {"t": "GCC"}, "kernel": {guest: "k" for guest in guests}, "command": "c"},
        "origin": {"harness": "1", "compilers": {"t": "GCC"}, "images": {guest: "i" for guest in guests}},
        "made of": dict.fromkeys([f"libgo {v}" for v in VARIANTS] + [f"program {p}" for p in programs], "h"),
        "request": {
            "selection": ["s"], "guests": GUESTS, "variants": VARIANTS, "trials": TRIALS, "jobs": None, "shard": None,
            "conf_files": [], "cores": False, "isolation": "on-trouble", "until_sure": False, "times": [],
        },
    } | ({"shard": shard} if shard else {})  # fmt: skip


def rows_of(choose, key, number):
    """What came of one trial: perhaps errors, and then perhaps a verdict."""
    spoilt = choose.choice([0, 0, 0, 1, 3])
    verdicts = ["error"] * spoilt + ([choose.choice(["pass", "pass", "fail", "crash"])] if spoilt < 3 else [])
    for attempt, verdict in enumerate(verdicts, start=1):
        title = "SIGSEGV in main.f" if verdict == "crash" else ""
        end = (choose.random(), f"{key}{number}".encode(), b"", 9, 0, "2026-11-01T00:00:00+00:00", "harness run")
        yield Trial(0, *key, number, attempt, verdict, "why", title, 0, "", *end)


def make_store(work, trials, plan, finished=True):
    """A store with one run."""
    store = Store(work / "results.sqlite")
    run = store.begin(RunPlan.model_validate(plan))
    for trial in trials:
        store.add(run, trial, {"console": trial.stdout} if trial.verdict == "crash" else {})
    store.event(run, plan["guests"][0], f"trouble in {work.name}")
    store.took(run, "libgo pristine", "configuring", 1, 2.5)
    if finished:
        store.finish(run)
    return work


def sharded(tmp_path, jobs=3, seed=1):
    """The stores of the shards of a matrix, and the one of the same outcomes in one run."""
    choose = random.Random(seed)
    outcomes = {(key, number): list(rows_of(choose, key, number)) for number in range(1, TRIALS + 1) for key in CELLS}
    whole = make_store(tmp_path / "whole", itertools.chain(*outcomes.values()), plan_of(GUESTS, PROGRAMS))
    cut = shards.cut(CELLS, TRIALS, Times(), jobs)
    folders = []
    for number, shard in enumerate(cut, start=1):
        own = [name for name in PROGRAMS if any(name == program for _, program in shard.blocks)]
        guests = [name for name in GUESTS if any(name == guest for guest, _ in shard.blocks)]
        shard_fields = {"numbers": [number], "of": jobs, "all": list(range(1, jobs + 1)), "cut": "c"}
        trials = [
            trial
            for (key, place), rows in outcomes.items()
            if any(place in block for block in shard.blocks.get((key[0], key[2]), ()))
            for trial in rows
        ]
        plan = plan_of(guests, own, shard_fields | {"guests": GUESTS, "programs": PROGRAMS})
        folders.append(make_store(tmp_path / f"shard{number}", trials, plan))
    return folders, whole


def merged(folders, work):
    merge = merging.merge([merging.source(str(folder), work) for folder in folders], work, [SCREENS])
    store = Store(work / "results.sqlite")
    return merge, store, store.run(merge.number)


def cells(store, run):
    """The matrix without what differs by right: numbers of trials, and facts of the run."""
    matrix = load_matrix(store, run).to_json()
    for cell in matrix["cells"]:
        cell["ids"] = len(cell["ids"])
        for finding in cell["findings"]:
            finding["trial"] = 0
    return {name: value for name, value in matrix.items() if name not in ("run", "events", "times")}


@pytest.mark.parametrize("seed", range(4))
def test_shards_come_to_the_matrix_of_one_run(tmp_path, seed):
    folders, whole = sharded(tmp_path, seed=seed)
    expected = cells(Store(whole / "results.sqlite"), Store(whole / "results.sqlite").run(1))
    for order in (folders, folders[::-1], [*folders, folders[0]]):
        merge, store, run = merged(order, tmp_path / "merged")
        assert cells(store, run) == expected
        assert run.finished and not merge.lacking and not merge.further
        assert bool(merge.twice) == (len(order) > 3)
        assert len(store.events(run.id)) == 3
        (took,) = store.times(run.id)
        assert (took["times"], took["seconds"]) == (3, 7.5)
        crashed = [trial for trial in store.trials(run.id) if trial.verdict == "crash"]
        assert crashed and all(store.collected(trial.id) == {"console": trial.stdout} for trial in crashed)


def test_step_by_step_comes_to_the_same(tmp_path):
    (first, second, third), whole = sharded(tmp_path)
    merge, store, run = merged([first, third], tmp_path / "half")
    assert merge.lacking == ["shard 2/3 is not there or has not finished"] and run.finished is None
    merge, store, run = merged([tmp_path / "half", second], tmp_path / "merged")
    assert not merge.lacking and run.finished
    assert cells(store, run) == cells(Store(whole / "results.sqlite"), Store(whole / "results.sqlite").run(1))


def test_trials_that_were_made_again_all_count(tmp_path):
    key = CELLS[0]
    (failed,) = [replace(trial, verdict="fail") for trial in rows_of(random.Random(1), key, 1)][:1]
    passed = replace(failed, verdict="pass", seconds=7.0)
    spoilt = replace(failed, verdict="error", seconds=0.0)
    other = replace(failed, number=TRIALS)
    plan = plan_of(GUESTS, PROGRAMS)
    folders = [
        make_store(tmp_path / name, rows, plan) for name, rows in [("a", [failed, other]), ("b", [spoilt, passed])]
    ]
    merge, store, run = merged(folders, tmp_path / "merged")
    assert merge.further == 1
    rows = [(trial.number, trial.attempt, trial.verdict) for trial in store.trials(run.id)]
    assert rows == [(1, 1, "error"), (1, 2, "fail"), (TRIALS + 1, 1, "pass"), (TRIALS, 1, "fail")]
    cell = load_matrix(store, run).cells[0]
    assert (cell.passed, cell.trials, cell.errors, cell.lost) == (1, 3, 1, 0)


def test_a_trial_that_was_judged_anew_in_one_store_is_the_same_trial(tmp_path):
    (trial,) = list(rows_of(random.Random(1), CELLS[0], 1))[:1]
    first = make_store(tmp_path / "a", [replace(trial, verdict="fail")], plan_of(GUESTS, PROGRAMS))
    second = make_store(tmp_path / "b", [replace(trial, verdict="crash", signature="x")], plan_of(GUESTS, PROGRAMS))
    merge, store, run = merged([first, second], tmp_path / "merged")
    assert (merge.twice, merge.further) == (1, 0)
    assert [row.verdict for row in store.trials(run.id)] == ["fail"]


def test_the_texts_that_parts_were_made_of_come_along(tmp_path):
    plan = plan_of(GUESTS, PROGRAMS)
    plan["made of"] |= {"source of s/p0": "key", "source of s/p1": "lost"}
    folder = make_store(tmp_path / "a", [], plan)
    Store(folder / "results.sqlite").keep({"key": b"package main"})
    _, store, _ = merged([folder], tmp_path / "merged")
    assert store.text("key") == b"package main" and store.text("lost") is None


def test_twins_c_programs_and_preloads_come_along(tmp_path):
    plans = [plan_of(GUESTS, PROGRAMS[:2]), plan_of(GUESTS, PROGRAMS[1:3]), plan_of(GUESTS, PROGRAMS[3:])]
    plans[0] |= {"twins": {"s/p0": "s/p1"}, "c_programs": ["s/p1"], "besides_libgo": {"other": ["slow-exit"]}}
    plans[1] |= {"twins": {"s/p2": "s/p1"}, "c_programs": ["s/p1"], "besides_libgo": {"other": ["slow-exit"]}}
    folders = [make_store(tmp_path / name, [], plan) for name, plan in zip("abc", plans, strict=True)]
    _, store, run = merged(folders, tmp_path / "merged")
    assert run.plan.twins == {"s/p0": "s/p1", "s/p2": "s/p1"}
    assert (run.plan.c_programs, run.plan.besides_libgo) == (["s/p1"], {"other": ["slow-exit"]})
    assert load_matrix(store, run).experiment.is_control("s/p1", "other", "pristine") is False


def change(path, value):
    def put(plan):
        at = plan
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return put


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (change(["made of", "libgo other"], "x"), "they differ in libgo other"),
        (change(["made of", "program s/p0"], "x"), "program s/p0"),
        (change(["origin", "compilers", "t"], "GCC 13"), "the compilers of t"),
        (change(["origin", "images", "g2"], "x"), "the image of g2"),
        (change(["origin", "harness"], "2"), "the version of the harness"),
        (change(["expected"], [{"guest": "g1"}]), "the known failures"),
        (change(["expectations", "s/p1"], {"exit_status": 2}), "what is expected of s/p1"),
        (change(["request", "isolation"], "trial"), "isolation"),
        (change(["request", "variants"], ["pristine"]), "libgo variants"),
        (change(["shard", "cut"], "x"), "how the matrix was cut"),
        (
            change(["made of"], dict.fromkeys(["libgo other", *(f"program {n}" for n in PROGRAMS)], "x")),
            "s/p1 and 4 more",
        ),
    ],
)
def test_what_does_not_belong_together(tmp_path, put, message):
    plans = [plan_of(GUESTS, PROGRAMS, {"numbers": [n], "of": 2, "cut": "c"}) for n in (1, 2)]
    put(plans[1])
    folders = [make_store(tmp_path / name, [], plan) for name, plan in zip("ab", plans, strict=True)]
    with pytest.raises(StoreError, match=r"does not belong to run 1 of .*a") as error:
        merged(folders, tmp_path / "merged")
    assert message in str(error.value)
    assert not (tmp_path / "merged").exists()


def test_runs_that_cannot_be_parts(tmp_path):
    sure, old = plan_of(GUESTS, PROGRAMS), plan_of(GUESTS, PROGRAMS)
    sure["request"]["until_sure"] = True
    del old["origin"]
    for plan, message in [(sure, "made with --until-sure"), (old, "an older version")]:
        folder = make_store(tmp_path / message.split()[0], [], plan)
        with pytest.raises(StoreError, match=message):
            merged([folder], tmp_path / "merged")


def test_all_of_it_or_nothing(tmp_path, monkeypatch):
    folders, _ = sharded(tmp_path)
    work = tmp_path / "merged"
    read, calls = Store.row, itertools.count()

    def row(store, number):
        if next(calls) == 20:
            raise OSError(28, "No space left on device")
        return read(store, number)

    monkeypatch.setattr(Store, "row", row)
    with pytest.raises(StoreError, match=r"cannot be put together: .*No space left"):
        merged(folders, work)
    assert not Store(work / "results.sqlite").runs() and not list(work.glob("runs/*"))
    merge, _, run = merged(folders, work)
    assert (merge.number, bool(run.finished)) == (1, True)


def test_files_come_along(tmp_path):
    crash = replace(next(rows_of(random.Random(1), CELLS[0], 1)), verdict="crash", signature="s", exit_status=None)
    again = replace(crash, seconds=99.0)
    folders = []
    for name, trial in [("a", crash), ("b", again)]:
        core = cores.place(tmp_path / name / "runs" / "1" / "cores", *CELLS[0], 1)
        core.parent.mkdir(parents=True)
        core.write_text(name)
        core.with_suffix(".txt").write_text(f"stacks {name}")
        (tmp_path / name / SCREENS).mkdir()
        (tmp_path / name / SCREENS / f"{name}.png").write_text("png")
        trial = replace(trial, reason=f"SIGSEGV; core: /elsewhere/runs/1/cores/g1/{core.name}")
        folders.append(make_store(tmp_path / name, [trial], plan_of(GUESTS, PROGRAMS)))
    _, store, run = merged(folders, tmp_path / "merged")
    kept = tmp_path / "merged" / "runs" / "1" / "cores"
    for trial, name in zip(store.trials(run.id), "ab", strict=True):
        core = cores.place(kept, *CELLS[0], trial.number)
        assert core.read_text() == name and core.with_suffix(".txt").read_text() == f"stacks {name}"
        assert trial.reason == f"SIGSEGV; core: {core}"
    assert {file.name for file in (tmp_path / "merged" / SCREENS).iterdir()} == {"a.png", "b.png"}


def call(*words, work):
    return CliRunner().invoke(main, ["merge", *map(str, words), "--work", str(work)])


def test_the_command(tmp_path):
    good = [replace(next(rows_of(random.Random(1), key, 1)), verdict="pass") for key in CELLS]
    shard_fields = {"of": 2, "all": [1, 2], "cut": "c", "guests": GUESTS, "programs": PROGRAMS}
    first = make_store(tmp_path / "a", good[::2], plan_of(GUESTS, PROGRAMS, shard_fields | {"numbers": [1]}))
    make_store(first, good[:1], plan_of(GUESTS, PROGRAMS[:1], shard_fields | {"numbers": [1]}))
    second = make_store(tmp_path / "b", good[1::2], plan_of(GUESTS, PROGRAMS, shard_fields | {"numbers": [2]}))
    work = tmp_path / "merged"
    result = call(f"{first}#1", second / "results.sqlite", work=work)
    assert result.exit_code == 0 and "✔ 1/1" in result.stdout and (work / "runs" / "1" / "report.html").is_file()
    result = call(1, first, work=work)
    assert result.exit_code == 0 and "1 trial was there twice, and counts once" in result.stderr
    result = call(first, work=work)
    assert result.exit_code == 3 and "shard 2/2 is not there or has not finished" in result.stderr
    bad = make_store(tmp_path / "c", [replace(good[1], verdict="fail", seconds=3.0)], plan_of(GUESTS, PROGRAMS))
    result = call(f"{first}#1", second, bad, work=work)
    assert result.exit_code == 1 and "1 trial was made again, and counts" in result.stderr


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("none", "none: is not a run's number, no work"),
        ("7", "no run has been made here"),
        ("{}#9", "there is no run 9"),
        ("{}/x", "no work directory"),
    ],
)
def test_bad_input(tmp_path, word, message):
    folder = make_store(tmp_path / "a", [], plan_of(GUESTS, PROGRAMS))
    result = call(word.format(folder), work=tmp_path / "merged")
    assert result.exit_code == 2 and message in result.output and len(result.output.splitlines()) == 1


def test_a_merged_run_does_not_go_on_by_itself(tmp_path):
    folders, _ = sharded(tmp_path)
    merged(folders[:2], tmp_path / "merged")
    with pytest.raises(StoreError, match="merged from other runs"):
        stored_request(tmp_path / "merged", 1)
