"""The tests of a package of libgo as one program, built as libgo/testsuite/gotest builds it.

The package is compiled anew together with its tests, and replaces the one in libgo; so a variant's patches to it are
applied here too. Knows nothing of expectations or guests.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.build import command, libgo, patches, source
from harness.build.libgo import Libgo, Recipe
from harness.build.program import compile_with
from harness.build.toolchain import Toolchain
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError, ProgramError
from harness.programs import gotags
from harness.programs.gotags import Target
from harness.programs.model import Program

#: Files that libgo's build writes for a package, and tags that hold for it (libgo/Makefile.am, extra_go_files_* and
#: matchargs_*). A file that does not exist for a target is left out.
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


def build(program: Program, toolchain: Toolchain, library: Libgo, recipe: Recipe, cache: Cache) -> Path:
    """Compile and link the tests of a package, or take them from the cache.

    Args:
        library: the libgo to link with.
        recipe: what that libgo was built of.

    Returns:
        The path of the executable. Beside it lies files.tar, with the folder `test` where it must run.

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
    touching = [patch for patch in recipe.patches if touches(patch, package)]
    files = _runtime_files(folder)
    key = digest(
        {
            "package": package,
            "files": [[name, file_digest(file)] for name, file in files],
            "generated": [[file.name, file_digest(file)] for file in generated],
            "patches": [patch.key for patch in touching],
            "flags": [*program.build.flags, *library.flags],
            "interface": library.interface,
            "imports": extra.name,
            "toolchain": toolchain.identity,
        }
    )

    def make(staging: Path) -> None:
        sources_folder = patched_package(touching, gcc, package, staging / "src") if touching else folder
        objects = staging / "objects"
        objects.mkdir()
        tests = gotags.files(sources_folder, target, tests=True)
        if not tests:
            raise ProgramError(f"{folder} does not compile:\nit has no tests for {target.goos}")
        sources = [*gotags.files(sources_folder, target, _TAGS.get(package, ())), *generated]
        _TestBinary(program, package, toolchain, library, extra, objects).make(sources, tests, staging / "program")
        _archive(files, staging / "files.tar")
        for scratch in (objects, staging / "src"):
            shutil.rmtree(scratch, ignore_errors=True)  # there is no `src` without patches

    return cache.make("programs", key, make, about=f"{program.name} for {toolchain.name}") / "program"


class _TestBinary:
    """The steps of building one."""

    def __init__(
        self, program: Program, package: str, toolchain: Toolchain, library: Libgo, extra: Path, folder: Path
    ) -> None:
        self._package, self._toolchain, self._libgo, self._folder = package, toolchain, library, folder
        # -I. comes first: the package with its tests lies in this folder, and replaces the one of libgo.
        self._options = [*program.build.flags, "-fno-toplevel-reorder", "-I."]
        self._options += [*library.compile_flags, f"-I{extra / 'gox'}"]

    def make(self, sources: Sequence[Path], tests: Sequence[Path], target: Path) -> None:
        internal = [file for file in tests if not package_name(file).endswith("_test")]
        external = [file for file in tests if file not in internal]
        self._compile([*internal, *sources], "_gotest_.o", self._package)
        tests_by_package = {package_name(sources[0]): self._test_functions("_gotest_.o", internal)}
        if external:
            archive = self._folder / Path(self._package).parent / f"lib{Path(self._package).name}.a"
            archive.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._folder / "_gotest_.o", archive)
            # The package with its tests is imported first, so that it is the one for all that import it.
            first = self._folder / "_first_test.go"
            first.write_text(f'package {package_name(external[0])}\nimport _ "{self._package}"\n')
            self._compile([first, *external], "_xtest_.o", f"{self._package}_test")
            tests_by_package[package_name(external[0])] = self._test_functions("_xtest_.o", external)
        if not any(tests_by_package.values()):
            raise ProgramError(f"{self._package} does not compile:\nit has no tests for this target")
        main = self._folder / "_testmain.go"
        main.write_text(main_program(self._package, tests_by_package, _test_main([*external, *internal])))
        options = [*self._options, "-o", str(target)]
        objects = ["_gotest_.o", *(["_xtest_.o"] if external else [])]
        compile_with(self._toolchain, self._libgo, options, [main], self._folder, [*objects, "-lm"])

    def _compile(self, files: Sequence[Path], target: str, path: str) -> None:
        options = [*self._options, f"-fgo-pkgpath={path}", "-c", "-o", target]
        compile_with(self._toolchain, self._libgo, options, files, self._folder)

    def _test_functions(self, target: str, files: Sequence[Path]) -> list[str]:
        """The test functions of an object file that are defined in some of the test files."""
        nm = command.capture([self._toolchain.tool("nm"), "-p", target], folder=self._folder)
        if nm.returncode:
            raise BuildError(f"tests of {self._package}: nm failed: {nm.stderr.decode(errors='replace').strip()}")
        symbols = dict.fromkeys(_SYMBOL.findall(nm.stdout.decode(errors="replace")))
        defined = set(re.findall(r"^func (\w+)\(", "".join(map(_text, files)), re.MULTILINE))
        return [name for name in symbols if name in defined - {"TestMain"}]


def main_program(package: str, tests_by_package: dict[str, list[str]], test_main: str) -> str:
    """The text of the main program.

    Args:
        package: the import path of the package that is tested.
        tests_by_package: the test functions of the package and, if there is one, of its external test package, by the
            packages' names.
        test_main: the qualified name of a TestMain function, or ''.
    """
    # Go refuses an import whose name is not used, so a package without tests is imported without a name.
    imports = zip(tests_by_package, ("./_gotest_", "./_xtest_"), strict=False)
    used = {name for name, tests in tests_by_package.items() if tests or test_main.startswith(f"{name}.")}
    lines = ["package main", *(f'import {"" if name in used else "_ "}"{path}"' for name, path in imports)]
    if package != "testing" or "testing" not in used:
        lines.append('import "testing"')
    lines += ['import "testing/internal/testdeps"', *([] if test_main else ['import __os__ "os"'])]
    lines.append("var tests = []testing.InternalTest{")
    lines += [f'\t{{"{test}", {name}.{test}}},' for name, tests in tests_by_package.items() for test in tests]
    lines += ["}", "func main() {"]
    lines.append("\tm := testing.MainStart(testdeps.TestDeps{}, tests, nil, nil, nil)")
    lines += [f"\t{test_main}(m)" if test_main else "\t__os__.Exit(m.Run())", "}"]
    return "\n".join(lines) + "\n"


def _test_main(files: Iterable[Path]) -> str:
    """The qualified name of a TestMain function, or ''."""
    return next((f"{package_name(file)}.TestMain" for file in files if "func TestMain(" in _text(file)), "")


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def package_name(file: Path) -> str:
    """The name in a Go file's package clause, or ''."""
    code = re.sub(r"/\*.*?\*/", "", _text(file), flags=re.DOTALL)  # a comment may contain the word at a line's start
    match = re.search(r"^package[ \t]+(\w+)", code, re.MULTILINE)
    return match[1] if match else ""


def touches(patch: patches.Patch, package: str) -> bool:
    """Whether a patch touches a package, given by its import path."""
    return any(str(Path(name).parent) == f"libgo/go/{package}" for name in patch.files)


def patched_package(touching: Sequence[patches.Patch], gcc: Path, package: str, top: Path) -> Path:
    """Copy a package's Go files, and apply patches to them.

    Args:
        touching: the patches, in their order.
        gcc: GCC's top folder.
        package: the package's import path.
        top: the folder to copy to.

    Returns:
        The folder of the package below `top`.

    Raises:
        PatchError: a patch does not apply.
    """
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


def _runtime_files(folder: Path) -> list[tuple[str, Path]]:
    """The files that tests may read, each with its place in the guest: the package's own files, and the testdata
    folders beside and above them."""
    files = [(f"test/{file.name}", file) for file in folder.iterdir() if file.is_file()]
    for data, place in ((folder / "testdata", "test/testdata"), (folder.parent / "testdata", "testdata")):
        files += [(f"{place}/{file.relative_to(data)}", file) for file in data.rglob("*") if file.is_file()]
    return sorted(files)


def _archive(files: Iterable[tuple[str, Path]], target: Path) -> None:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, file in files:
            data = file.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if file.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(data))
