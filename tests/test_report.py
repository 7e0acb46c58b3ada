"""What a reader sees: the terminal at its worst, and a page in which nothing that a program wrote can act."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.results import report
from harness.results.lifecycle import Column, LifeCycle
from harness.results.matrix import Trial, build
from harness.trial import lifetrace
from harness.trial.lifetrace import Sample, Trace

HOSTILE = b"</script><script>alert(1)</script><!--<script>\x1b]0;owned\x07\xff\x00 \xe2\x80\xa8 &amp;\n"
EVIL = "'\"><img src=x onerror=alert(1)>\x1b[2J\u202e\udcff"
PROGRAMS = [f"threads/lock-exit-{n}" for n in range(10)] + [f"gotest/chan/select{n}" for n in range(10)]
VARIANTS = ["pristine", "no-thread-destruction"]
EVENTS = [{"time": "2025-01-01T00:00:00Z", "guest": "hurd-i386", "kind": "panic", "text": EVIL, "machine": 3}]


def sample(guests=("hurd-i386",)):
    """Twenty programs, five trials each; the first crashes with pristine, the second is flaky, the third spoilt."""
    number = 0
    for guest in guests:
        for place, program in enumerate(PROGRAMS):
            for variant in VARIANTS:
                for turn in range(1, 6):
                    number += 1
                    bad = variant == "pristine" and (place == 0 or (place == 1 and turn > 3))
                    verdict = "error" if place == 2 and turn == 1 else "crash" if bad else "pass"
                    yield Trial(
                        number, guest, variant, program, turn, 1, verdict, "" if verdict == "pass" else EVIL,
                        EVIL if bad else "", None if bad else 0, "SIGSEGV" if bad else "", 0.25, HOSTILE, HOSTILE,
                        len(HOSTILE), len(HOSTILE), "2025-01-01T00:00:00Z", f"harness again {number}",
                    )  # fmt: skip


def matrix_of(guests=("hurd-i386",), run=None):
    return build(run or {"note": EVIL}, guests, VARIANTS, PROGRAMS, "pristine", sample(guests), EVENTS)


class Page(HTMLParser):
    """The elements of a page, and the text of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, attrs, text = self.texts[-1]
            self.texts[-1] = (tag, attrs, text + data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def data(self, identity):
        (text,) = (text for _, attrs, text in self.texts if attrs.get("id") == identity)
        return json.loads(text)


@pytest.fixture(scope="module")
def page():
    return Page("".join(report.html(matrix_of(), sample())))


def printed(matrix, width=80, encoding="utf-8", **more):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict" if encoding == "ascii" else "surrogateescape")
    report.print_table(matrix, Console(file=stream, width=width, **more))
    stream.flush()
    return raw.getvalue().decode(encoding, "surrogateescape")


def test_eighty_columns_hold_the_table_and_all_but_commands():
    text = printed(matrix_of())
    assert all(cell_len(line) <= 80 for line in text.splitlines() if "$ " not in line)
    assert sum(line.startswith("program") for line in text.splitlines()) == 1
    assert "✖ crash 0/5" in text and "~ flaky 3/5" in text and "✔ 4/4 !1" in text


def test_no_byte_of_a_program_reaches_the_terminal_raw():
    text = printed(matrix_of())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "\\x1b[2J" in text


def test_a_dossier_is_text_and_a_picture_in_the_page_and_text_in_the_terminal():
    parts = {"dossier/threads": HOSTILE * 2000, "dossier/screen.png": b"\x89PNG", "lifetrace": b"\0" * 9}
    shown = Page("".join(report.html(matrix_of(), sample(), (), lambda trial: parts if trial == 1 else {})))
    data = shown.data("trial-1")
    assert list(data["parts"]) == ["dossier/threads"] and data["screen"] == "iVBORw=="
    assert sum(map(len, data["parts"]["dossier/threads"]["parts"])) <= report.PART
    assert shown.data("trial-2")["screen"] == "" and not shown.all("img")
    stream = io.StringIO()
    report.print_trial(7, next(sample()), parts, [], ["harness rerun 1"], Console(file=stream))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", stream.getvalue())
    assert f"dossier/threads ({2000 * len(HOSTILE):,} bytes" in stream.getvalue() and "PNG" not in stream.getvalue()
    assert stream.getvalue().endswith("$ harness again 1\n$ harness rerun 1\n")


def test_ascii_streams_get_ascii():
    text = printed(matrix_of(), encoding="ascii")
    assert text.isascii()
    assert "X crash 0/5" in text and "+ 5/5" in text


def test_colour_only_where_it_is_wanted():
    assert "\x1b[" not in printed(matrix_of())
    assert "\x1b[" in printed(matrix_of(), force_terminal=True, color_system="standard")


def test_a_guest_s_columns_stay_together_when_the_table_is_split():
    heads = [line.split() for line in printed(matrix_of(("hurd-i386", "linux-i386"))).splitlines() if "program" in line]
    assert heads[:2] == [["program", *VARIANTS]] * 2


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_every_column_is_printed_at_every_width(width):
    matrix = matrix_of(("hurd-i386", "linux-i386"))
    parts = list(report._parts(matrix, width, False))
    assert [column for part in parts for column in part] == list(range(4))


def test_signs_differ_in_shape_and_are_one_column_wide():
    for signs in zip(*((sign, plain) for sign, plain, _ in report.SIGNS.values()), strict=True):
        assert len(set(signs)) == len(signs)
        assert all(cell_len(sign) == 1 for sign in signs)


def test_an_empty_matrix_can_be_shown():
    matrix = build({}, [], [], [], "pristine", [], [])
    assert "Nothing was compared" in printed(matrix)
    assert "Nothing was compared" in "".join(report.html(matrix, []))


def test_only_our_own_script_and_style_are_allowed(page):
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for tag, attrs, text in page.texts:
        if attrs.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    assert len([1 for _, attrs, _ in page.texts if attrs.get("type") != "application/json"]) == 2


def test_nothing_is_fetched_and_nothing_hostile_became_an_element(page):
    assert not page.all("img") and not page.all("link") and not page.all("iframe")
    for tag, attrs in page.elements:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attrs), tag
    assert all(link["href"].startswith("#cell-") for link in page.all("a"))


def test_a_page_s_trials_are_the_trials(page):
    for trial in sample():
        data = page.data(f"trial-{trial.id}")
        assert data["stdout"]["parts"] == [HOSTILE.decode("utf-8", "replace")]
        assert (data["verdict"], data["reason"], data["command"]) == (trial.verdict, trial.reason, trial.command)


def test_cells_name_their_trials_and_their_interval(page):
    cells = [button for button in page.all("button") if "data-trials" in button]
    assert [cell["id"] for cell in cells] == [f"cell-{n}" for n in range(40)]
    assert cells[0]["data-trials"] == "1 2 3 4 5"
    assert "0 of 5 passed, 95 % interval 0 to 43 %" in cells[0]["title"]


def test_long_output_is_cut_in_the_middle_and_says_so():
    kept = b"begin" + b"x" * 200_000 + b"end"
    told = report._stream(kept, 1_000_000)
    assert [len(part) for part in told["parts"]] == [report.SHOWN // 2] * 2
    assert told["parts"][0].startswith("begin") and told["parts"][1].endswith("end")
    assert told["size"] == "1,000,000 bytes, 65,536 of them here"
    assert told["gap"] == "134,472 bytes left out here"


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    report.write_html(path, matrix_of(), sample())
    assert path.read_text().endswith("</html>")

    def broken():
        yield from sample()
        raise RuntimeError("the store went away")

    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        report.write_html(path, matrix_of(), broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_trials_are_read_as_the_page_is_written():
    read = []
    pieces = report.html(matrix_of(), (read.append(trial.id) or trial for trial in sample()))
    assert next(piece for piece in pieces if 'id="trial-1"' in piece or "trial-" in piece)
    assert len(read) < 200


def test_facts_of_the_run_are_flat_lines():
    run = {"versions": {"qemu": "7.2"}, "patches": ["a", "b"], "jobs": 2}
    assert list(report._facts(run)) == [("versions.qemu", "7.2"), ("patches", "a, b"), ("jobs", "2")]


def test_what_is_not_known_of_an_event_is_told_too():
    assert report._event({"guest": "g", "text": "died", "pid": 7})["text"] == "died; pid: 7"


def test_json_text_is_ascii_whatever_was_said():
    text = report.json_text(matrix_of())
    assert text.isascii() and json.loads(text)["events"][0]["machine"] == 3


def test_life_cycles_are_plotted_and_their_names_are_text():
    trace = Trace(dict.fromkeys(lifetrace.EVENTS, 1), (Sample(0.0, 1, 1), Sample(0.5, 3, 9)))
    cycle = LifeCycle(EVIL, EVIL, {EVIL: Column(EVIL, [trace], {"pass": 1})})
    text = "".join(report.html(matrix_of(), [], [cycle]))
    page = Page(text)
    assert "img" not in {tag for tag, _ in page.elements}
    curves = [attrs["d"] for tag, attrs in page.elements if tag == "path" and attrs["class"] == "curve"]
    assert curves == ["M0,60H320V0H320", "M0,80H320V0H320"]
    console = Console(file=io.StringIO(), width=80)
    report.print_life_cycles([cycle], console)
    assert "Ms were destroyed" in console.file.getvalue() and "\x1b" not in console.file.getvalue()
