"""The suites in GCC's source: their programs and rules."""

import re
from collections import Counter
from fnmatch import fnmatch
from types import SimpleNamespace

import pytest

from harness import conf, paths
from harness.build import gotest, patches
from harness.errors import ConfigError, ProgramError
from harness.guest import fresh
from harness.programs import gcc_suites, gotags
from harness.programs.gcc_suites import Header
from harness.programs.gotags import Target
from harness.programs.select import fitting_programs, own_suites, select_programs

LINUX, HURD = Target.of("i686-linux-gnu"), Target.of("i686-gnu")


@pytest.fixture
def contents(gcc):
    return {name: gcc_suites.contents(name, suite, gcc) for name, suite in gcc_suites.suites().items()}


def by_name(contents, suite):
    return {program.name.removeprefix(f"{suite}/"): program for program in contents[suite].programs}


def test_gcc_s_tests_by_kind(contents):
    kinds = {"run": 622, "errorcheck": 429, "compile": 312, "compiledir": 76, "rundir": 46, "runoutput": 17}
    kinds |= {"errorcheckdir": 13, "build": 11, "skip": 11, "errorcheckoutput": 4}
    kinds |= {"builddir": 1, "buildrun": 1, "errorcheckandrundir": 1}
    assert contents["gcc-go"].kinds == Counter(kinds)
    programs = contents["gcc-go"].programs
    skipped = {"closure", "init1", "rotate0", "rotate1", "rotate2", "rotate3"}
    assert set(contents["gcc-go"].skipped) == skipped
    assert len(programs) == 622 + 46 + 17 - len(skipped)
    # 26 of them are for another compiler, by their `+build` lines.
    for target in (LINUX, HURD):
        assert sum(program.fits(target, conf.Variant()) for program in programs) == 653
    assert len(fitting_programs(programs, ["i686-linux-gnu"], [conf.Variant()])) == 653
    with pytest.raises(ProgramError, match="gcc-go/fixedbugs/bug302: for another system or compiler"):
        fitting_programs([by_name(contents, "gcc-go")["fixedbugs/bug302"]], ["i686-gnu"], [conf.Variant()])
    assert sum(program.expected.output is not None for program in programs) == 28
    assert all(program.expected.gcc and program.timeout >= 300 for program in programs)


def test_rules_of_single_tests(contents):
    programs = by_name(contents, "gcc-go")
    assert programs["args"].args == ("arg1", "arg2")
    assert programs["chan/goroutines"].args == ("64",)
    assert programs["fixedbugs/issue28688"].args == (), "-gcflags is for another compiler"
    for name in ("chan/select2", "stack", "peano", "nilptr2"):
        assert programs[name].needs == ("split-stack",)
    assert programs["fixedbugs/bug348"].build.flags[-1] == "-O0"
    assert [file.name for file in programs["cmplxdivide"].build.packages[0]] == ["cmplxdivide.go", "cmplxdivide1.go"]
    index = programs["index0"].build
    assert [file.name for file in index.packages[0]] == ["index0.go", "index.go"]
    assert index.output_flags[0] == "-O0"
    packages = programs["fixedbugs/bug437"].build.packages
    assert [[file.name for file in package] for package in packages] == [["one.go"], ["two.go"], ["x.go"]]


def test_the_other_suites(contents):
    assert len(contents["gcc-go-torture"].programs) == 32 * 8
    runtime = by_name(contents, "go-runtime")
    assert runtime["LockOSThreadMain"].env == {"GOMAXPROCS": "1"}
    assert runtime["SimpleDeadlock"].expected.exit_status == 2
    packages = by_name(contents, "libgo-packages")
    assert len(packages) + len(contents["libgo-packages"].skipped) == 196
    assert packages["sync"].args == ("-test.short", "-test.v", "-test.timeout=600s")
    assert not packages["sync"].fits(LINUX, conf.Variant(prebuilt=True)), "a prebuilt libgo has no sources"
    for name, suite in gcc_suites.suites().items():
        assert all(program.word == program.name for program in contents[name].programs)
        names = {*by_name(contents, name), *contents[name].skipped}
        for pattern in suite.programs:
            assert any(fnmatch(program, pattern) for program in names), f"{name} has no {pattern}"


def test_all_programs_of_runtime_s_test_binary_are_listed(contents, gcc):
    folder = gcc / "libgo/go/runtime/testdata/testprog"
    names = {*by_name(contents, "go-runtime"), *contents["go-runtime"].skipped}
    elsewhere = re.compile("FreeBSD|CheckPtr|RaiseException|ZeroDivisionException|StackMemory")
    for file in folder.glob("*.go"):
        for name in re.findall(r'\bregister(?:Init)?\("(\w+)"', file.read_text()):
            assert name in names or elsewhere.match(name), name


@pytest.mark.parametrize(
    ("text", "directive", "constraints"),
    [
        ("// run\n\n// Copyright\n\npackage p\n", "run", ()),
        ("// +build !windows cgo\n// +build linux\n\n// run a b\n", "run a b", (("!windows", "cgo"), ("linux",))),
        ("//go:build linux\n// +build linux\n// run\n", "", ()),  # go-test.exp stops there
        ("\n\n// rundir\n", "rundir", ()),
        ("package p\n// run\n", "", ()),
        ("", "", ()),
    ],
)
def test_headers(text, directive, constraints):
    assert gcc_suites.header(text) == Header(directive, constraints)


def test_single_programs_are_selected_by_name(contents):
    others = {name: lambda name=name: contents[name].programs for name in contents}
    (program,) = select_programs(["gcc-go/chan/select3"], others)
    assert program.source.name == "select3.go"
    assert {program.name for program in select_programs(["gcc-go/ken/cplx?"], others)} == {
        f"gcc-go/ken/cplx{n}" for n in range(6)
    }
    assert {program.name.split("/")[0] for program in select_programs([], others)} <= set(own_suites())
    assert len(select_programs([str(paths.DATA / "suites/gcc-go-torture")], others)) == 256
    with pytest.raises(ProgramError, match="no runnable program chan/selekt3; did you mean gcc-go/chan/select3"):
        select_programs(["gcc-go/chan/selekt3"], others)
    with pytest.raises(ProgramError, match="did you mean gcc-go"):
        select_programs(["gcc-gos"], others)


def test_a_wrong_suite_is_named(write, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    write("suites/x/suite.yaml", "about: a\nkind: torture\nsource: gcc\ntimeout: 1s\nprograms:\n  a: {skipp: b}\n")
    with pytest.raises(ConfigError, match=r"suite.yaml:6: programs.a.skipp: unknown key; did you mean skip"):
        gcc_suites.suites()


def test_a_package_s_name_is_not_read_from_a_comment(write):
    text = "// Copyright\n\n/*\nText about a\npackage on its way.\n*/\npackage signal\n"
    assert gotest.package_name(write("doc.go", text)) == "signal"


def test_the_main_program_of_tests():
    text = gotest.main_program("container/list", {"list": ["TestA"], "list_test": []}, "")
    assert 'import "./_gotest_"\nimport _ "./_xtest_"\n' in text
    assert '{"TestA", list.TestA}' in text
    assert "__os__.Exit(m.Run())" in text
    assert "\tlist_test.TestMain(m)\n" in gotest.main_program(
        "x", {"list": [], "list_test": ["TestA"]}, "list_test.TestMain"
    )


def test_a_variant_s_patches_are_in_its_packages_tests(gcc, tmp_path):
    (patch,) = patches.read(paths.DATA / "conf/patches/no-thread-destruction.patch")
    assert gotest.touches(patch, "runtime")
    assert not gotest.touches(patch, "runtime/debug")
    folder = gotest.patched_package([patch], gcc, "runtime", tmp_path)
    differing = [
        file.name for file in folder.iterdir() if file.read_bytes() != (gcc / file.relative_to(tmp_path)).read_bytes()
    ]
    assert differing == ["proc.go"]
    assert len(gotags.files(folder, LINUX)) == len(gotags.files(gcc / "libgo/go/runtime", LINUX))


class Recorder:
    """Stands in for a guest's shell and agent, and records the calls."""

    def __init__(self):
        self.calls = []

    def put(self, data, path):
        self.calls.append(f"put {path}")

    def unpack(self, archive, folder):
        self.calls.append(f"unpack {folder}")

    def run(self, command, *_, **__):
        self.calls.append(command)


def test_programs_make_room_for_each_other(write, monkeypatch):
    monkeypatch.setattr(fresh, "PROGRAMS", 25)
    shell = Recorder()
    machine = SimpleNamespace(guest=conf.load().guest("linux-i386"))
    guest = fresh.Guest(machine, lambda: shell)
    for name in "abc":
        write(f"{name}/program", "x" * 10)
    write("b/files.tar", "y" * 2)
    for name in "abab":
        guest.ship(shell, write(f"{name}/program", "x" * 10), f"/{name}/p")
    assert shell.calls == ["put /a/p", "put /b/p", "unpack /b"], "each is there once"
    guest.ship(shell, write("a/program", "x" * 10), "/a/p")
    guest.ship(shell, write("c/program", "x" * 10), "/c/p")
    assert shell.calls[3:] == ["rm -rf /b", "put /c/p"], "the one that was not used for longest goes"
