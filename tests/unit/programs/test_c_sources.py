"""C programs as programs: their headers, their selection, twins, and the suite of them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness import conf
from harness.errors import ProgramError
from harness.programs.header import read_program
from harness.programs.model import TrialSpec
from harness.programs.select import own_suites, select_programs, trial_specs
from harness.programs.sources import kind_of, sources

C = "// run\n\nint\nmain (void)\n{\n}\n"
GO = "// run\n\npackage main\n\nfunc main() {}\n"


def test_the_header_of_a_c_program_is_that_of_a_go_program(write):
    write("s/p.out", "hello\n")
    text = (
        "// run\n// args: 64\n// timeout: 2m\n// expect: exit 3\n\n// It counts.\n\n#include <stdio.h>\n// args: 65\n"
    )
    program = read_program(write("s/p.c", text))
    assert (program.name, program.kind, program.args) == ("s/p", "run", ("64",))
    assert (program.timeout, program.expected.exit_status, program.expected.stdout) == (120, 3, b"hello\n")
    assert program.about == "It counts."


@pytest.mark.parametrize(("name", "is_c"), [("p.c", True), ("p.go", False), ("c.go", False)])
def test_a_c_program_is_known_by_its_file(write, name, is_c):
    assert read_program(write(f"s/{name}", C)).is_c is is_c


def test_a_twin_is_read(write):
    assert read_program(write("a.go", "// run\n// twin: pthreads/churn\n\npackage main\n")).twin == "pthreads/churn"
    assert read_program(write("b.go", GO)).twin == ""


@pytest.mark.parametrize("value", ["churn", "pthreads/", "/churn", "a/b/c", "pthreads/churn pthreads/limit"])
def test_a_wrong_twin_is_named(write, value):
    with pytest.raises(ProgramError, match=r"p\.go:2: twin: '.*' is not SUITE/PROGRAM"):
        read_program(write("p.go", f"// run\n// twin: {value}\n\npackage main\n"))


def test_a_folder_s_programs_are_its_go_and_c_files(write, tmp_path):
    for name in ("b.go", "a.c", "c.h", "d.out", "e.cc"):
        write(f"mixed/{name}", C)
    write("mixed/f.c", "// skip\n")
    assert [path.name for path in sources(tmp_path / "mixed")] == ["a.c", "b.go", "f.c"]
    assert [program.name for program in select_programs([str(tmp_path / "mixed")])] == ["mixed/a", "mixed/b"]


def test_a_c_file_is_selected_by_its_path(write):
    source = write("mine/p.c", C)
    (program,) = select_programs([str(source)])
    assert (program.name, program.source, program.is_c) == ("mine/p", source, True)
    with pytest.raises(ProgramError, match="only `run` tests can be run"):
        select_programs([str(write("mine/q.c", "// compile\n"))])


def test_a_c_and_a_go_program_of_one_name_are_told_apart_by_their_ends(write, tmp_path):
    for name, text in (("mine/p.c", C), ("mine/p.go", GO), ("mine/q.go", GO), ("x/mine/p.go", GO)):
        write(name, text)
    names = [program.name for program in select_programs([str(tmp_path / "mine")])]
    assert names == ["mine/p.c", "mine/p.go", "mine/q"]
    names = [program.name for program in select_programs([str(tmp_path)])]
    assert names == [f"{tmp_path.name}/mine/p.c", f"{tmp_path.name}/mine/p.go", "mine/q", "x/mine/p.go"]


@pytest.mark.parametrize(("seed", "seeds"), [(None, [1, 2, 3]), (7, [7, 7, 7]), (0, [0, 0, 0])])
def test_a_trial_s_seed_is_its_number_unless_one_is_given(write, seed, seeds):
    guests = {"g": conf.load().guest("linux-i386")}
    chosen = [read_program(write("s/a.c", C))]
    specs = list(trial_specs(guests, {"g": "i686-linux-gnu"}, {"v": conf.Variant()}, chosen, 3, seed))
    assert [spec.own_seed for spec in specs] == seeds
    assert [spec.number for spec in specs] == [1, 2, 3]
    assert TrialSpec("g", "v", chosen[0], 5).own_seed == 5


OWN = select_programs([])
PTHREADS = [program for program in OWN if program.name.startswith("pthreads/")]
TWINS = {program.name: program.twin for program in OWN if program.twin}


def test_the_suite_of_c_programs():
    assert len(PTHREADS) >= 15
    assert "pthreads" in own_suites()
    assert {program.source.suffix for program in PTHREADS} == {".c"}
    assert sorted(program.source for program in PTHREADS) == list(sources(own_suites()["pthreads"])), "none is left out"


@pytest.mark.parametrize("program", PTHREADS, ids=lambda program: program.name)
def test_each_c_program_says_what_it_prints_and_compiles_without_warnings(program, tools, tmp_path):
    assert kind_of(program.source) == "run"
    assert program.expected.stdout, "a program that prints nothing may have done nothing"
    compile_strictly([tools.gcc, *tools.compile_flags, *program.build.flags], program.source, tmp_path)


def compile_strictly(gcc: list[str], source: Path, folder: Path) -> None:
    flags = ["-Wall", "-Wextra", "-Werror", "-pthread", "-o", folder / "program"]
    process = subprocess.run([*gcc, *flags, source, "-ldl"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_each_twin_is_a_c_program_on_stacks_of_its_own():
    """Go programs always run on contexts that libgo made."""
    assert len(TWINS) >= 20
    by_name = {program.name: program for program in OWN}
    assert [name for name, twin in TWINS.items() if twin not in by_name] == []
    assert [name for name in TWINS if by_name[name].is_c] == []
    unlike = [twin for twin in TWINS.values() if "makecontext (" not in by_name[twin].source.read_text()]
    assert unlike == []


def test_programs_named_for_contexts_make_some_and_the_others_none():
    """As the suite's README.md has it."""
    exceptions = {"pthreads/from-context-churn", "pthreads/migrate", "pthreads/run-queue"}
    on_contexts = {program.name for program in PTHREADS if "makecontext (" in program.source.read_text()}
    named = {program.name for program in PTHREADS if program.name.endswith("-context")}
    assert on_contexts == named | exceptions


def test_a_c_program_needs_what_its_header_says(write):
    needy = replace(read_program(write("s/a.c", C)), needs=("wings",))
    guests = {"g": conf.load().guest("linux-i386")}
    assert not list(trial_specs(guests, {"g": "i686-linux-gnu"}, {"v": conf.Variant()}, [needy], 1))
