"""A matrix for other programs: JSON, Markdown for a job's summary, JUnit XML, CSV.

Whatever a program or a guest wrote is hostile: none of it is markup, and no spreadsheet takes it for a formula. Knows
matrices and trials, nothing of where they come from.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.escapes import one_line
from harness.invocation import command_line, repeated
from harness.results.answer import answer
from harness.results.compare import GATES, CellCounts, Comparison
from harness.results.lifecycle import LifeCycle
from harness.results.matrix import OUTCOMES, Cell, CellVerdict, Finding, Matrix
from harness.results.text import (
    SIGNS,
    contradicted_cells,
    describe_comparisons,
    describe_contradiction,
    describe_evidence,
    group_causes,
    render_count,
    run_facts,
    shown_stream,
    stream_lines,
)
from harness.trial.record import Trial

#: The most bytes of Markdown: GitHub refuses a step's summary that has more than 1 MiB (its manual, workflow commands
#: for GitHub Actions, "Step isolation and limits").
LARGEST = 1 << 20
#: The most bytes of each stream of a trial in JUnit XML: its viewers read all of a file into memory.
SHOWN = 8 * 1024
#: What XML 1.0 cannot hold, not even escaped (its section 2.2, Char).
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What a spreadsheet takes a text for a formula by (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def json_text(matrix: Matrix, work: Path | None = None) -> str:
    """The matrix as JSON text, ASCII only, with a newline at its end; `schema` describes it.

    Args:
        work: the work directory that the commands in it are to use.

    Raises:
        TypeError: `run` or an event holds what JSON cannot.
    """
    data = matrix.to_json()
    if command := data["run"].get("command"):
        data["run"] = {**data["run"], "command": repeated(str(command), work)}
    for cell in data["cells"]:
        for finding in cell["findings"]:
            finding["command"] = repeated(finding["command"], work)
    return json.dumps(data, indent=1) + "\n"


def schema() -> str:
    """The JSON Schema of `json_text`."""
    return (Path(__file__).parent / "run.schema.json").read_text()


def markdown(
    matrix: Matrix,
    largest: int = LARGEST,
    unfinished: str = "",
    cycles: Sequence[LifeCycle] = (),
    work: Path | None = None,
) -> str:
    """The matrix as Markdown of GitHub's kind: first what matters most, at the end all cells, as far as there is room.

    Args:
        largest: the most bytes of it in UTF-8. What is left out is said in a sentence.
        unfinished: a sentence that says so, if the run has not finished.
        cycles: what was counted of threads and goroutines in the same run.
        work: the work directory that shown commands are to use.
    """
    return _bounded(_markdown(matrix, unfinished, cycles, work), largest)


def _bounded(whole: Iterable[str], largest: int) -> str:
    """As many of the lines as there is room for, and a sentence on the rest."""
    lines: list[str] = []
    room = largest - 300  # for that sentence
    left = 0
    for line in whole:
        room -= len(line.encode()) + 1
        if room < 0:
            left += 1
        else:
            lines.append(line)
    if left:
        if "<details>" in lines:
            lines += ["", "</details>"]
        lines += ["", f"{render_count(left, 'line')} more have no room here; other formats show all."]
    return "\n".join(lines) + "\n"


def _markdown(matrix: Matrix, unfinished: str, cycles: Sequence[LifeCycle], work: Path | None) -> Iterator[str]:
    totals = matrix.totals()
    head = f"{totals.cells[CellVerdict.PASS]} of {render_count(len(matrix.cells), 'cell')} pass"
    yield f"## {head}, {render_count(totals.surprises, 'surprise')}"
    yield ""
    if unfinished:
        yield escaped(unfinished)
        yield ""
    trials = [f"{_signed(name)} {number}" for name, number in totals.trials.items() if number]
    yield f"Trials: {', '.join(trials) or 'none'}. {escaped(describe_comparisons(matrix))}"
    if command := matrix.run.get("command"):
        yield ""
        yield f"Command: {_command(repeated(str(command), work))}"
    if claimed := matrix.differences(claimed=True):
        yield from _section("Differences")
        for _, cell, difference in claimed:
            yield f"- {_cell_name(cell)}: {escaped(describe_evidence(matrix, cell, difference))}"
    if wrong := contradicted_cells(matrix):
        yield from _section("Expectations that do not hold")
        for _, cell in wrong:
            yield f"- {_cell_name(cell)}: {escaped(describe_contradiction(cell))}"
    for title, errors in (("Not passed", False), ("Infrastructure errors", True)):
        if causes := group_causes(matrix, errors):
            yield from _section(title)
        for cause in causes:
            _, cell, finding = cause.cells[0]
            more = f" and {render_count(len(cause.cells) - 1, 'cell')} more" if len(cause.cells) > 1 else ""
            known = f"; expected: {escaped(finding.expected)}" if finding.expected else ""
            opened = command_line("open", str(finding.trial), work=work)
            yield (
                f"- {_signed(cause.verdict)}, {render_count(cause.count, 'trial')}: {code(cause.title)}{known}; "
                f"{_cell_name(cell)}{more}; {_command(opened)}"
            )
    for paragraph in answer(matrix, cycles, work):
        yield from _section(paragraph.title)
        for sentence in paragraph.sentences:
            yield f"- {escaped(sentence)}"
        if paragraph.command:
            yield f"- {_command(paragraph.command)}"
    yield ""
    yield "<details>"
    yield f"<summary>All {render_count(len(matrix.cells), 'cell')}</summary>"
    yield ""
    yield f"| program | {' | '.join(f'{escaped(guest)}, {escaped(variant)}' for guest, variant in matrix.columns)} |"
    yield "|---" * (len(matrix.columns) + 1) + "|"
    for place, program in enumerate(matrix.programs):
        yield f"| {escaped(program)} | {' | '.join(_short(cell) for _, cell in matrix.row(place))} |"
    yield ""
    yield "</details>"


def comparison_json(comparison: Comparison) -> str:
    """The comparison of two runs as JSON text, ASCII only, with a newline at its end; see its `to_json`."""
    return json.dumps(comparison.to_json(), indent=1) + "\n"


def comparison_markdown(comparison: Comparison, largest: int = LARGEST) -> str:
    """The comparison of two runs as Markdown of GitHub's kind, what is worse first, in at most `largest` bytes."""
    return _bounded(_comparison_markdown(comparison), largest)


def _comparison_markdown(comparison: Comparison) -> Iterator[str]:
    fresh = comparison.counts()["new failure"]
    head = "Something got worse" if comparison.fails() else "Nothing got significantly worse"
    yield f"## {head}" + (f", {render_count(fresh, 'new failure')}" if fresh else "")
    yield ""
    yield comparison.summary()
    if comparison.changed():
        yield ""
    for change in comparison.changed():
        kind = f"**{change.kind}**" if change.kind in GATES["new"] else change.kind
        ends = " → ".join(_counted(counts) for counts in (change.before, change.after))
        why, *more = change.reasons()
        sentence = "; ".join([f"{ends}: {why}", *map(code, more)])
        yield f"- {kind}: {escaped(f'{change.program}, {change.guest}, {change.variant}')}: {sentence}"
    if comparison.facts:
        yield from _section("Made of other things")
        for name, (before, after) in comparison.facts.items():
            yield f"- {escaped(name)}: {code(before or 'none')} → {code(after or 'none')}"


def _counted(counts: CellCounts | None) -> str:
    return f"{_signed(counts.verdict)} {counts.passed}/{counts.trials}" if counts else "none"


def _section(title: str) -> list[str]:
    return ["", f"### {title}", ""]


def _cell_name(cell: Cell) -> str:
    return escaped(f"{cell.program}, {cell.guest}, {cell.variant}")


def _signed(verdict: str) -> str:
    return f"{SIGNS[CellVerdict(verdict)].mark} {verdict}"


def _short(cell: Cell) -> str:
    """A cell in a few characters, as in the terminal."""
    parts = [SIGNS[cell.verdict].mark]
    parts += [cell.verdict] if cell.verdict not in ("pass", "flaky") else []
    parts += [f"{cell.passed}/{cell.trials}"] if cell.trials else []
    parts += [f"{SIGNS[CellVerdict(verdict)].mark}{number}" for verdict, number in cell.parts]
    parts += ["**surprise**"] if cell.surprise else ["known"] if cell.known else []
    parts += ["**differs**"] if cell.difference and cell.difference.claimed else []
    return " ".join(parts)


def escaped(text: str) -> str:
    """Hostile text as Markdown that shows just that: what could be markup is escaped (CommonMark 2.4)."""
    return re.sub(r"([\\`*_\[\]<>&|~!#$@:]|^[-+=\d])", _escape, one_line(text))


def _escape(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};" if match[0].isdigit() else f"\\{match[0]}"


def code(text: str) -> str:
    """The beginning of the same as code, in which there are no links and no mentions."""
    return _command(text if len(text) <= 500 else f"{text[:500]}...")


def _command(text: str) -> str:
    """The whole text as code: fenced by more backticks than it has in a row."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    between = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{between}{text or ' '}{between}{fence}"


def junit(matrix: Matrix, trial: Callable[[int], Trial], work: Path | None = None) -> str:
    """The matrix as JUnit XML, as Jenkins' xUnit plugin describes it (its junit-10.xsd) and others read it: a
    test suite for each guest and variant, a test case for each cell.

    A cell that went wrong only in ways that are known is skipped. One whose trials all ended in infrastructure errors
    is an error. One that passed though it is known to fail, or whose trials went wrong in part, is a failure.

    Args:
        trial: the trial with an id, for the first output of each way to go wrong.
    """
    root = Element("testsuites", name="harness")
    sums = {"tests": 0, "failures": 0, "errors": 0}
    for place, (guest, variant) in enumerate(matrix.columns):
        cells = matrix.cells[place :: len(matrix.columns)]
        kinds = [_kind(cell) for cell in cells]
        numbers = {"tests": len(cells), "failures": kinds.count("failure"), "errors": kinds.count("error")}
        sums = {key: sums[key] + number for key, number in numbers.items()}
        suite = SubElement(
            root,
            "testsuite",
            {
                "name": xml_text(f"{guest} {variant}"),
                **{key: str(number) for key, number in numbers.items()},
                "skipped": str(kinds.count("skipped")),
                "time": f"{sum(cell.seconds for cell in cells):.3f}",
                "timestamp": xml_text(str(matrix.run.get("created", ""))[:19]),
                "hostname": xml_text(guest),
            },
        )
        properties = SubElement(suite, "properties")
        for name, value in run_facts(matrix, work):
            SubElement(properties, "property", name=xml_text(name), value=xml_text(value))
        for cell, kind in zip(cells, kinds, strict=True):
            _test_case(suite, cell, kind, trial, work)
    root.attrib |= {key: str(number) for key, number in sums.items()}
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _kind(cell: Cell) -> str:
    """failure, error or skipped; '' for a cell that is as it should be."""
    if cell.surprise:
        return "failure"
    if not cell.trials:
        return "error" if cell.errors else "skipped"
    return "skipped" if cell.known else ""


def _test_case(suite: Element, cell: Cell, kind: str, trial: Callable[[int], Trial], work: Path | None) -> None:
    folder, _, name = cell.program.rpartition("/")
    where = ".".join(filter(None, [cell.guest, cell.variant, folder.replace("/", ".")]))
    case = SubElement(suite, "testcase", name=xml_text(name), classname=xml_text(where), time=f"{cell.seconds:.3f}")
    if not kind:
        return
    counts = f"{cell.passed} of {render_count(cell.trials, 'trial')} passed" if cell.trials else "it was not run"
    titles = "; ".join(finding.title for finding in cell.findings)
    why = f"known: {titles}" if kind == "skipped" and cell.known else titles
    message = f"{cell.verdict}: {counts}" + (f"; {why}" if why else "")
    if cell.contradicts:
        message += f"; {describe_contradiction(cell)}"
    result = SubElement(case, kind, type=cell.verdict, message=xml_text(message))
    commands = [
        command
        for finding in cell.findings
        for command in (command_line("open", str(finding.trial), work=work), repeated(finding.command, work))
    ]
    result.text = xml_text("\n".join(commands))
    if kind != "skipped" and cell.findings:
        output = "\n".join(line for finding in cell.findings for line in _output(finding, trial(finding.trial)))
        SubElement(case, "system-out").text = xml_text(output)


def _output(finding: Finding, stored: Trial) -> Iterator[str]:
    yield f"{finding.verdict}, {render_count(finding.count, 'trial')}: {finding.title}"
    for name, kept, total in (
        ("stdout", stored.stdout, stored.stdout_total),
        ("stderr", stored.stderr, stored.stderr_total),
    ):
        if total:
            shown = shown_stream(kept, total, SHOWN)
            yield f"---- {name} of trial {stored.id} ({shown.size})"
            yield from stream_lines(shown)


def xml_text(text: str) -> str:
    """Text with what XML cannot hold spelt out."""
    return _NO_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def csv_text(matrix: Matrix) -> str:
    """The matrix as CSV (RFC 4180), a line a cell. Texts that a spreadsheet would take for formulas begin with `'`."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(_row(Cell("", "", ""))))
    writer.writeheader()
    writer.writerows(map(_row, matrix.cells))
    return stream.getvalue()


def _row(cell: Cell) -> dict[str, object]:
    low, high = cell.interval or ("", "")
    difference = cell.difference
    return {
        "guest": csv_field(cell.guest),
        "variant": csv_field(cell.variant),
        "program": csv_field(cell.program),
        "verdict": cell.verdict,
        "passed": cell.passed,
        "trials": cell.trials,
        **{verdict: cell.counts.get(verdict, 0) for verdict in OUTCOMES[1:]},
        "errors": cell.errors,
        "lost": cell.lost,
        "low": low,
        "high": high,
        "baseline_passed": difference.baseline_passed if difference else "",
        "baseline_trials": difference.baseline_trials if difference else "",
        "p": difference.p if difference else "",
        "p_corrected": difference.p_corrected if difference else "",
        "differs": int(bool(difference and difference.claimed)),
        "known": cell.known,
        "surprise": int(cell.surprise),
        "seconds": round(cell.seconds, 3),
        "titles": csv_field("; ".join(finding.title for finding in cell.findings)),
    }


def csv_field(text: str) -> str:
    """Hostile text as a field of CSV that no spreadsheet takes for a formula."""
    spelt = one_line(text)
    return "'" + spelt if spelt.startswith(_FORMULA) else spelt
