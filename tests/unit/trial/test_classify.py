"""What people paste: single deaths, each as a run names it, and logs of several, with what stands around them."""

from __future__ import annotations

import gzip
import json

import pytest
from click.testing import CliRunner
from golden import FOLDER, Golden, read
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import paths
from harness.cli.app import main
from harness.results.store import Store
from harness.trial.classify import GUEST, Confidence, End, deaths

ALL = [read(file) for file in sorted(FOLDER.glob("*.txt"))]
#: Deaths that a text alone shows, and that no other text can be taken for a part of.
WHOLE = [
    golden
    for golden in ALL
    if golden.title
    and not golden.title.startswith("corrupted: ")
    and golden.stderr.endswith("\n")
    and not golden.stderr.startswith("recovered")
    and [death.title for death in deaths(golden.stderr)] == [golden.title]
]


def call(*words):
    return CliRunner().invoke(main, words)


def end_of(golden: Golden) -> End:
    """What the golden file says of the end."""
    _, _, signal = golden.ended.partition("signal ")
    status = golden.ended.removeprefix("time limit, ").removeprefix("exit ")
    return End(int(status) if status.isdigit() else None, signal, golden.hung)


#: Those of which stderr alone tells, and which were not torn in a line: what is pasted need not end in a line's end.
ALONE = [golden for golden in ALL if golden.stderr.endswith("\n") and "stdout" not in golden.name]


@pytest.mark.parametrize("golden", ALONE, ids=lambda golden: golden.name)
def test_a_death_has_the_title_that_a_run_gives(golden):
    titles = [death.title for death in deaths(golden.stderr, end_of(golden))]
    assert [title for title in titles if title] == ([golden.title] if golden.title else [])


def test_most_deaths_are_known_by_their_text_alone():
    assert len(WHOLE) > 60


@settings(deadline=None)
@given(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=6), st.sampled_from(["dejagnu", "go test", "make"]))
def test_a_log_of_several_deaths(chosen, kind):
    text = "Test run by somebody\n\n"
    for number, golden in enumerate(chosen):
        if kind == "dejagnu":
            text += f"spawn [open ...]\n{golden.stderr}FAIL: go.test/test/t{number}.go execution,  -O2 -g \n"
            text += f"PASS: go.test/test/p{number}.go (test for excess errors)\n"
        elif kind == "go test":
            text += f"=== RUN   TestA\n{golden.stderr}FAIL\tpackage/t{number}\t0.01s\nok  \tpackage/p{number}\t0.1s\n"
        else:
            text += (
                f"make[3]: Entering directory '/t{number}'\n{golden.stderr}make[3]: *** [Makefile:9: check] Error 2\n"
            )
    deaths_found = deaths(text)
    assert [death.title for death in deaths_found] == [golden.title for golden in chosen]
    lines = text.split("\n")
    for death, golden in zip(deaths_found, chosen, strict=True):
        assert set(golden.stderr.strip().split("\n")) <= set(lines[death.first - 1 : death.last])
    if kind == "dejagnu":
        assert [death.name for death in deaths_found] == [
            f"go.test/test/t{number}.go execution,  -O2 -g" for number in range(len(chosen))
        ]


REPORTS = [golden for golden in WHOLE if golden.stderr.startswith(("panic: ", "fatal error: ")) and not golden.hung]


@settings(deadline=None)
@given(st.lists(st.sampled_from(REPORTS), min_size=2, max_size=4))
def test_reports_one_after_the_other_with_nothing_between(chosen):
    if any("goroutine" not in golden.stderr for golden in chosen):
        return
    text = "\n".join(golden.stderr for golden in chosen)
    assert [death.title for death in deaths(text)] == [golden.title for golden in chosen]


def disguised(text: str, how: str) -> str:
    """A text as it looks when it has been copied from somewhere."""
    lines = text.splitlines()
    match how:
        case "github":
            return "".join(f"2026-11-30T06:00:{n % 60:02}.1234567Z {line}\n" for n, line in enumerate(lines))
        case "journal":
            return "".join(f"Nov 30 06:00:00 host prog[123]: {line}\n" for line in lines)
        case "mail":
            return "".join(f"> {line}\n" for line in lines)
        case "markdown":
            return "".join(f"    {line}\n" if line else "\n" for line in lines)
        case "colours":
            return "".join(f"\x1b[31m{line}\x1b[0m\n" for line in lines)
        case "blanks":
            return "".join(line.replace("\t", "        ") + "\n" for line in lines)
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("how", ["github", "journal", "mail", "markdown", "colours", "blanks", "crlf"])
def test_what_copying_does_to_a_text(how):
    for golden in [g for g in WHOLE if "[recovered]" not in g.stderr and "\n\t" in g.stderr]:
        assert [death.title for death in deaths(disguised(golden.stderr, how))] == [golden.title], golden.name


@pytest.mark.parametrize(
    ("text", "title", "first", "last"),
    [
        ("ready\nKernel Page fault trap, eip 0xc1, code 2, cr2 4\npanic ../i386/trap.c:404: kernel_trap: trap\nbye\n",
         "oops: Kernel Page fault trap", 2, 3),
        ("panic: zalloc: zone full\nKernel Breakpoint trap, eip 0x2\nStopped at  0x2: int $3\ndb> trace\n",
         "panic: zalloc: zone full", 1, 4),
        ("start ext2fs: ext2fs: device:hd0s1: No such device or address\n",
         "no root file system: ext2fs: device:hd0s1: No such device or address", 1, 1),
        ("[   87.1] invalid opcode: 0000 [#1] SMP\n[   87.2] EIP: f+0x12/0x90\n",
         "oops: invalid opcode: 0000 [#1] SMP", 1, 1),
    ],
)  # fmt: skip
def test_consoles(text, title, first, last):
    (death,) = deaths(text)
    assert (death.verdict, death.title, death.first, death.last) == (GUEST, title, first, last)


def test_two_boots_that_died_and_a_program_before():
    boot = "biosmem: physical memory map:\n{}panic ../kern/x.c:{}: f: no more\n"
    program = "panic: x\n\ngoroutine 1 [running]:\nmain.main\n\t/a.go:3\n\n"
    deaths_found = deaths(program + boot.format("", 1) + boot.format("Stopped at 0x1: int $3\n", 2))
    assert [death.title for death in deaths_found] == [
        "panic: x in main.main",
        "panic in f (../kern/x.c:1): no more",
        "kernel debugger: Stopped at 0x1: int $3",
    ]


def test_an_assertion_of_a_program_is_none_of_the_kernel():
    (death,) = deaths("../libpthread/pt.c:44: f: Assertion `a == b' failed.\n")
    assert (death.verdict, death.title) == ("crash", "pt.c: f: Assertion `a == b' failed.")


@pytest.mark.parametrize(
    ("text", "end", "verdict", "title", "confidence"),
    [
        ("", End(), None, "", None),
        ("all is well\n", End(0), "pass", "", Confidence.WEAK),
        ("wrong\n", End(1), "fail", "", Confidence.WEAK),
        ("", End(signal="SIGSEGV"), "crash", "SIGSEGV", Confidence.WEAK),
        ("", End(hung=True), "hang", "hang: no goroutine dump", Confidence.WEAK),
        ("goroutine 1 [select]:\nmain.main\n\t/a.go:3\n", End(), "hang", "hang: select in main.main", Confidence.SURE),
        ("words\nSIGABRT: abort\nPC=0x1 m=0\n\ngoroutine 1 [running]:\nmain.main\n\t/a.go:3\n", End(), "crash",
         "words in main.main", Confidence.LIKELY),
        ("panic: test timed out after 1s\n\ngoroutine 7 [running]:\ntesting.startAlarm..func1\n\t/t.go:9\n"
         "created by time.goFunc\n\t/s.go:1 +0x1\n\ngoroutine 5 [select]:\nx__test.TestA\n\t/a.go:3\n"
         "created by testing.T.Run\n\t/t.go:1 +0x1\n\ngoroutine 6 [select]:\nx__test.TestA\n\t/a.go:3\n"
         "created by testing.T.Run\n\t/t.go:1 +0x1\n", End(), "hang", "hang: select in x__test.TestA", Confidence.SURE),
        ("panic: x\n\ngoroutine 1 [running]:\nmain.main\n", End(), "crash", "corrupted: panic: x", Confidence.LIKELY),
    ],
)  # fmt: skip
def test_how_sure_it_is(text, end, verdict, title, confidence):
    answers = [(death.verdict, death.title, death.confidence) for death in deaths(text, end)]
    assert answers == ([] if verdict is None else [(verdict, title, confidence)])


@given(st.text(), st.booleans())
def test_wild_text(text, hung):
    for death in deaths(text, End(hung=hung)):
        assert 1 <= death.first <= death.last


def test_the_command(write):
    golden = next(golden for golden in WHOLE if golden.name == "panic-goroutine")
    file = write("log", golden.stderr)
    result = call("classify", str(file))
    assert result.exit_code == 0 and f"crash: {golden.title}\n  lines 1 to " in result.stdout
    assert "\n  frames: " in result.stdout and "\n  sure: by Go's report\n" in result.stdout
    (death,) = json.loads(call("classify", str(file), "--json").stdout)
    assert death["title"] == golden.title and death["frames"] and "known" not in death
    assert call("classify", str(write("empty", ""))).exit_code == 1
    assert call("classify", str(file), "--exit", "1").stdout.startswith("fail: nothing says that it died")
    assert call("classify", str(file), "--signal", "10", "--system", "hurd").stdout.startswith("crash: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "none: cannot be read"),
        (("--signal", "SIGFOO"), "no signal has that name"),
        (("--signal", "99"), "linux has no signal of that number"),
        (("--signal", "9", "--exit", "1"), "exclude each other"),
        (("--exit", "300"), "300 is not in the range"),
    ],
)
def test_bad_input_to_the_command(words, message):
    result = call("classify", *words)
    assert result.exit_code == 2 and message in result.output


def test_the_command_knows_the_trials_of_a_work_directory(write, tmp_path):
    (packed,) = (paths.DATA / "tests/data/old-results/work").glob("*.gz")
    (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    trials = list(Store(tmp_path / packed.stem).trials(1))
    crash = next(trial for trial in trials if trial.verdict == "crash" and trial.stderr)
    log, work = str(write("log", crash.stderr.decode())), ("--known", "--work", str(tmp_path))
    result = call("classify", log, *work)
    assert f"  known: run 1, {crash.program}, {crash.guest}, " in result.stdout
    assert f"harness open {crash.id} --work {tmp_path}" in result.stdout
    (death,) = json.loads(call("classify", log, "--json", *work).stdout)
    same = [trial for trial in trials if trial.signature == crash.signature]
    assert sum(cell["trials"] for cell in death["known"]) == len(same)
    other = call("classify", str(write("other", "fatal: bad g in signal handler\n")), *work)
    assert "not known: no trial has this title" in other.stdout
