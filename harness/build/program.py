"""Test programs, compiled for a toolchain against a libgo's export data, what is preloaded, and the guest's agent.

A program is built once for all libgos with the same interface, so that variants run the same bytes; a C program is
built once. Knows nothing of expectations or guests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.build import command
from harness.build.libgo import Libgo
from harness.build.toolchain import Toolchain
from harness.build.variants import Preload
from harness.cache import Cache, digest, file_digest
from harness.errors import BuildError, ProgramError
from harness.programs import gotags
from harness.programs.gotags import Target
from harness.programs.model import Program

#: Flags for packages that a program of several imports, as GCC's go-test.exp compiles them.
PACKAGE_FLAGS = ("-O", "-g")
#: Seconds that a compilation may take. The largest file that a test of GCC's generates takes a minute.
LIMIT = 600.0


def build(program: Program, toolchain: Toolchain, libgo: Libgo, cache: Cache) -> Path:
    """Compile and link a program, or take it from the cache.

    Returns:
        The path of the executable.

    Raises:
        ProgramError: it does not compile; the text has the compiler's output.
    """
    spec = program.build
    packages = spec.packages or ((program.source,),)
    if spec.folder:
        packages = (tuple(gotags.files(spec.folder, Target.of(toolchain.triple))),)
    *imported, main = packages
    inputs: dict[str, object] = {
        "source": file_digest(main[0]),
        "name": main[0].name,
        "flags": [*spec.flags, *libgo.flags],
        "interface": libgo.interface,
    }
    if more := [*main[1:], *(file for package in imported for file in package)]:
        inputs["more"] = [[file.name, file_digest(file)] for file in more]
    key = digest({**inputs, "toolchain": toolchain.identity})

    def make(staging: Path) -> None:
        # Packages are imported by `./name`, which means an object file in the folder where the compiler runs.
        for package in imported:
            options = [*PACKAGE_FLAGS, "-c", "-I.", "-o", f"{package[0].stem}.o"]
            compile_with(toolchain, libgo, options, package, staging)
        objects = [f"{package[0].stem}.o" for package in imported]
        compile_with(toolchain, libgo, [*spec.flags, "-o", "program"], main, staging, objects)

    return cache.make("programs", key, make, about=f"{program.name} for {toolchain.name}") / "program"


def build_output(program: Program, output: bytes, toolchain: Toolchain, libgo: Libgo, cache: Cache) -> Path:
    """Compile and link the Go program that a program printed, as `build` does.

    Returns:
        The path of the executable.

    Raises:
        ProgramError: it does not compile.
    """
    flags = program.build.output_flags
    output_digest = digest(output.decode("latin-1"))
    inputs = {"output": output_digest, "name": program.source.name, "flags": [*flags, *libgo.flags]}
    key = digest({**inputs, "interface": libgo.interface, "toolchain": toolchain.identity})

    def make(staging: Path) -> None:
        source = staging / "output.go"
        source.write_bytes(output)
        compile_with(toolchain, libgo, [*flags, "-o", "program"], [source], staging)

    about = f"what {program.name} printed, for {toolchain.name}"
    return cache.make("programs", key, make, about=about) / "program"


def compile_with(
    toolchain: Toolchain,
    libgo: Libgo,
    options: Sequence[str],
    files: Sequence[Path],
    folder: Path,
    objects: Sequence[str] = (),
) -> None:
    """Run the Go compiler in a folder.

    Args:
        options: the compiler's options besides the toolchain's and the libgo's.
        files: Go files. An error's text names the first.
        objects: object files, by their names in the folder.

    Raises:
        ProgramError: it fails; the text has the compiler's output.
        BuildError: the compiler was killed, or the disk is full, which does not depend on the program.
    """
    gccgo = [toolchain.gccgo, *toolchain.compile_flags, *options, *libgo.compile_flags]
    # The name in the debugging information must not depend on where the harness lies.
    gccgo += [f"-fdebug-prefix-map={files[0].parent}=.", *map(str, files), *objects]
    _run_compiler(gccgo, files[0], folder)


def _run_compiler(arguments: Sequence[str], source: Path, folder: Path) -> None:
    """Run a compiler in a folder. Raises as `compile_with`; the text names the source."""
    try:
        process = command.capture(arguments, folder=folder, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{source} does not compile:\nnot within {LIMIT:.0f} s") from error
    errors = process.stderr.decode(errors="replace")
    if trouble := command.TROUBLE.search(errors):
        raise BuildError(f"{source} could not be compiled: {trouble[0]}")
    if process.returncode:
        raise ProgramError(f"{source} does not compile:\n{errors.strip()}")


def build_c(program: Program, toolchain: Toolchain, cache: Cache) -> Path:
    """Compile and link a C program, or take it from the cache.

    Returns:
        The path of the executable.

    Raises:
        ProgramError: it does not compile; the text has the compiler's output.
        BuildError: the compiler was killed, or the disk is full.
    """
    flags = [*program.build.flags, "-pthread"]
    headers = [[header.name, file_digest(header)] for header in c_headers(program.source)]
    inputs = {"source": file_digest(program.source), "name": program.source.name, "flags": flags, "headers": headers}

    def make(staging: Path) -> None:
        _run_gcc(toolchain, [*flags, "-o", "program"], program.source, staging)

    key = digest({**inputs, "toolchain": toolchain.c_identity})
    return cache.make("programs", key, make, about=f"{program.name} for {toolchain.name}") / "program"


def c_headers(source: Path) -> list[Path]:
    """The headers that a C program may include from its own folder."""
    return sorted(source.parent.glob("*.h"))


def build_preload(preload: Preload, toolchain: Toolchain, cache: Cache) -> Path:
    """Compile a C file as a library to be preloaded, or take it from the cache.

    Returns:
        The path of the shared library.

    Raises:
        ProgramError, BuildError: as of `build_c`.
    """
    name = f"lib{preload.file.stem}.so"
    options = ["-shared", "-fPIC", "-O2", "-g", "-pthread", "-o", name]
    key = digest({"text": preload.key, "name": preload.file.name, "toolchain": toolchain.c_identity})

    def make(staging: Path) -> None:
        (staging / preload.file.name).write_bytes(preload.text)
        _run_gcc(toolchain, options, staging / preload.file.name, staging, named=preload.file)

    return cache.make("preload", key, make, about=f"{preload.file.name} for {toolchain.name}") / name


def _run_gcc(
    toolchain: Toolchain, options: Sequence[str], source: Path, folder: Path, named: Path | None = None
) -> None:
    """Run the C compiler in a folder. `named` is what an error's text has in place of the source. Raises as
    `compile_with`."""
    gcc = [toolchain.gcc, *toolchain.compile_flags, f"-ffile-prefix-map={source.parent}=.", *options, str(source)]
    try:  # -ldl: before glibc 2.34 dlsym was in a library of its own
        _run_compiler([*gcc, "-ldl"], source, folder)
    except ProgramError as error:
        raise ProgramError(str(error).replace(str(source), str(named or source))) from error


def build_agent(source: Path, toolchain: Toolchain, cache: Cache) -> Path:
    """Compile the guest's agent, or take it from the cache.

    Raises:
        BuildError: it does not compile; the text has the compiler's first error.
    """
    key = digest({"source": file_digest(source), "toolchain": toolchain.c_identity})

    def compile_with(staging: Path) -> None:
        gcc: list[str | Path] = [toolchain.gcc, *toolchain.compile_flags]
        gcc += ["-O2", "-s", "-o", staging / "agent", source]
        command.run(gcc, cache.root / "agent.log", folder=staging, what=f"compiling the agent for {toolchain.triple}")

    return cache.make("agent", key, compile_with, about=f"for {toolchain.name}") / "agent"
