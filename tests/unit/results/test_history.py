"""What all runs say of each cell: what is gone, what got worse, what is left out; and the page of all runs."""

import json
import re

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.app import main
from harness.cli.output import show_run, write_index
from harness.errors import StoreError
from harness.programs.model import CellKey
from harness.results import index
from harness.results.build_matrix import build_matrix
from harness.results.history import OutcomeCount, collect
from harness.results.listing import list_runs
from harness.results.load import load_history
from harness.results.page import unpack
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial, Verdict
from tests import runs

CELL = CellKey("g", "v", "s/p")
TITLE = "SIGSEGV in main.f"


def history(*crashes, trials=10, title=TITLE, cell=CELL):
    """The history of a cell, of which so many of the trials of each run crashed."""
    outcomes = []
    for run, number in enumerate(crashes, start=1):
        outcomes.append(OutcomeCount(run, cell, Verdict.PASS, "", trials - number))
        if number:
            outcomes.append(OutcomeCount(run, cell, Verdict.CRASH, title, number))
    (cell_history,) = collect(outcomes).cells
    return cell_history


def test_a_flake_that_is_there():
    cell = history(1, 0, 2, 0)
    (title,) = cell.titles
    assert (title.title, title.trials, title.first, title.last, title.silence) == (TITLE, 3, 1, 3, 10)
    assert title.p == pytest.approx((30 / 40) ** 2) and not title.gone and cell.live
    assert (cell.passed, cell.trials) == (37, 40) and cell.interval[0] < 37 / 40 < cell.interval[1]


def test_a_flake_that_is_gone():
    cell = history(3, 2, *[0] * 8)
    (title,) = cell.titles
    assert title.p == pytest.approx((20 / 100) ** 4) and title.gone and not cell.live


def test_what_was_seen_once_is_never_gone():
    assert not history(1, *[0] * 500).titles[0].gone


def test_what_comes_again_is_back():
    assert not history(3, 2, *[0] * 8, 1).titles[0].gone


@given(st.lists(st.integers(0, 10), min_size=1, max_size=30))
def test_more_silence_is_never_less_of_it(crashes):
    before, after = history(*crashes).titles, history(*crashes, 0).titles
    assert [title.title for title in before] == [title.title for title in after]
    for old, new in zip(before, after, strict=True):
        assert 0 < new.p <= old.p <= 1 and new.silence == old.silence + 10


def test_a_rate_that_rose():
    rise = history(0, 1, 0, 9).rise
    assert (rise.passed, rise.trials, rise.before_passed, rise.before_trials) == (1, 10, 29, 30)
    assert rise.p_corrected < 0.05
    assert history(9, 9, 0).rise is None, "it fell"
    assert history(0, 0, 1).rise is None and history(9).rise is None


def test_of_many_cells_chance_makes_some_worse():
    outcomes = []
    for place in range(200):
        cell = CellKey("g", "v", f"s/p{place}")
        for run, bad in ((1, 1), (2, 5 if place == 7 else 1)):
            outcomes += [
                OutcomeCount(run, cell, Verdict.PASS, "", 10 - bad),
                OutcomeCount(run, cell, Verdict.HANG, "h", bad),
            ]
    assert not [cell for cell in collect(outcomes).cells if cell.rise]


def test_errors_are_no_outcome_unless_the_guest_died_of_the_program():
    others = [CellKey("g", "v", f"s/other{place}") for place in range(40)]
    outcomes = [OutcomeCount(1, other, Verdict.PASS, "", 5) for other in others]
    outcomes += [
        OutcomeCount(1, CELL, Verdict.ERROR, "panic: kalloc failed; below it the console", 6),
        OutcomeCount(1, CELL, Verdict.PASS, "", 4),
        OutcomeCount(1, others[0], Verdict.ERROR, "the disk is full", 3),
    ]
    cells = {cell.cell: cell for cell in collect(outcomes).cells}
    assert (cells[CELL].passed, cells[CELL].trials) == (4, 10)
    assert cells[CELL].titles[0].verdict == Verdict.KILLS
    assert cells[others[0]].trials == 5 and not cells[others[0]].titles


def store_of(folder, verdicts, **plan):
    """A store with a run, of whose cell the trials came to these verdicts."""
    store = Store(folder / "results.sqlite")
    whole = {"guests": ["g"], "variants": ["v"], "programs": ["s/p"], "facts": {"command": "harness run s"}, **plan}
    run = store.begin(RunPlan.model_validate(whole))
    for number, verdict in enumerate(verdicts, start=1):
        title = TITLE if verdict == "crash" else ""
        store.add(
            run,
            Trial(0, "g", whole["variants"][0], whole["programs"][0], number, 1, verdict, "why", title, 0, "", 0.1,
                  b"", b"", 0, 0, "t", "c"),
        )  # fmt: skip
    store.finish(run)
    return store


def test_it_counts_as_the_matrix_does(tmp_path):
    store = store_of(tmp_path, ["pass", "crash", "error", "hang", "pass"])
    store_of(tmp_path, ["pass"])
    (cell,) = load_history(store, tmp_path).cells
    matrix = build_matrix({}, ["g"], ["v"], ["s/p"], "v", store.trials(1), [])
    assert (cell.runs[0].passed, cell.runs[0].trials) == (matrix.cells[0].passed, matrix.cells[0].trials) == (2, 4)
    titles = {(finding.verdict, finding.title) for finding in matrix.cells[0].findings if finding.verdict != "error"}
    assert set(cell.runs[0].titles) == titles and [counts.run for counts in cell.runs] == [1, 2]


def test_what_is_left_out(tmp_path):
    store = store_of(tmp_path, ["pass"])
    store_of(tmp_path, ["crash"], bisect={"request": {}})
    store_of(tmp_path, ["crash"], shard={"numbers": [1], "of": 2})
    store_of(tmp_path, ["pass"], merged=[f"run 3 of {tmp_path} (shard 1/2)", "run 1 of /elsewhere"])
    (cell,) = load_history(store, tmp_path).cells
    assert [counts.run for counts in cell.runs] == [1, 4]


def test_some_programs(tmp_path):
    store = store_of(tmp_path, ["pass"])
    store_of(tmp_path, ["pass"], programs=["t/q"])
    for word, programs in (("s", ["s/p"]), ("t/q", ["t/q"]), ("*/q", ["t/q"])):
        assert [cell.cell.program for cell in load_history(store, tmp_path, [word]).cells] == programs
    with pytest.raises(StoreError, match="s/gone: no trial of it in "):
        load_history(store, tmp_path, ["s", "s/gone"])


def shown(folder, *words, status=0):
    result = CliRunner().invoke(main, ["history", *words, "--work", str(folder)])
    assert result.exit_code == status, result.output
    return result.output


def test_the_terminal_and_json_show_it(tmp_path):
    for crashes in (3, 2, 0, 0, 0, 0, 0, 0, 0):
        store_of(tmp_path, ["crash"] * crashes + ["pass"] * (10 - crashes))
    store_of(tmp_path, ["pass"] * 9 + ["crash"], programs=["s/live"])
    store_of(tmp_path, ["pass"], programs=["s/never"])
    text = shown(tmp_path)
    assert text.index("s/live, g, v") < text.index("s/p, g, v"), "what still goes wrong comes first"
    assert "85 of 90 trials passed, 88 to 98 %, in 9 runs, 1 to 9" in text
    assert f"crash 5 times, in runs 1 to 2: {TITLE} (gone: not in the 70 trials since, p 0.00244)" in " ".join(
        text.split()
    )
    assert "3 cells: 1 go wrong, 1 did and are over it, 1 never did." in text and "index.html" in text
    data = json.loads(shown(tmp_path, "s/p", "--format", "json"))
    assert data["schema"] == 1 and [cell["program"] for cell in data["cells"]] == ["s/p"]
    assert data["cells"][0]["titles"][0]["gone"] is True and len(data["cells"][0]["runs"]) == 9


def test_nothing_to_tell_of(tmp_path):
    assert "no run has been made here" in shown(tmp_path, status=2)
    store_of(tmp_path, ["pass"])
    assert "gone: no trial of it" in shown(tmp_path, "gone", status=2)


def test_a_run_that_cannot_be_read_spoils_no_other(tmp_path, capsys):
    store = store_of(tmp_path, ["pass"])
    store_of(tmp_path, ["pass"])
    with store.db:
        store.db.execute("UPDATE trials SET verdict = 'later' WHERE run = 1")
    with pytest.raises(SystemExit) as exit_info:
        show_run(store, store.run(2), None, tmp_path)
    assert exit_info.value.code == 0
    stderr = capsys.readouterr().err
    assert "all runs was not written: the results cannot be read: a trial of run 1 has the unknown verdict" in stderr


def test_the_page_of_all_runs_lists_each_with_kind_state_and_the_pages_that_there_are(tmp_path):
    store = store_of(tmp_path, ["pass", "crash"])
    for kind, page in (("rerun", "report"), ("bisect", "bisect"), ("attribute", "attribution"), ("pytest", "")):
        run = store.begin(store.run(1).plan.with_changes({"kind": kind}))
        if page:
            folder = tmp_path / "runs" / str(run)
            folder.mkdir(parents=True)
            (folder / f"{page}.html").touch()
    page = write_index(store, tmp_path, load_history(store, tmp_path)).read_text()
    cells = re.findall(r"<td>(run|rerun|bisect|attribute|pytest)</td>\n<td>(done|stopped)", page)
    assert cells == [(kind, "stopped") for kind in ("pytest", "attribute", "bisect", "rerun")] + [("run", "done")]
    addresses = re.findall(r'href="(runs[^"]*)"', page)
    assert addresses == ["runs/4/attribution.html", "runs/3/bisect.html", "runs/2/report.html"]


def test_the_page_of_all_runs_holds_nothing_raw(tmp_path):
    evil = runs.EVIL.encode("utf-8", "replace").decode()  # SQLite takes no half surrogate pairs
    store = store_of(tmp_path, ["crash", "pass"], programs=[evil], facts={"command": evil})
    entries = [index.RunEntry(run, {}) for run in list_runs(store, tmp_path).runs]
    index.write(tmp_path / "index.html", entries, [store.run(1)], load_history(store, tmp_path))
    text = (tmp_path / "index.html").read_text()
    assert evil not in text and "\x1b" not in text and "\u202e" not in text
    packed = text.split('id="index">')[1].split("<")[0]
    (row,) = json.loads(unpack(packed))["rows"]
    assert row[1:3] == ["g", "v"] and row[4] == [[0, 1, 2, 0, 2]] and "\x1b" not in row[0]
