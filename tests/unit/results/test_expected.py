"""Known failures: what they excuse, what contradicts them, and how wrong entries are told."""

import io
import json
from datetime import date

import pytest
from rich.console import Console

from harness import conf
from harness.errors import ConfigError
from harness.results import matrix, page, terminal
from harness.results.build_matrix import build_matrix
from harness.results.expected import Entry
from harness.run.expectations import known_failures
from harness.trial.record import Trial

DAY = date(2026, 3, 1)


def entry(**more):
    fields = {
        "guest": "g",
        "variant": "*",
        "program": "s/p",
        "verdicts": ("crash",),
        "signature": "",
        "reason": "bug 1",
        "expires": DAY,
        "flaky": False,
        "where": "mine.yaml:2",
    }
    return Entry(**{**fields, **more})


def judged(verdicts, *entries, signature="panic: no", day=DAY):
    """A matrix of one cell with these verdicts."""
    trials = [
        Trial(
            number, "g", "v", "s/p", number, 1, verdict, "why", signature if verdict in ("crash", "hang") else "",
            0, "", 0.1, b"", b"", 0, 0, "t", "harness run p.go",
        )
        for number, verdict in enumerate(verdicts, 1)
    ]  # fmt: skip
    return build_matrix({}, ["g"], ["v"], ["s/p"], "base", trials, [], None, entries, day)


@pytest.mark.parametrize(
    ("verdicts", "entries", "surprise"),
    [
        ("pass pass", [], False),
        ("pass fail", [], True),
        ("crash crash", [entry()], False),
        ("crash pass", [entry()], False),
        ("pass pass", [entry()], True),
        ("pass pass", [entry(flaky=True)], False),
        ("crash fail", [entry()], True),
        ("crash fail", [entry(verdicts=("crash", "fail"))], False),
        ("crash fail", [entry(), entry(verdicts=("fail",))], False),
        ("crash", [entry(verdicts=(), signature="^panic")], False),
        ("crash", [entry(verdicts=(), signature="^fatal")], True),
        ("fail", [entry(verdicts=(), signature="why")], True),  # a reason is no signature
        ("crash", [entry(guest="h")], True),
        ("crash", [entry(guest="?", program="s/*", variant="v*")], False),
        ("pass", [entry(program="s/*")], True),
        ("error", [entry()], False),  # what is known of the program cannot be told
        ("error pass", [], False),
    ],
)
def test_what_is_a_surprise(verdicts, entries, surprise):
    judged_matrix = judged(verdicts.split(), *entries)
    assert judged_matrix.cells[0].surprise == surprise
    assert judged_matrix.totals().surprises == surprise


def test_an_entry_counts_to_its_last_day_and_is_told_of_after_it():
    assert not judged(["crash"], entry()).surprises()
    late = judged(["crash"], entry(), day=date(2026, 3, 2))
    assert late.surprises() and late.cells[0].known == 0
    assert late.expired == ["2026-03-01: crash (bug 1; mine.yaml:2)"]
    assert judged(["pass"], entry(), day=date(2026, 3, 2)).surprises() == [], "it expects nothing any more"


def shown(judged_matrix):
    stream = io.StringIO()
    terminal.print_table(judged_matrix, Console(file=stream, width=100, force_terminal=False))
    return stream.getvalue()


def test_terminal_and_page_tell_known_failures_from_surprises():
    known, stale, plain = judged(["crash"], entry()), judged(["pass"], entry()), judged(["crash"])
    assert "crash 0/1 known" in shown(known) and "expected: crash (bug 1; mine.yaml:2)" in shown(known)
    assert "1/1 ?" in shown(stale) and "all 1 passed; expected: crash (bug 1; mine.yaml:2)" in shown(stale)
    assert "crash 0/1 ?" in shown(plain) and "Expectations" not in shown(plain)
    pages = ["".join(page.html(judged_matrix, [])) for judged_matrix in (known, stale, plain)]
    assert ['value="surprise"' in text for text in pages] == [False, True, True]
    assert ['value="known"' in text for text in pages] == [True, False, False]
    assert "all 1 passed; expected: crash (bug 1; mine.yaml:2)" in pages[1]
    astray = build_matrix({}, ["g"], ["v"], ["s/p"], "base", [], [], unmatched=["mine.yaml:2: matches nothing"])
    assert "mine.yaml:2: matches nothing" in shown(astray)
    assert "<li>mine.yaml:2: matches nothing</li>" in "".join(page.html(astray, []))
    assert matrix.Matrix.from_json(astray.to_json()).unmatched == ["mine.yaml:2: matches nothing"]
    late = shown(judged(["crash"], entry(), day=date(2027, 1, 1)))
    assert "expired on 2026-03-01: crash (bug 1; mine.yaml:2)" in late


GOOD = "{program: s/p, verdict: crash, reason: bug 1, expires: 2026-03-01}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{program: s/p, verdict: crash, reason: x}", ":2: expected.0.expires: is missing"),
        ("{progam: s/p}", "did you mean program?"),
        ("{program: s/p, reason: x, expires: 2026-03-01}", "has neither verdict nor signature"),
        ("{program: s/p, verdict: pass, reason: x, expires: 2026-03-01}", "'fail', 'crash', 'hang' or 'kills guest'"),
        ("{program: s/p, signature: '(', reason: x, expires: 2026-03-01}", "is not a regular expression"),
        ("{program: s/p, verdict: crash, reason: x, expires: soon}", ":2: expected.0.expires: "),
        (f"{GOOD[:-1]}, guest: linux-i368}}", "expected.0.guest: no guest named linux-i368; did you mean linux-i386?"),
        (f"{GOOD[:-1]}, variant: pristin*}}", ""),
        (f"{GOOD[:-1]}, variant: prestine}}", "no variant named prestine; did you mean pristine?"),
    ],
)
def test_a_wrong_entry_is_named(write, text, message):
    mine = write("mine.yaml", f"expected:\n  - {text}\n")
    if not message:
        conf.load([mine])
        return
    with pytest.raises(ConfigError) as caught:
        conf.load([mine])
    assert message in str(caught.value)
    assert "mine.yaml:2" in str(caught.value)


def test_a_wrong_entry_has_its_place_in_its_own_file(write):
    first = write("one.yaml", f"expected:\n  - {GOOD}\n")
    second = write("two.yaml", f"expected:\n  - {GOOD}\n  - {GOOD.replace('crash', 'crsh')}\n")
    with pytest.raises(ConfigError, match=r"two\.yaml:3: expected\.1\.verdict\.0: "):
        conf.load([first, second])


def test_own_entries_join_the_given_ones_and_keep_their_place(write):
    given = conf.load().expected
    mine = [write(f"{name}.yaml", f"# mine\nexpected:\n  - {GOOD}\n") for name in ("a", "b")]
    loaded = conf.load(mine).expected
    assert loaded[: len(given)] == given
    assert [where for _, where in loaded[len(given) :]] == [f"{path}:3" for path in mine]
    assert all(where.startswith("conf/expected.yaml:") for _, where in given)


def test_an_entry_survives_the_store():
    for known_failure in known_failures(conf.load()):
        assert Entry.from_json(json.loads(json.dumps(known_failure.to_json()))) == known_failure
        assert known_failure.about(
            *(
                pattern.replace("*", "x")
                for pattern in (known_failure.guest, known_failure.variant, known_failure.program)
            )
        )
