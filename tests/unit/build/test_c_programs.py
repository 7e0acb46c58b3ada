"""C programs and preloaded libraries, compiled for real, and what is built of a variant that runs C programs alone."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness import conf
from harness.build import program, toolchain
from harness.build.artifacts import Artifacts, build_artifacts
from harness.build.libgo import Libgo
from harness.build.variants import Preload, read_variants
from harness.cache import Cache
from harness.errors import BuildError, ConfigError, ProgramError, ToolMissing
from harness.programs.header import read_program
from harness.progress import Reporter

C = "// run\n\n#include <pthread.h>\n\nint\nmain (void)\n{\n  return pthread_self () == 0;\n}\n"
GO = "// run\n\npackage main\n\nfunc main() {}\n"
PRELOAD = "int answer (void);\n\nint\nanswer (void)\n{\n  return 42;\n}\n"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def guest():
    return conf.load().guest("linux-i386")


@pytest.fixture
def no_go(tmp_path, tools):
    """The description of a toolchain that has the C compiler of the control's, and no other."""
    script = tmp_path / "bin/i686-linux-gnu-gcc-12"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {tools.gcc} "$@"\n')
    script.chmod(0o755)
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"toolchains:\n  linux-i386: {{prefix: {script.parent}/i686-linux-gnu-}}\n")
    return conf.load([mine])


def header_of(tools, file):
    """What binutils says of an ELF file: its class, type and machine."""
    return subprocess.run([tools.tool("readelf"), "-h", file], capture_output=True, text=True, check=True).stdout


def dynamic_of(tools, file):
    return subprocess.run([tools.tool("readelf"), "-dsW", file], capture_output=True, text=True, check=True).stdout


def test_a_c_program_is_a_program_of_the_target(tools, cache, write):
    file = program.build_c(read_program(write("s/p.c", C)), tools, cache)
    assert file.name == "program" and file.stat().st_mode & 0o111
    assert "ELF32" in header_of(tools, file) and "Intel 80386" in header_of(tools, file)
    assert "libgo" not in dynamic_of(tools, file)


def test_a_c_program_is_built_again_only_for_another_text_or_compiler(tools, cache, write):
    source = write("s/p.c", C)
    file = program.build_c(read_program(source), tools, cache)
    assert program.build_c(read_program(write("elsewhere/p.c", C)), tools, cache) == file
    unoptimized = replace(tools, flags=("-O0",))
    write("s/p.c", C + "\n")
    others = [
        program.build_c(read_program(source), tools, cache),
        program.build_c(read_program(source), unoptimized, cache),
    ]
    assert len({file, *others}) == 3


def test_a_c_program_s_debugging_information_does_not_say_where_it_lay(tools, cache, write, tmp_path):
    file = program.build_c(read_program(write("s/p.c", C)), tools, cache)
    assert str(tmp_path / "s").encode() not in file.read_bytes()


def test_a_c_program_that_does_not_compile(tools, cache, write):
    source = write("s/p.c", "// run\nint main (void) { return nothing; }\n")
    with pytest.raises(ProgramError, match=rf"{source} does not compile:\n(.|\n)*nothing. undeclared"):
        program.build_c(read_program(source), tools, cache)
    assert not list((cache.root / "programs").glob("[!.]*"))


@pytest.mark.parametrize(
    "message", ["gcc: fatal error: Killed signal terminated program cc1", "x.s: No space left on device"]
)
def test_a_compiler_in_trouble_is_no_error_of_the_c_program(tools, cache, write, message):
    stand_in = write(
        "gcc", f'#!/bin/sh\ncase $1 in -print*) exec {tools.gcc} "$1";; esac\necho "{message}" >&2\nexit 1\n'
    )
    stand_in.chmod(0o755)
    troubled = replace(tools, gcc=str(stand_in))
    with pytest.raises(BuildError, match="could not be compiled"):
        program.build_c(read_program(write("s/p.c", C)), troubled, cache)


def preload_of(file):
    return Preload(file, file.read_bytes())


def test_a_preload_is_a_shared_library_named_for_its_file(tools, cache, write):
    library = program.build_preload(preload_of(write("my-answer.c", PRELOAD)), tools, cache)
    assert library.name == "libmy-answer.so"
    assert "DYN (Shared object file)" in header_of(tools, library) and "ELF32" in header_of(tools, library)
    assert any(line.split()[-1:] == ["answer"] and "GLOBAL" in line for line in dynamic_of(tools, library).splitlines())


def test_a_preload_is_built_from_the_text_that_was_read(tools, cache, write):
    file = write("answer.c", PRELOAD)
    preload = preload_of(file)
    file.write_text("no C")
    library = program.build_preload(preload, tools, cache)
    assert program.build_preload(preload_of(write("elsewhere/answer.c", PRELOAD)), tools, cache) == library
    other = write("answer.c", PRELOAD.replace("42", "43"))
    assert program.build_preload(preload_of(other), tools, cache) != library


def test_a_preload_that_does_not_compile_is_named(tools, cache, write):
    file = write("mine/answer.c", "no C\n")
    with pytest.raises(ProgramError, match=f"{file} does not compile"):
        program.build_preload(preload_of(file), tools, cache)


def test_variants_read_their_preloads_once(write):
    file = write("a.c", PRELOAD)
    mine = write("mine.yaml", "variants:\n  mine: {preload: [a.c, b.c]}\n  lost: {preload: none.c}\n")
    write("b.c", "// b\n")
    variant = read_variants(["mine"], ["i686-linux-gnu"], conf.load([mine]))["mine"]
    file.write_text("edited")
    assert [preload.text for preload in variant.preloads] == [PRELOAD.encode(), b"// b\n"]
    assert [preload.file.name for preload in variant.preloads] == ["a.c", "b.c"]
    assert variant.preloads[0].key != variant.preloads[1].key
    with pytest.raises(ConfigError, match=r"none\.c: cannot be read: No such file"):
        read_variants(["lost"], ["i686-linux-gnu"], conf.load([mine]))


def test_a_variant_put_together_preloads_after_all_its_patches():
    configuration = conf.load()
    variants = read_variants(["no-sysmon+slow-exit+perturb", "no-sysmon"], ["i686-linux-gnu"], configuration)
    together = variants["no-sysmon+slow-exit+perturb"]
    assert [preload.file.stem for preload in together.preloads] == ["slow-exit", "perturb"]
    assert together.recipe == variants["no-sysmon"].recipe, "a preload makes no other libgo"
    assert together.config.seeded


def build(programs, configuration, tools, cache):
    variants = read_variants(list(programs), [tools.triple], configuration)
    with Reporter(lambda line: None) as report:
        return build_artifacts(programs, variants, tools, cache, report, lambda: False)


def test_no_libgo_is_built_for_c_programs(tools, cache, write):
    source = read_program(write("s/p.c", C))
    artifacts = build({"pristine": [source], "no-sysmon+slow-exit": [source]}, conf.load(), tools, cache)
    assert artifacts.libgos == {} and not (cache.root / "libgo").exists()
    assert artifacts.programs["pristine", "s/p"] == artifacts.programs["no-sysmon+slow-exit", "s/p"]
    assert {name: [library.name for library in libraries] for name, libraries in artifacts.preloads.items()} == {
        "no-sysmon+slow-exit": ["libslow-exit.so"]
    }


def test_a_libgo_is_built_for_the_variants_that_run_go_programs(tools, cache, write):
    go, c = read_program(write("s/g.go", GO)), read_program(write("s/c.c", C))
    artifacts = build({"distro": [c, go], "pristine": [c]}, conf.load(), tools, cache)
    assert set(artifacts.libgos) == {"distro"}
    assert set(artifacts.programs) == {("distro", "s/g"), ("distro", "s/c"), ("pristine", "s/c")}


def test_a_c_program_that_does_not_compile_is_a_result(tools, cache, write):
    source = read_program(write("s/p.c", "// run\nnone\n"))
    artifacts = build({"pristine": [source]}, conf.load(), tools, cache)
    assert "does not compile" in artifacts.broken["pristine", "s/p"] and not artifacts.programs


@pytest.fixture
def artifacts(tmp_path):
    """A libgo and two preloads of one variant, one preload of another, and a libgo of a third."""
    libgo = Libgo("key", tmp_path / "libgo/key")
    (libgo.folder / "lib").mkdir(parents=True)
    (libgo.folder / "lib/libgo.so.21").touch()
    slow, loud = Path("/cache/preload/1a/libslow.so"), Path("/cache/preload/2b/libloud.so")
    preloads = {"mine": (slow, loud), "c-alone": (loud,)}
    agent = Path("/cache/agent/3c/agent")
    return Artifacts(agent, {"mine": libgo, "plain": libgo}, {}, {}, lambda *arguments: agent, preloads)


def test_where_the_libraries_of_a_variant_lie_in_a_guest(artifacts, guest):
    folder = f"{guest.folder}/lib"
    libgo, slow, loud = f"{folder}/key/libgo.so.21", f"{folder}/1a/libslow.so", f"{folder}/2b/libloud.so"
    assert list(artifacts.libraries(guest, "mine", with_libgo=True)) == [libgo, slow, loud]
    assert list(artifacts.libraries(guest, "mine", with_libgo=False)) == [slow, loud]
    assert list(artifacts.libraries(guest, "c-alone", with_libgo=True)) == [loud]
    assert list(artifacts.libraries(guest, "plain", with_libgo=True)) == [libgo]
    assert artifacts.libraries(guest, "plain", with_libgo=False) == {}
    assert artifacts.libraries(guest, "mine", with_libgo=True)[slow] == artifacts.preloads["mine"][0]
    assert set(artifacts.contents(guest, ["mine", "c-alone", "plain"])) == {
        artifacts.agent_target(guest), libgo, slow, loud
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        ("p.go", "mine", {"LD_LIBRARY_PATH": "{}/key", "LD_PRELOAD": "{}/1a/libslow.so:{}/2b/libloud.so"}),
        ("p.c", "mine", {"LD_PRELOAD": "{}/1a/libslow.so:{}/2b/libloud.so"}),
        ("p.go", "plain", {"LD_LIBRARY_PATH": "{}/key"}),
        ("p.c", "c-alone", {"LD_PRELOAD": "{}/2b/libloud.so"}),
        ("p.c", "plain", {}),
    ],
)
def test_what_a_program_s_environment_says_of_libraries(artifacts, guest, write, name, variant, expected):
    environment = artifacts.environment(guest, variant, read_program(write(f"s/{name}", "// run\n")))
    folder = f"{guest.folder}/lib"
    assert environment == {key: value.replace("{}", folder) for key, value in expected.items()}
    libraries = artifacts.libraries(guest, variant, with_libgo=True)
    assert set(environment.get("LD_PRELOAD", folder).split(":")) - {folder} <= set(libraries), (
        "that is where they are put"
    )


def test_c_programs_need_no_go_compiler(no_go, cache, write):
    with pytest.raises(ToolMissing, match="i686-linux-gnu-gccgo is not installed"):
        toolchain.find("linux-i386", no_go)
    tools = toolchain.find("linux-i386", no_go, go=False)
    assert (tools.gccgo, tools.version.split(".")[0]) == ("", "12") and tools.gcc.endswith("i686-linux-gnu-gcc-12")
    assert tools.identity == tools.c_identity
    artifacts = build({"slow-exit": [read_program(write("s/p.c", C))]}, no_go, tools, cache)
    assert artifacts.programs["slow-exit", "s/p"].is_file() and artifacts.agent.is_file()


def test_a_go_compiler_that_is_there_is_found_for_c_programs_too(tools):
    c_tools = toolchain.find("linux-i386", conf.load(), go=False)
    assert (c_tools.gccgo, c_tools.gcc, c_tools.identity) == (tools.gccgo, tools.gcc, tools.identity)


def test_what_a_toolchain_without_any_compiler_lacks(write):
    mine = write("mine.yaml", "toolchains:\n  mine: {triple: i686-linux-gnu, prefix: /none/x-}\n")
    for go, tool in ((True, "gccgo"), (False, "gcc")):
        with pytest.raises(ToolMissing, match=f"toolchain mine: /none/x-{tool} is not installed"):
            toolchain.find("mine", conf.load([mine]), go)


def test_the_go_compiler_makes_no_difference_to_a_c_program(tools, write):
    other = replace(tools, gccgo=str(write("gccgo", "#!/bin/sh\necho x\n")), banner="another")
    assert other.c_identity == tools.c_identity != replace(tools, flags=("-O0",)).c_identity
