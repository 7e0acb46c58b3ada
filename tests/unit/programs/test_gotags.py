"""Which Go files are for a target, compared with libgo's own script where it is there."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.programs import gotags
from harness.programs.gotags import Target

LINUX, HURD = Target.of("i686-linux-gnu"), Target.of("i686-gnu")
LINUX_64, HURD_64 = Target.of("x86_64-linux-gnu"), Target.of("x86_64-gnu")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("linux", True),
        ("!linux", False),
        ("!linux && !windows || gccgo", True),
        ("!(linux || windows)", False),
        ("!!linux", True),
        ("(aix || hurd) && cgo", False),
        ("go1.18", True),
        ("386 && !amd64", True),
    ],
)
def test_expressions(text, value):
    assert gotags.expression(text, LINUX.has) is value


TAGS = st.sampled_from(["linux", "windows", "cgo", "386"])
EXPRESSIONS = st.recursive(
    TAGS,
    lambda inner: st.one_of(
        inner.map(lambda operand: f"!({operand})"),
        st.tuples(inner, st.sampled_from([" && ", "||"]), inner).map(lambda parts: f"({parts[0]}){parts[1]}{parts[2]}"),
    ),
)


@given(EXPRESSIONS)
def test_expressions_mean_what_python_means_by_them(text):
    python = text.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    names = {"linux": True, "windows": False, "cgo": True}
    assert gotags.expression(text, LINUX.has) is eval(python.replace("386", "True"), {}, names)


@pytest.mark.parametrize("text", ["", "linux &&", "(linux", "linux)", "linux windows", "linux & cgo"])
def test_invalid_expressions(text):
    with pytest.raises(ValueError, match="not a build constraint"):
        gotags.expression(text, LINUX.has)


@pytest.mark.parametrize(
    ("name", "linux", "hurd"),
    [
        ("os_linux.go", True, False),
        ("os_hurd.go", False, True),
        ("libcall_hurd_386.go", False, True),
        ("sys_linux_arm.go", False, False),
        ("x_amd64_random.go", True, True),
        ("linux.go", True, True),
        ("memmove_linux_amd64_test.go", False, False),
        ("hash32_test.go", True, True),
    ],
)
def test_names(name, linux, hurd):
    assert (gotags.name_matches(name, LINUX), gotags.name_matches(name, HURD)) == (linux, hurd)


def test_old_lines_count_only_without_a_new_one():
    assert not gotags.header_matches("// +build linux,!cgo windows\n", LINUX.has)
    assert gotags.header_matches("// +build linux,cgo windows\n// +build 386\n", LINUX.has)
    assert not gotags.header_matches("// +build linux\n// +build amd64\n", LINUX.has)
    assert gotags.header_matches("//go:build linux\n// +build windows\n", LINUX.has)


def test_targets_by_their_triples():
    assert (Target("linux", "386"), Target("hurd", "386")) == (LINUX, HURD)
    assert (Target("linux", "amd64"), Target("hurd", "amd64")) == (LINUX_64, HURD_64)
    assert Target.of("m68k-unknown") == Target("unknown", "unknown")


@pytest.mark.parametrize("target", [LINUX, HURD, LINUX_64, HURD_64])
def test_the_files_are_those_that_libgo_s_own_script_finds(gcc, target):
    folder = gcc / "libgo/go/internal/poll"
    options = [f"--goarch={target.goarch}", f"--goos={target.goos}", f"--srcdir={folder}"]
    script = ["bash", gcc / "libgo/match.sh", *options]
    process = subprocess.run(script, capture_output=True, text=True, check=True)
    assert sorted(process.stdout.split()) == [str(file) for file in gotags.files(folder, target)]
