"""A toolchain on this machine: where its tools are, their version, and which toolchain the user has chosen.

Knows nothing of libgo or programs.
"""

from __future__ import annotations

import functools
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness import conf, host, packages
from harness.build import command
from harness.cache import file_digest
from harness.conf.read import read
from harness.errors import BuildError, ToolMissing
from harness.files import written_whole
from harness.invocation import command_line
from harness.locks import lock

#: The major versions of GCC whose libgo is supported; all have Go 1.18.
GCC_VERSIONS = range(16, 11, -1)


@dataclass(frozen=True)
class Toolchain:
    """The tools on this machine for one triple.

    Attributes:
        name: its name in the configuration.
        gccgo, gcc: absolute paths of the compilers; gccgo is "" where it is missing and not needed.
        version: the output of -dumpfullversion, such as 12.2.0.
        banner: the first line of --version, which has the distribution's revision too.
    """

    name: str
    triple: str
    prefix: str
    gccgo: str
    gcc: str
    version: str
    banner: str
    sysroot: Path | None
    flags: tuple[str, ...]
    configure: tuple[str, ...]
    source: Path | None

    @property
    def major(self) -> int:
        """The major version of the compiler."""
        return int(self.version.split(".")[0])

    @property
    def compile_flags(self) -> list[str]:
        """Flags that every compilation gets."""
        return [*([f"--sysroot={self.sysroot}"] if self.sysroot else []), *self.flags]

    def ask(self, option: str) -> str:
        """What the Go compiler prints for an option such as -print-file-name=libgo.so. Raises BuildError."""
        return _query(self.gccgo, *self.compile_flags, option)

    def tool(self, name: str) -> str:
        """The absolute path of a binutils program, such as strip. Raises ToolMissing."""
        return host.which(self.prefix + name, f"binutils-{_debian(self.triple)}", packages.search_path())

    @functools.cached_property
    def c_identity(self) -> dict[str, object]:
        """What the output of the C compiler depends on: its own bytes and the flags."""
        return {
            "triple": self.triple,
            "compilers": [_program_digest(self.gcc, "cc1")],
            "sysroot": str(self.sysroot),
            "flags": self.flags,
        }

    @functools.cached_property
    def identity(self) -> dict[str, object]:
        """What the output of a compilation depends on: the compilers' own bytes and the flags."""
        if not self.gccgo:
            return self.c_identity
        return {
            "triple": self.triple,
            "gccgo": self.banner,
            "compilers": [_program_digest(self.gccgo, program) for program in ("go1", "cc1")],
            "sysroot": str(self.sysroot),
            "flags": self.flags,
        }


def find(name: str, configuration: conf.Configuration, go: bool = True) -> Toolchain:
    """Find the tools of a toolchain: installed, or unpacked in the cache by harness/packages.py.

    Args:
        name: its name in the configuration.
        configuration: where it is described.
        go: whether the Go compiler is needed. Without it, it may be missing.

    Raises:
        ConfigError: there is no such toolchain.
        ToolMissing: a compiler is not installed.
        BuildError: the compiler does not run.
    """
    config = configuration.toolchain(name)
    key = ("toolchains", name)
    prefix = config.prefix or f"{config.triple}-"
    if "/" in prefix:  # a path is relative to the YAML file; a bare prefix is looked up in PATH
        prefix = str(configuration.beside(prefix, *key, "prefix"))
    majors = [config.gcc] if config.gcc else list(GCC_VERSIONS)
    path = packages.search_path()

    def newest(tool: str) -> str | None:
        names = [*(f"{prefix}{tool}-{major}" for major in majors), f"{prefix}{tool}"]
        return next((program for name in names if (program := host.find(name, path))), None)

    gccgo = newest("gccgo")
    compiler = gccgo or (None if go else newest("gcc"))
    if compiler is None:
        tool = "gccgo" if go else "gcc"
        raise ToolMissing(f"toolchain {name}: {prefix}{tool} is not installed; {how_to_get(name, configuration)}")
    version = _query(compiler, "-dumpfullversion")
    major = version.split(".")[0]
    if config.gcc and int(major) != config.gcc:
        raise ToolMissing(f"toolchain {name}: {compiler} is GCC {version}, but `gcc:` asks for {config.gcc}")
    gcc = host.find(f"{prefix}gcc-{major}", path)
    gcc = gcc or host.which(f"{prefix}gcc", _package(f"gcc-{major}", config.triple), path)
    return Toolchain(
        name=name,
        triple=config.triple,
        prefix=prefix,
        gccgo=gccgo or "",
        gcc=gcc,
        version=version,
        banner=_query(compiler, "--version").splitlines()[0],
        sysroot=configuration.beside(config.sysroot, *key, "sysroot") if config.sysroot else None,
        flags=tuple(config.flags),
        configure=tuple(config.configure),
        source=configuration.beside(config.source, *key, "source") if config.source else None,
    )


def how_to_get(name: str, configuration: conf.Configuration) -> str:
    """How to get a toolchain that is not installed, in words."""
    config = configuration.toolchain(name)
    use = command_line("toolchain", "use", name, "PREFIX", conf_files=configuration.given)
    use = f"`{use}` takes one that you have"
    if config.unavailable:
        return f"{config.unavailable}; {use}"
    if config.build:
        build = command_line("toolchain", "build", name, conf_files=configuration.given)
        return f"`{build}` builds it, {use}"
    return f"install Debian's package {_package(f'gccgo-{config.gcc}' if config.gcc else 'gccgo', config.triple)}"


def use(
    name: str, prefix: str, sysroot: Path | None = None, source: Path | None = None, extra: Sequence[Path] = ()
) -> Toolchain:
    """Use an existing toolchain for a name of the configuration, from now on and in every run.

    It is recorded only after it has compiled for the triple and linked with a C library.

    Args:
        name: the toolchain's name in the configuration.
        prefix: the text before each tool's name, such as `/opt/hurd/bin/i686-gnu-`; or the folder where it is
            installed, such as `/opt/hurd`.
        sysroot: the target's headers and libraries, if the compiler does not know them by itself.
        source: GCC's source, if it is not Debian's.
        extra: the user's own configuration files.

    Raises:
        ConfigError: there is no such toolchain.
        ToolMissing: a compiler is not installed.
        BuildError: it is for another triple, its libgo is not supported, or it cannot compile an empty program.
    """
    triple = conf.load(extra).toolchain(name).triple
    if Path(prefix).is_dir():
        prefix = f"{prefix}/bin/{triple}-"
    entry = {
        "triple": triple,  # so that the entry can be read without the file that describes the toolchain
        "prefix": str(Path(prefix).expanduser().absolute()) if "/" in prefix else prefix,
        "sysroot": sysroot and str(sysroot.absolute()),  # null overrides the sysroot of an earlier entry
        "source": source and str(source.absolute()),
    }
    file = conf.recorded()
    with lock(file.with_suffix(".lock")):
        recorded = read(file)[0].get("toolchains", {}) if file.is_file() else {}
        head = "# Written by `harness toolchain`: the toolchains that were built or named.\n"
        with written_whole(file) as new:
            new.write_text(head + yaml.safe_dump({"toolchains": {**recorded, name: entry}}))
            tools = find(name, conf.load([*extra, new]))
            _check(tools)
    return tools


def _check(tools: Toolchain) -> None:
    """Raise BuildError if a toolchain does not compile, or not for its triple."""
    triple = _query(tools.gccgo, "-dumpmachine")
    if triple != tools.triple:
        raise BuildError(f"toolchain {tools.name}: {tools.gccgo} compiles for {triple}, not for {tools.triple}")
    if tools.major not in GCC_VERSIONS:
        raise BuildError(
            f"toolchain {tools.name}: {tools.gccgo} is GCC {tools.version}; supported are"
            f" {min(GCC_VERSIONS)} to {max(GCC_VERSIONS)}"
        )
    if tools.sysroot and not tools.sysroot.is_dir():
        raise BuildError(f"toolchain {tools.name}: no sysroot at {tools.sysroot}")
    with tempfile.TemporaryDirectory() as folder:
        options = [*tools.compile_flags, "-o", f"{folder}/program"]
        c, go = Path(folder) / "empty.c", Path(folder) / "empty.go"
        c.write_text("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
        go.write_text("package empty\n")
        # Go is not linked: that takes a libgo, which is built later.
        compilations: list[list[str | Path]] = [[tools.gcc, *options, c], [tools.gccgo, *options, "-c", go]]
        for compilation in compilations:
            process = command.capture(compilation)
            if process.returncode:
                reason = command.first_error(process.stderr.decode(errors="replace"))
                raise BuildError(f"toolchain {tools.name}: {compilation[0]} cannot compile an empty program: {reason}")


def _package(name: str, triple: str) -> str:
    """Debian's package of a compiler. That of the compiler for this machine has no triple in its name."""
    return name if triple.split("-") == [platform.machine(), "linux", "gnu"] else f"{name}-{_debian(triple)}"


def _debian(triple: str) -> str:
    """A triple as packages' names have it, without underscores (Debian Policy, 5.6.7)."""
    return triple.replace("_", "-")


def _query(compiler: str, *options: str) -> str:
    """What a compiler prints for some options. Raises BuildError."""
    question = f"{compiler} {' '.join(options)}"
    try:
        process = command.capture([compiler, *options])
    except OSError as error:
        raise BuildError(f"{question} does not run: {error.strerror}") from error
    if process.returncode:
        raise BuildError(f"{question} failed: {command.first_error(process.stderr.decode(errors='replace'))}")
    return process.stdout.decode(errors="replace").strip()


def _program_digest(driver: str, program: str) -> str:
    """The SHA-256 of a compiler proper, which the driver finds (GCC manual, -print-prog-name)."""
    path = Path(_query(driver, f"-print-prog-name={program}"))
    return file_digest(path) if path.is_file() else ""
