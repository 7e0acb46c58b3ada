"""The page: what is in the file. What a browser makes of it is in test_page_in_chromium."""

import base64
import dataclasses
import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.durations import in_words
from harness.escapes import decoded
from harness.programs.model import Expectation
from harness.results import page
from harness.results.build_matrix import build_matrix
from harness.results.lifecycle import Column, LifeCycle
from harness.results.load import output_differ
from harness.results.plan import RunPlan
from harness.results.text import SHOWN, flatten_facts, render_event
from harness.trial import lifetrace
from harness.trial.lifetrace import Sample, Trace
from tests import runs
from tests.pages import Page

PROGRAMS = runs.names(10)
EVENTS = [{"time": "2026-01-01T00:00:00Z", "guest": "hurd-i386", "kind": "panic", "text": runs.EVIL, "machine": 3}]


def matrix_of(trials, programs=PROGRAMS, **more):
    return build_matrix(runs.facts(), runs.GUESTS, runs.VARIANTS, programs, "pristine", trials, EVENTS, **more)


def page_of(trials, **more):
    return Page("".join(page.html(matrix_of(trials), trials, **more)))


@pytest.fixture(scope="module")
def report():
    return page_of(list(runs.trials(PROGRAMS)))


def test_only_our_own_script_and_style_are_allowed(report):
    (policy,) = (meta["content"] for meta in report.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    acting = [(tag, text) for tag, attrs, text in report.texts if attrs.get("type") != "text/plain"]
    assert [tag for tag, _ in acting] == ["style", "script"]
    for tag, text in acting:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_is_fetched_and_nothing_hostile_became_an_element(report):
    assert not {"img", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in report.elements}
    for tag, attrs in report.elements:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attrs), tag
    assert all(link["href"].startswith("#cell-") for link in report.all("a"))


def test_a_page_s_trials_are_the_trials(report):
    page_trials = report.trials()
    assert list(page_trials) == [trial.id for trial in runs.trials(PROGRAMS)]
    for trial in runs.trials(PROGRAMS):
        page_trial = page_trials[trial.id]
        for name in ("number", "attempt", "verdict", "reason", "signature", "seconds", "signal", "command"):
            assert page_trial[name] == getattr(trial, name)
        assert page_trial["status"] == (-1 if trial.exit_status is None else trial.exit_status)
        assert page_trial["streams"][0][3] == [decoded(trial.stdout)]


def test_a_dossier_is_text_and_a_picture():
    trials = list(runs.trials(PROGRAMS))
    crash = next(trial.id for trial in trials if trial.verdict == "crash")
    parts = {"dossier/threads": runs.HOSTILE * 2000, "dossier/screen.png": b"\x89PNG", "lifetrace": b"\0" * 9}
    page_trials = page_of(trials, collected=lambda trial: parts if trial == crash else {}).trials()
    ((name, size, _, texts),) = page_trials[crash]["parts"]
    assert name == "dossier/threads" and size.startswith(f"{2000 * len(runs.HOSTILE):,} bytes, ")
    assert sum(map(len, texts)) <= SHOWN // 4
    assert page_trials[crash]["screen"] == "iVBORw=="
    assert all(page_trial.get("screen", "") == "" for number, page_trial in page_trials.items() if number != crash)


def test_a_failed_trial_has_the_difference_from_what_was_expected_when_its_run_was_made():
    trials = list(runs.trials(PROGRAMS))
    failed = next(trial for trial in trials if trial.verdict == "fail")
    stored = {"expectations": {failed.program: Expectation(stdout=b"ok\xff\n").to_json()}}
    differ = output_differ(RunPlan.model_validate(json.loads(json.dumps(stored))))
    page_trials = page_of(trials, compared=differ).trials()
    stream, left_out, lines = page_trials[failed.id]["difference"]
    assert (stream, left_out) == ("stdout", "") and ["-", "ok", "\\xff"] in lines
    others = [trial for trial in trials if trial.program != failed.program or trial.verdict != "fail"]
    assert not any("difference" in page_trials[trial.id] for trial in others)


def test_what_trials_share_is_there_once():
    trials = [dataclasses.replace(trial, stdout=b"same " * 10_000, reason="r", command="c", stderr=b"", verdict="pass",
              signature="", stdout_total=50_000, stderr_total=0) for trial in runs.trials(PROGRAMS)]  # fmt: skip
    (only,) = page_of(trials).data("passed-0")
    assert only["streams"][0][3] == ["same " * 10_000]


@pytest.mark.parametrize("verdict", ["pass", "crash"])
def test_outputs_that_nothing_makes_smaller_are_bounded_in_all_and_the_last_are_said_to_be_missing(
    verdict, monkeypatch
):
    monkeypatch.setattr(page, "PACKED", {True: 500_000, False: 500_000})
    dice = random.Random(1)
    trials = [
        dataclasses.replace(trial, verdict=verdict, stdout=dice.randbytes(30_000), stdout_total=30_000)
        for trial in runs.trials(PROGRAMS)
    ]
    pieces = list(page.html(matrix_of(trials), trials))
    assert sum(map(len, pieces)) < 2_500_000
    page_trials = list(Page("".join(pieces)).trials().values())
    assert "streams" in page_trials[0] and "streams" not in page_trials[-1] and page_trials[-1]["command"]


def test_the_more_trials_the_less_of_each(monkeypatch):
    monkeypatch.setattr(page, "ROOM", {True: 1 << 20, False: 1 << 20})
    trials = [dataclasses.replace(trial, verdict="pass", stdout=b"x" * 50_000) for trial in runs.trials(PROGRAMS)]
    page_trial = next(iter(page_of(trials).trials().values()))
    assert sum(map(len, page_trial["streams"][0][3])) == (1 << 20) // (2 * len(trials)) // 2 * 2


@given(st.lists(st.text(max_size=30), max_size=60), st.integers(1, 400))
def test_packed_texts_are_found_by_their_numbers(texts, block):
    before, page.BLOCK = page.BLOCK, block
    try:
        packer, blocks, numbers = page.Packer("x", 1 << 20), [], []
        for text in texts:
            numbers.append(packer.add(json.dumps(text)))
            blocks += packer.blocks()
        blocks += packer.blocks(last=True)
    finally:
        page.BLOCK = before
    assert [name for name, _ in blocks] == [f"x-{place}" for place in range(len(packer.begins))]
    unpacked = [json.loads(page.unpack(data)) for _, data in blocks]
    for text, number in zip(texts, numbers, strict=True):
        place = max(place for place, begin in enumerate(packer.begins) if begin <= number)
        assert unpacked[place][number - packer.begins[place]] == text


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    trials = list(runs.trials(PROGRAMS))
    page.write(path, matrix_of(trials), trials)
    assert path.read_text().endswith("</html>")

    def broken():
        yield from trials
        raise RuntimeError("the store went away")

    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        page.write(path, matrix_of(trials), broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_trials_are_read_as_the_page_is_written():
    read, when = [], {}
    programs = runs.names(60)
    trials = list(runs.trials(programs, each=20))
    big = [dataclasses.replace(trial, stderr=trial.stderr + str(trial.id).encode() * 100) for trial in trials]
    for piece in page.html(matrix_of(trials, programs), (read.append(trial.id) or trial for trial in big)):
        when.setdefault('id="passed-0"' in piece or "passed-0" in piece, len(read))
    assert 0 < when[True] < len(trials)


def test_without_script_there_is_a_table_if_the_matrix_is_small(monkeypatch):
    trials = list(runs.trials(PROGRAMS))
    text = "".join(page.html(matrix_of(trials), trials))
    assert all(f'<td id="cell-{number}">' in text for number in range(40))
    monkeypatch.setattr(page, "PLAIN", 39)
    assert 'id="cell-0"' not in "".join(page.html(matrix_of(trials), trials))


def test_lists_are_bounded():
    programs = runs.names(page.LISTED * 3)
    trials = [
        dataclasses.replace(trial, verdict="crash", signature=f"s{trial.id}")
        for trial in runs.trials(programs, runs.GUESTS, runs.VARIANTS, each=1)
    ]
    events = EVENTS * 1000
    matrix = build_matrix({}, runs.GUESTS, runs.VARIANTS, programs, "pristine", trials, events)
    text = "".join(page.html(matrix, trials))
    assert text.count("<tr>") < 10 * page.LISTED
    assert f"The first {page.LISTED} of {len(trials)}" in text


def test_an_empty_matrix_can_be_shown():
    assert "Nothing was compared" in "".join(page.html(build_matrix({}, [], [], [], "pristine", [], []), []))


def test_facts_of_the_run_are_flat_lines():
    run = {"versions": {"qemu": "7.2"}, "patches": ["a", "b"], "jobs": 2}
    assert list(flatten_facts(run)) == [("versions.qemu", "7.2"), ("patches", "a, b"), ("jobs", "2")]


def test_what_is_not_known_of_an_event_is_told_too():
    assert render_event({"guest": "g", "text": "died", "pid": 7})["text"] == "died; pid: 7"


def test_life_cycles_are_plotted_and_their_names_are_text():
    trace = Trace(dict.fromkeys(lifetrace.EVENTS, 1), (Sample(0.0, 1, 1), Sample(0.5, 3, 9)))
    cycle = LifeCycle(runs.EVIL, runs.EVIL, {runs.EVIL: Column(runs.EVIL, [trace], {"pass": 1})})
    trials = list(runs.trials(PROGRAMS))
    page = page_of(trials, cycles=[cycle])
    assert "img" not in {tag for tag, _ in page.elements}
    curves = [attrs["d"] for tag, attrs in page.elements if tag == "path" and attrs["class"] == "curve"]
    assert curves == ["M0,60H320V0H320", "M0,80H320V0H320"]


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds, message):
    assert in_words(seconds) == message
