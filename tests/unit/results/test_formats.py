"""What other programs read of a run: JSON by its schema, Markdown, JUnit XML, CSV. All of it holds hostile text."""

import copy
import csv
import dataclasses
import io
import json
import re
from datetime import date
from xml.etree import ElementTree

import jsonschema
import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.errors import StoreError
from harness.escapes import one_line
from harness.results import formats
from harness.results.build_matrix import build_matrix
from harness.results.expected import Entry
from harness.results.matrix import OUTCOMES, Matrix
from tests import runs

PROGRAMS = runs.names(20)
TRIALS = list(runs.trials(PROGRAMS, each=8))
BY_ID = {trial.id: trial for trial in TRIALS}
KNOWN = Entry("*", "*", PROGRAMS[0], ("crash",), "", "reported", date(2030, 1, 1), False, "conf/expected.yaml:1")
STALE = Entry("*", "*", PROGRAMS[9], (), "", f"said {runs.EVIL}", date(2030, 1, 1), False, "conf/expected.yaml:9")
OLD = Entry("*", "*", PROGRAMS[5], (), "", "was", date(2020, 1, 1), False, "conf/expected.yaml:5")


def matrix_of(trials=TRIALS, programs=PROGRAMS, expected=(KNOWN, STALE, OLD), **more):
    events = [{"time": "2026-01-01T00:00:00Z", "guest": "hurd-i386", "text": runs.EVIL, "machine": 3}]
    times = [{"what": "libgo pristine", "step": "compiled", "times": 1, "seconds": 2.5}]
    return build_matrix(
        runs.facts(), runs.GUESTS, runs.VARIANTS, programs, "pristine", trials, events,
        expected=expected, day=date(2026, 1, 1), times=times, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def matrix():
    return matrix_of()


# JSON.


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(formats.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_json_is_as_its_schema_says(matrix, validator):
    text = formats.json_text(matrix)
    assert text.isascii()
    validator.validate(json.loads(text))
    validator.validate(json.loads(formats.json_text(matrix_of(most=8))))
    validator.validate(json.loads(formats.json_text(build_matrix({}, [], [], [], "pristine", [], []))))


def test_the_schema_names_every_key_that_there_is(matrix, validator):
    """A key that is added must be described: unknown ones are allowed to readers, not to us."""
    strict = copy.deepcopy(validator.schema)
    for part in (strict, strict["properties"]["totals"], strict["$defs"]["cell"]):
        part["additionalProperties"] = False
    jsonschema.Draft202012Validator(strict).validate(json.loads(formats.json_text(matrix)))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema",), 2),
        (("cells", 0, "verdict"), "good"),
        (("cells", 0, "passed"), -1),
        (("cells", 0, "counts"), {"pass": 1}),
        (("cells", 0, "interval"), [0.1]),
        (("cells", 1, "difference"), {"p": 0.1}),
        (("cells", 1, "difference", "p"), 1.5),
        (("cells", 0, "findings"), [{"verdict": "pass"}]),
        (("totals", "cells"), {}),
        (("times", 0), {"what": "x"}),
        (("programs",), [1]),
        (("most",), 0),
    ],
)
def test_what_is_wrong_the_schema_refuses(matrix, validator, where, value):
    data = json.loads(formats.json_text(matrix))
    *path, last = where
    target = data
    for step in path:
        target = target[step]
    target[last] = value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(data)


def test_a_matrix_comes_back_from_json(matrix):
    assert Matrix.from_json(json.loads(formats.json_text(matrix))).to_json() == matrix.to_json()


@pytest.mark.parametrize("counts", [{}, {"pass": 1}, {"pass": -1, "fail": 0, "crash": 0, "hang": 0}])
def test_a_matrix_counts_each_verdict(matrix, counts):
    data = json.loads(formats.json_text(matrix))
    data["cells"][1]["counts"] = counts
    with pytest.raises(StoreError, match=r"not of a run: cells\.1\.counts: not a count of each verdict"):
        Matrix.from_json(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not JSON of a run"),
        ({"schema": 2}, "not JSON of a run"),
        ({"schema": 1}, "not of a run: run: Field required"),
        ({"schema": 1, "run": 3}, "not of a run: run: Input should be"),
    ],
)
def test_what_is_no_matrix_is_refused(data, message):
    with pytest.raises(StoreError, match=message):
        Matrix.from_json(data)


# Markdown.


def rendered(text):
    """The texts of what GitHub's kind of Markdown makes of a text, and the kinds of its elements."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    texts, kinds = [], set()
    for token in tokens:
        kinds.add(token.type)
        if token.type == "inline":
            kinds |= {child.type for child in token.children}
            texts.append("".join(child.content for child in token.children))
    return texts, kinds


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_hostile_text_in_markdown_is_text(text):
    line = one_line(text)
    if not line.strip() or line != line.strip():
        return
    places = [("", ""), ("- ", ""), ("- x: ", "; y")]
    for markdown, around in (
        (formats.escaped(text), [*places, ("| a |\n|---|\n| ", " |")]),
        (formats.code(text), places),
    ):
        for before, after in around:
            texts, kinds = rendered(before + markdown + after)
            rendered_text = texts[-1].removeprefix("x: ").removesuffix("; y")
            assert rendered_text == line, (before, markdown)
            assert not kinds & {"html_inline", "html_block", "link_open", "em_open", "strong_open", "fence"}


def test_markdown_shows_what_matters_first(matrix):
    text = formats.markdown(matrix)
    texts, kinds = rendered(text)
    heads = [
        texts.index(name) for name in ("Differences", "Expectations that do not hold", "Not passed") if name in texts
    ]
    assert heads == sorted(heads) and len(heads) >= 2
    assert texts[0].endswith(f"cells pass, {matrix.totals().surprises} surprises")
    rows = [line for line in text.splitlines() if line.startswith("| suite-")]
    assert len(rows) == len(PROGRAMS) and "known" in rows[0] and "✖ crash 0/8" in rows[0]
    assert "table_open" in kinds and "html_inline" not in kinds
    assert "\x1b" not in text and "\u202e" not in text and "\x00" not in text


def test_markdown_that_is_too_long_ends_in_a_sentence_of_what_is_missing(matrix):
    whole = formats.markdown(matrix)
    for largest in (1000, 2500, len(whole.encode()) - 100):
        text = formats.markdown(matrix, largest)
        assert len(text.encode()) <= largest
        assert re.search(r"\n\d+ lines more have no room here; other formats show all.\n\Z", text)
        assert text.count("<details>") == text.count("</details>")
    assert formats.markdown(matrix, len(whole.encode()) + 300) == whole


# JUnit XML.

#: Element -> the attributes that it may have, with those that it must have in capitals, and its children: read off
#: junit-10.xsd of Jenkins' xUnit plugin.
JUNIT = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"NAME", "TESTS", "FAILURES", "ERRORS", "group", "time", "skipped", "timestamp", "hostname", "id", "package",
         "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"NAME", "VALUE"}, set()),
    "testcase": (
        {"NAME", "time", "classname", "group"},
        {"skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError", "system-out",
         "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}  # fmt: skip


def check_junit(element):
    attributes, children = JUNIT[element.tag]
    assert {name for name in element.attrib} <= {name.lower() for name in attributes}, element.tag
    assert {name.lower() for name in attributes if name.isupper()} <= set(element.attrib), element.tag
    for child in element:
        assert child.tag in children, (element.tag, child.tag)
        check_junit(child)


def test_junit_xml_is_as_jenkins_describes_it(matrix):
    root = ElementTree.fromstring(formats.junit(matrix, BY_ID.__getitem__))
    check_junit(root)
    for suite in root:
        assert re.fullmatch(r"\d+\.\d{3}", suite.get("time"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp"))
    assert [suite.get("name") for suite in root] == [f"{guest} {variant}" for guest, variant in matrix.columns]
    for kind in ("tests", "failures", "errors"):
        assert int(root.get(kind)) == sum(int(suite.get(kind)) for suite in root)


def test_a_junit_reader_sees_each_cell_s_end(matrix, tmp_path):
    file = tmp_path / "junit.xml"
    file.write_text(formats.junit(matrix, BY_ID.__getitem__))
    read = {}
    for suite in junitparser.JUnitXml.fromfile(str(file)):
        cases = list(suite)
        assert suite.tests == len(cases) == len(PROGRAMS)
        for case in cases:
            (result,) = case.result or [None]
            read[case.classname, case.name] = type(result).__name__ if result else "", case
        assert suite.failures == sum(kind == "Failure" for kind, case in read.values() if case in cases)
    for cell in matrix.cells:
        folder, _, name = cell.program.rpartition("/")
        kind, case = read[f"{cell.guest}.{cell.variant}.{folder}", name]
        known = cell.known and cell.known == cell.trials - cell.passed and not cell.contradicts
        expected = "Failure" if cell.surprise else "Skipped" if known else ""
        assert kind == expected, cell
        assert case.time == pytest.approx(cell.seconds, abs=1e-3)
        if cell.findings and kind == "Failure":
            assert cell.findings[0].title[:10] in case.result[0].message
            assert f"harness open {cell.findings[0].trial}\n" in case.result[0].text
            assert f"of trial {cell.findings[0].trial} (" in case.system_out
    assert {kind for kind, _ in read.values()} == {"Failure", "Skipped", ""}


def test_cells_without_trials_are_errors_or_skipped():
    spoilt = [dataclasses.replace(trial, verdict="error") for trial in TRIALS if trial.guest == "hurd-i386"]
    text = formats.junit(matrix_of(spoilt, expected=()), BY_ID.__getitem__)
    kinds = [case[0].tag for case in ElementTree.fromstring(text).iter("testcase")]
    assert kinds == ["error"] * 40 + ["skipped"] * 40


@given(st.text(max_size=20))
def test_any_text_can_stand_in_xml(text):
    element = ElementTree.Element("x", y=formats.xml_text(text))
    ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode").encode())


# CSV.


def test_csv_has_a_line_for_each_cell(matrix):
    rows = list(csv.DictReader(io.StringIO(formats.csv_text(matrix))))
    assert len(rows) == len(matrix.cells)
    for row, cell in zip(rows, matrix.cells, strict=True):
        assert (row["guest"], row["variant"], row["program"]) == (cell.guest, cell.variant, cell.program)
        assert (
            sum(int(row[verdict]) for verdict in OUTCOMES[1:]) + int(row["passed"]) == int(row["trials"]) == cell.trials
        )
        assert (row["low"] == "") == (cell.trials == 0)
        assert (float(row["p"]) == cell.difference.p) if cell.difference else row["p"] == ""


@given(st.text(max_size=10))
def test_no_field_of_csv_is_a_formula_or_more_than_a_line(text):
    field = formats.csv_field(text)
    assert not field.startswith(("=", "+", "-", "@", "\t", "\r")) and "\n" not in field and "\r" not in field
