"""Programs' headers, the selection, and the order of trials."""

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import conf
from harness.errors import ProgramError
from harness.programs.gotags import Target
from harness.programs.header import parse_expectation, read_program
from harness.programs.model import TIMEOUT, BuildSpec, Expectation
from harness.programs.select import (
    describe_overlooked,
    fitting_programs,
    from_anywhere,
    select_programs,
    trial_specs,
)
from harness.programs.sources import kind_of

BODY = "\npackage main\n\nfunc main() {}\n"


def test_a_header_with_everything(write):
    write("s/p.out", "hello\n")
    source = write(
        "s/p.go",
        "// run\n// args: 64 'a b'\n// env: GOMAXPROCS=4 A=b\n// timeout: 2m\n// needs: split-stack\n"
        '// expect: exit 2, stderr ~ "all goroutines, \\"asleep\\""\n' + BODY,
    )
    program = read_program(source)
    assert (program.name, program.args, program.env) == ("s/p", ("64", "a b"), {"GOMAXPROCS": "4", "A": "b"})
    assert (program.timeout, program.needs) == (120, ("split-stack",))
    assert program.expected == Expectation(2, "", b"hello\n", "", 'all goroutines, "asleep"')


@given(st.builds(Expectation, st.integers(0, 255), st.text(), st.none() | st.binary(), st.text(), st.text()))
def test_an_expectation_is_the_same_after_it_was_stored(expected):
    assert Expectation.from_json(json.loads(json.dumps(expected.to_json()))) == expected


def test_the_prose_of_a_header_is_kept(write):
    program = read_program(
        write("p.go", "// run\n// timeout: 5s\n\n// It shows: this.\n// And that.\n" + BODY + "// not this\n")
    )
    assert (program.about, program.timeout) == ("It shows: this. And that.", 5)


def test_gcc_s_own_directives(write):
    assert read_program(write("a.go", "// +build linux\n\n// run 5\n" + BODY)).args == ("5",)
    assert read_program(write("b.go", "// run -gcflags=-l=4\n" + BODY)).args == ()
    assert read_program(write("c.go", "// errorcheck\n" + BODY)).kind == "errorcheck"
    assert read_program(write("d.go", "// Copyright\n" + BODY)).kind == "run"
    assert read_program(write("e.go", "// run\n" + BODY + "// timeout: nonsense\n")).timeout == TIMEOUT


def test_a_signal_is_expected_by_either_name(write):
    for name in ("SEGV", "SIGSEGV"):
        assert read_program(write("a.go", f"// run\n// expect: signal {name}\n" + BODY)).expected.signal == "SIGSEGV"


def test_the_highest_status_and_any_system_s_signals_are_expected():
    assert parse_expectation(Expectation(), "exit 255").exit_status == 255
    assert [parse_expectation(Expectation(), f"signal {name}").signal for name in ("LOST", "PWR")] == [
        "SIGLOST",
        "SIGPWR",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("// timeout: soon", ":2: 'soon' is not a time"),
        ("// expect: exit two", ":2: expect: cannot understand 'exit two'"),
        ("// expect: exit 256", ":2: expect: exit 256: an exit status is 0 to 255"),
        (f"// expect: exit {'9' * 5000}", "an exit status is 0 to 255"),
        ("// expect: signal SEGVV", ":2: expect: no signal named SEGVV; did you mean SEGV?"),
        ('// expect: stderr ~ "("', "is not a regular expression"),
        ("// expct: exit 2", "unknown directive expct:; did you mean expect?"),
        ("// env: GOMAXPROCS", "is not NAME=VALUE"),
        ("// env: 'A B=c'", ":2: 'A B' cannot be the name of an environment variable"),
        ("// env: A=b\0", ":2: the environment variable A cannot hold a NUL"),
        ("// args: 'open", ":2: No closing quotation"),
        ("// args:", ":2: args: has no value"),
    ],
)
def test_a_wrong_header_is_named(write, line, message):
    with pytest.raises(ProgramError) as caught:
        read_program(write("p.go", f"// run\n{line}\n{BODY}"))
    assert message in str(caught.value)


def test_a_first_line_that_no_shell_can_read(write):
    with pytest.raises(ProgramError, match=r"p\.go:1: No closing quotation"):
        read_program(write("p.go", '// run "unclosed\n' + BODY))


def test_the_text_of_an_expectation():
    text = 'signal SEGV, stdout ~ "a", stderr ~ "b", output ~ "c"'
    whole = replace(parse_expectation(Expectation(), text), stdout=b"", output=b"one\ntwo\n")
    assert str(whole) == f"{text.replace('SEGV', 'SIGSEGV')}, no output, output of 2 lines"
    assert str(Expectation(exit_status=3, stdout=b"a\n")) == "exit 3, stdout of 1 line"


def test_programs_that_fit_no_target(write):
    tagged = replace(read_program(write("s/a.go", BODY)), constraints=(("plan9",),))
    package = replace(read_program(write("s/b.go", BODY)), build=BuildSpec(package="sync"))
    for program, variant in [(tagged, conf.Variant()), (package, conf.Variant(prebuilt=True))]:
        with pytest.raises(ProgramError, match="for another system or compiler"):
            fitting_programs([program], ["i686-linux-gnu"], [variant])
    assert fitting_programs([package], ["i686-linux-gnu"], [conf.Variant()]) == [package]


def test_a_suite_that_lies_elsewhere_is_selected_by_name(write, tmp_path):
    listed = [replace(read_program(write("x/a.go", BODY)), name="other/a", from_gcc=True)]
    write("other/suite.yaml", "about: x\n")
    for term in ("other", "other/a", "other/*", str(tmp_path / "other")):
        assert select_programs([term], {"other": lambda: listed}) == listed
    assert listed[0].word == "other/a"
    with pytest.raises(ProgramError, match=r"suite other has no runnable program zzzzzzzz; it has 1 other$"):
        select_programs(["other/zzzzzzzz"], {"other": lambda: listed})


def test_selections(write, tmp_path):
    write("mine/a.go", "// run\n" + BODY)
    write("skipped/b.go", "// skip\n" + BODY)
    write("mine/b.go", "// skip\n" + BODY)
    write("empty/README.md", "")
    write("library/c.go", "package c\n")
    write("forgotten/d.go", BODY)
    assert [program.name for program in select_programs([str(tmp_path / "mine")])] == ["mine/a"]
    assert {program.name.split("/")[0] for program in select_programs(["goroutines", "threads"])} == {
        "goroutines",
        "threads",
    }
    for term, message in (
        ("goroutine", "did you mean goroutines"),
        (str(tmp_path / "none.go"), "cannot be read"),
        (str(tmp_path / "empty"), "has no .go or .c file"),
        (str(tmp_path / "skipped"), "has no `run` test"),
        (str(tmp_path / "library"), "begins with `// run`$"),
        (str(tmp_path / "forgotten"), r"begins with `// run`; d\.go can be run if it is named itself"),
        ("threads/lock-rings", "did you mean threads/lock-ring"),
        (str(tmp_path / "mine" / "b.go"), "only `run` tests can be run"),
    ):
        with pytest.raises(ProgramError, match=message):
            select_programs([term])


def names(*terms):
    return [program.name for program in select_programs(list(map(str, terms)))]


def test_a_folder_has_the_programs_below_it_too(write, tmp_path):
    for place in ("a/z", "a/b/c/y", "a/b/x", "a/_b/n", "a/.b/n", "a/testdata/n", "a/vendor/n", "a/build/n", "a/.n"):
        write(f"{place}.go", "// run\n" + BODY)
    write("a/b/helper.go", BODY)
    write("a/b/library_test.go", "package b\n")
    (tmp_path / "a/d.go").mkdir()
    (tmp_path / "a/gone.go").symlink_to("nowhere")
    assert names(tmp_path / "a") == ["a/z", "b/x", "c/y"]
    assert names(tmp_path / "a/testdata") == ["testdata/n"], "a folder that is named is not left out"
    assert names(tmp_path / "a/b/helper.go") == ["b/helper"], "nor is a file"
    assert describe_overlooked([str(tmp_path / "a"), "threads"]).endswith(f": {tmp_path}/a/b/helper.go")


def test_a_folder_that_is_reached_twice_counts_once(write, tmp_path):
    """Real folders come before links to them, wherever they stand."""
    write("a/z/y/p.go", "// run\n" + BODY)
    write("b/q.go", "// run\n" + BODY)
    for link, target in (("a/b", "z/y"), ("a/loop", "."), ("a/z/up", "../.."), ("a/z/b", "../../b")):
        (tmp_path / link).symlink_to(target)
    assert names(tmp_path / "a") == ["y/p", "b/q"]
    (tmp_path / "c").symlink_to("b")
    assert names(tmp_path / "b", tmp_path / "c", tmp_path / "c/q.go", tmp_path / "a/../b/q.go") == ["b/q"]
    assert names(tmp_path / "a/..") == [f"{name}" for name in ("y/p", "b/q")]


def test_two_links_to_a_file_are_two_programs(write, tmp_path):
    write("s/p.go", "// run\n" + BODY)
    (tmp_path / "s/q.go").symlink_to("p.go")
    assert names(tmp_path / "s") == ["s/p", "s/q"]


def test_programs_of_one_name_get_more_of_their_paths(write, tmp_path):
    for place in ("x/s/a", "y/s/a", "y/s/b"):
        write(f"{place}.go", "// run\n" + BODY)
    assert names(tmp_path) == ["x/s/a", "y/s/a", "s/b"]
    assert names(tmp_path / "x", tmp_path / "y/s/b.go") == ["s/a", "s/b"]


@pytest.mark.parametrize(
    ("text", "is_program"),
    [
        ("// run\n", True),
        ("\ufeff// run 5\r\n", True),
        ("\n\n//go:build linux\n// +build linux\n\n//  run\n", True),
        ("// Copyright\n// run\n", False),
        ("/* run */\n", False),
        ("package main // run\n", False),
        ("// running\n", False),
        ("//\n", False),
        ("", False),
        ("// errorcheck\n", False),
        ("// runoutput\n", False),
    ],
)
def test_a_header_is_read_alike_wherever_it_is_read(write, text, is_program):
    file = write("s/a.go", text + BODY)
    assert (kind_of(file) == "run") is is_program
    assert read_program(file).kind == (kind_of(file) or "run")


def test_a_build_constraint_says_what_a_program_is_for(write):
    i386, amd64 = Target("linux", "386"), Target("linux", "amd64")
    for line in ("// +build 386", "//go:build 386 && !hurd", "//go:build 386\n// +build amd64"):
        program = read_program(write("s/a.go", f"{line}\n\n// run\n" + BODY))
        assert program.fits(i386, conf.Variant()) and not program.fits(amd64, conf.Variant()), line
    with pytest.raises(ProgramError, match=r"a\.go:1: not a build constraint: '386 &&'"):
        read_program(write("s/a.go", "//go:build 386 &&\n// run\n" + BODY))


def test_a_program_of_several_files(write, tmp_path):
    source, helper = write("s/a.go", "// run 5 b.go\n" + BODY), write("s/b.go", "package main\n")
    program = read_program(source)
    assert (program.args, program.build.packages) == (("5",), ((source, helper),))
    assert names(tmp_path / "s") == ["s/a"]
    helper.unlink()
    with pytest.raises(ProgramError, match=r"a\.go:1: run: there is no file b\.go beside it"):
        read_program(source)


def test_a_program_of_a_folder_is_selected_by_its_file(write, tmp_path, monkeypatch):
    write("mine/a.go", "// run\n" + BODY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramError, match=r"no suite, .* named mine/a; did you mean mine/a\.go\?"):
        select_programs(["mine/a"])


def test_a_term_is_remembered_so_that_it_is_understood_in_any_folder(write, tmp_path, monkeypatch):
    for name in ("x/mine/a.go", "x/threads", "x/y/b.c"):  # `threads` is a file, and a suite
        write(name, "// run\n" + BODY)
    monkeypatch.chdir(tmp_path / "x/y")
    assert from_anywhere("../mine") == str(tmp_path / "x/mine")
    monkeypatch.chdir(tmp_path / "x")
    terms = ["mine", "y/../mine/a.go", "y/b.c", "threads", "threads/lock-*", "gone.go"]
    assert list(map(from_anywhere, terms)) == [
        *[str(tmp_path / place) for place in ("x/mine", "x/mine/a.go", "x/y/b.c")], *terms[3:]
    ]  # fmt: skip


def test_a_suite_s_name_may_end_in_a_slash(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no folder has its name
    listed = [replace(read_program(write("x/a.go", BODY)), name="other/a", from_gcc=True)]
    assert select_programs(["other/"], {"other": lambda: listed}) == listed
    assert select_programs(["threads/"]) == select_programs(["threads"])
    with pytest.raises(ProgramError, match=r"no suite, folder, \.go or \.c file named thread/; did you mean threads\?"):
        select_programs(["thread/"])


def test_an_empty_word_is_refused():
    with pytest.raises(ProgramError, match="an empty word selects nothing"):
        select_programs([""])


def test_a_pipe_or_device_is_not_waited_for(tmp_path):
    (tmp_path / "a.go").symlink_to("/dev/null")  # one that has an end, so that this test has one too
    with pytest.raises(ProgramError, match=r"a\.go: cannot be read: it is no regular file"):
        read_program(tmp_path / "a.go")


def test_programs_of_the_own_suites_are_described():
    programs = select_programs([])
    assert len(programs) >= 12
    for program in programs:
        header = program.source.read_text().split("package main")[0].splitlines()
        prose = [line for line in header if line.startswith("// ") and not line.split()[1].endswith(":")]
        assert sum(len(line.split()) for line in prose) > 20, program.name


def test_rounds_follow_each_other_and_variants_stand_side_by_side(write):
    guests = {"g": conf.load().guest("linux-i386")}
    variants = {
        "x": conf.Variant(),
        "y": conf.Variant(lacks=["split-stack"]),
        "z": conf.Variant(only=["i686-gnu"]),
    }
    needy = read_program(write("s/b.go", "// needs: split-stack\n" + BODY))
    chosen = [read_program(write("s/a.go", BODY)), needy, read_program(write("s/c.go", "// needs: wings\n" + BODY))]
    specs = trial_specs(guests, {"g": "i686-linux-gnu"}, variants, chosen, 2)
    order = [(spec.number, spec.program.name, spec.variant) for spec in specs]
    assert order == [(n, *cell) for n in (1, 2) for cell in (("s/a", "x"), ("s/a", "y"), ("s/b", "x"))]


def test_a_file_whose_name_is_not_utf_8(tmp_path):
    file = tmp_path / os.fsdecode(b"a\xff.go")
    file.write_text("package main\n")
    with pytest.raises(ProgramError, match=r"a\\xff\.go: the file's name is not UTF-8"):
        read_program(file)
