"""The tests of a package of libgo as one program, made as libgo/testsuite/gotest makes it.

The package is compiled anew together with its tests, and stands in for the one in libgo; so a variant's patches to it
are applied here too. Knows nothing of expectations or guests.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.build import libgo, patches, source
from harness.build.libgo import Libgo, Recipe
from harness.build.program import compile_
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError, ProgramError
from harness.programs import gotags
from harness.programs.gotags import Target
from harness.programs.model import Program

#: Files that the build writes for a package, and tags that hold for it (libgo/Makefile.am, extra_go_files_* and
#: matchargs_*). A file that a target does not have is left out.
_GENERATED = {
    "runtime": ("runtime_linknames.go", "runtime_sysinfo.go", "sigtab.go", "goroot.go"),
    "syscall": ("libcalls.go", "sysinfo.go", "syscall_arch.go", "syscall_linknames.go", "epoll.go"),
    "runtime/internal/sys": ("version.go",),
    "internal/cpu": ("cpugen.go",),
    "internal/goarch": ("zgoarch.go",),
    "internal/goos": ("zgoos.go",),
    "internal/buildcfg": ("buildcfg.go",),
    "internal/goroot": ("zstdpkglist.go",),
    "go/types": ("gccgosizes.go",),
    "os": ("os_linknames.go",),
    "os/user": ("os_user_linknames.go",),
}
_TAGS = {"runtime": ("libffi",)}
#: A function of a test file, by its symbol: the package's mangled path, which has no dot, and its name.
_SYMBOL = re.compile(r" [TD] [^.\s]+\.(Test(?:[^a-z.\s][^.\s]*)?)$", re.MULTILINE)


def build(program: Program, toolchain: Toolchain, built: Libgo, recipe: Recipe, cache: Cache) -> Path:
    """Compile and link the tests of a package, or take them from the cache.

    Args:
        recipe: what the libgo was made of.

    Returns:
        The path of the executable. Beside it lies files.tar with the folder `test` that it is to run in.

    Raises:
        ProgramError: it does not compile, or has no tests.
        BuildError, ToolMissing, PatchError: libgo's build tree or source cannot be used.
    """
    package = program.build.package
    gcc = source.unpack(toolchain, cache)
    extra = libgo.for_tests(toolchain, recipe, cache)
    folder = gcc / "libgo" / "go" / package
    target = Target.of(toolchain.triple)
    generated = [extra / "generated" / name for name in _GENERATED.get(package, ())]
    generated = [file for file in generated if file.is_file()]
    touching = [patch for patch in recipe.patches if _touches(patch.files, package)]
    files = _files(folder)
    key = digest(
        {
            "package": package,
            "files": [[name, file_digest(file)] for name, file in files],
            "generated": [[file.name, file_digest(file)] for file in generated],
            "patches": [patch.key for patch in touching],
            "flags": [*program.build.flags, *built.flags],
            "interface": built.interface,
            "imports": extra.name,
            "toolchain": toolchain.identity,
        }
    )

    def make(staging: Path) -> None:
        own = _patched(touching, gcc, package, staging / "src") if touching else folder
        objects = staging / "objects"
        objects.mkdir()
        tests = gotags.files(own, target, tests=True)
        if not tests:
            raise ProgramError(f"{folder} does not compile:\nit has no tests for {target.goos}")
        sources = [*gotags.files(own, target, _TAGS.get(package, ())), *generated]
        _Binary(program, package, toolchain, built, extra, objects).make(sources, tests, staging / "program")
        _archive(files, staging / "files.tar")
        for done in (objects, staging / "src"):
            shutil.rmtree(done, ignore_errors=True)

    return cache.make("programs", key, make) / "program"


class _Binary:
    """The steps of making one."""

    def __init__(
        self, program: Program, package: str, toolchain: Toolchain, libgo_: Libgo, extra: Path, folder: Path
    ) -> None:
        self._package, self._toolchain, self._libgo, self._folder = package, toolchain, libgo_, folder
        # The package with its tests is found in this folder, before the one of libgo.
        self._words = [
            *program.build.flags,
            "-fno-toplevel-reorder",
            "-I.",
            *libgo_.compile_flags,
            f"-I{extra / 'gox'}",
        ]

    def make(self, sources: Sequence[Path], tests: Sequence[Path], target: Path) -> None:
        inner = [file for file in tests if not _package_of(file).endswith("_test")]
        outer = [file for file in tests if file not in inner]
        self._compile([*inner, *sources], "_gotest_.o", self._package)
        names = {_package_of(sources[0]): self._tests("_gotest_.o", inner)}
        if outer:
            library = self._folder / Path(self._package).parent / f"lib{Path(self._package).name}.a"
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._folder / "_gotest_.o", library)
            # The package with its tests is imported first, so that it counts for all that import it.
            first = self._folder / "_first_test.go"
            first.write_text(f'package {_package_of(outer[0])}\nimport _ "{self._package}"\n')
            self._compile([first, *outer], "_xtest_.o", f"{self._package}_test")
            names[_package_of(outer[0])] = self._tests("_xtest_.o", outer)
        if not any(names.values()):
            raise ProgramError(f"{self._package} does not compile:\nit has no tests for this target")
        main = self._folder / "_testmain.go"
        main.write_text(_main(self._package, names, _test_main([*outer, *inner]), bool(outer)))
        command = [*self._words, "-o", str(target)]
        objects = ["_gotest_.o", *(["_xtest_.o"] if outer else [])]
        compile_(self._toolchain, self._libgo, command, [main], self._folder, [*objects, "-lm"])

    def _compile(self, files: Sequence[Path], target: str, path: str) -> None:
        command = [*self._words, f"-fgo-pkgpath={path}", "-c", "-o", target]
        compile_(self._toolchain, self._libgo, command, files, self._folder)

    def _tests(self, target: str, files: Sequence[Path]) -> list[str]:
        """The test functions of an object file that are written in some of the test files."""
        command = [self._toolchain.tool("nm"), "-p", target]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"tests of {self._package}: nm says {done.stderr.strip()}")
        written = set(re.findall(r"^func (\w+)\(", "".join(map(_text, files)), re.MULTILINE))
        return [name for name in dict.fromkeys(_SYMBOL.findall(done.stdout)) if name in written - {"TestMain"}]


def _main(package: str, names: dict[str, list[str]], test_main: str, outer: bool) -> str:
    """The main program. A package none of whose names is used must be imported without a name."""
    imports = zip(names, ("./_gotest_", "./_xtest_"), strict=False)
    used = {name for name, tests in names.items() if tests or test_main.startswith(f"{name}.")}
    lines = ["package main", *(f'import {"" if name in used else "_ "}"{path}"' for name, path in imports)]
    if package != "testing" or "testing" not in used:
        lines.append('import "testing"')
    lines += ['import "testing/internal/testdeps"', *([] if test_main else ['import __os__ "os"'])]
    lines.append("var tests = []testing.InternalTest{")
    lines += [f'\t{{"{test}", {name}.{test}}},' for name, tests in names.items() for test in tests]
    lines += ["}", "func main() {"]
    lines.append("\tm := testing.MainStart(testdeps.TestDeps{}, tests, nil, nil, nil)")
    lines += [f"\t{test_main}(m)" if test_main else "\t__os__.Exit(m.Run())", "}"]
    return "\n".join(lines) + "\n"


def _test_main(files: Iterable[Path]) -> str:
    """The qualified name of a TestMain function, or ''."""
    return next((f"{_package_of(file)}.TestMain" for file in files if "func TestMain(" in _text(file)), "")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _package_of(file: Path) -> str:
    code = re.sub(r"/\*.*?\*/", "", _text(file), flags=re.DOTALL)  # a comment may speak of a package too
    match = re.search(r"^package[ \t]+(\w+)", code, re.MULTILINE)
    return match[1] if match else ""


def _touches(names: Iterable[str], package: str) -> bool:
    return any(str(Path(name).parent) == f"libgo/go/{package}" for name in names)


def _patched(touching: Sequence[patches.Patch], gcc: Path, package: str, top: Path) -> Path:
    """The folder of a package's Go files with patches applied."""
    place = Path("libgo/go") / package
    needed = {str(place / file.name) for file in (gcc / place).glob("*.go")}
    needed |= {name for patch in touching for name in patch.files}
    for name in needed:
        if (gcc / name).is_file():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(gcc / name, top / name)
    for patch in touching:
        patches.apply(patch, top)
    return top / place


def _files(folder: Path) -> list[tuple[str, Path]]:
    """What tests may read, by its place in the guest: the package's own files, and the testdata folders that they
    know."""
    own = [file for file in folder.iterdir() if file.is_file()]
    named = [(f"test/{file.name}", file) for file in own]
    for data, place in ((folder / "testdata", "test/testdata"), (folder.parent / "testdata", "testdata")):
        named += [(f"{place}/{file.relative_to(data)}", file) for file in data.rglob("*") if file.is_file()]
    return sorted(named)


def _archive(files: Iterable[tuple[str, Path]], target: Path) -> None:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, file in files:
            data = file.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if file.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(data))
