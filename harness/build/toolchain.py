"""A toolchain on this machine: where its tools are, what version they have, and which one the user has chosen.

Knows nothing of libgo or programs.
"""

from __future__ import annotations

import functools
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness import conf, packages
from harness.build import command
from harness.cache import file_digest, lock
from harness.conf.read import read
from harness.errors import BuildError, ToolMissing
from harness.files import written_whole

#: The major versions of GCC whose libgo is known; all carry Go 1.18.
GCC_VERSIONS = range(16, 11, -1)


@dataclass(frozen=True)
class Toolchain:
    """Tools found on this machine for one triple.

    Attributes:
        name: its name in the configuration.
        gccgo, gcc: absolute paths of the compilers.
        version: what gccgo -dumpfullversion says, such as 12.2.0.
        banner: the first line of gccgo --version, which names the distribution's revision too.
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

    def ask(self, question: str) -> str:
        """What the Go compiler answers to an option such as -print-file-name=libgo.so. Raises BuildError."""
        return _ask(self.gccgo, *self.compile_flags, question)

    def tool(self, name: str) -> str:
        """The absolute path of a binutils program, such as strip. Raises ToolMissing."""
        return which_tool(self.prefix + name, f"binutils-{_debian(self.triple)}")

    @functools.cached_property
    def identity(self) -> dict[str, object]:
        """What the outcome of a compilation depends on: the compilers' own bytes and the flags."""
        return {
            "triple": self.triple,
            "gccgo": self.banner,
            "compilers": [_program_digest(self.gccgo, tool) for tool in ("go1", "cc1")],
            "sysroot": str(self.sysroot),
            "flags": self.flags,
        }


def find(name: str, configuration: conf.Configuration) -> Toolchain:
    """Find the tools of a toolchain: installed, or unpacked in the cache by harness/packages.py.

    Args:
        name: its name in the configuration.
        configuration: where it is described.

    Raises:
        ConfigError: there is no such toolchain.
        ToolMissing: a compiler is not installed.
        BuildError: the compiler does not run.
    """
    config = configuration.toolchain(name)
    at = ("toolchains", name)
    prefix = config.prefix or f"{config.triple}-"
    if "/" in prefix:  # a path is seen from the YAML file, a bare prefix is looked up in PATH
        prefix = str(configuration.beside(prefix, *at, "prefix"))
    wanted = [config.gcc] if config.gcc else list(GCC_VERSIONS)
    path = packages.search_path()
    gccgo = next((program for major in wanted if (program := shutil.which(f"{prefix}gccgo-{major}", path=path))), None)
    gccgo = gccgo or shutil.which(f"{prefix}gccgo", path=path)
    if gccgo is None:
        raise ToolMissing(f"toolchain {name}: no {prefix}gccgo on this machine; {how_to_get(name, config)}")
    version = _ask(gccgo, "-dumpfullversion")
    major = version.split(".")[0]
    if config.gcc and int(major) != config.gcc:
        raise ToolMissing(f"toolchain {name}: {gccgo} is GCC {version}, not the {config.gcc} that `gcc:` asks for")
    gcc = shutil.which(f"{prefix}gcc-{major}", path=path)
    gcc = gcc or which_tool(f"{prefix}gcc", _package(f"gcc-{major}", config.triple))
    return Toolchain(
        name=name,
        triple=config.triple,
        prefix=prefix,
        gccgo=gccgo,
        gcc=gcc,
        version=version,
        banner=_ask(gccgo, "--version").splitlines()[0],
        sysroot=configuration.beside(config.sysroot, *at, "sysroot") if config.sysroot else None,
        flags=tuple(config.flags),
        configure=tuple(config.configure),
        source=configuration.beside(config.source, *at, "source") if config.source else None,
    )


def how_to_get(name: str, config: conf.Toolchain) -> str:
    """What brings a toolchain that is not there, in words."""
    takes = f"`harness toolchain use {name} PREFIX` takes one that you have"
    if config.unavailable:
        return f"{config.unavailable}; {takes}"
    if config.build:
        return f"`harness toolchain build {name}` builds it, {takes}"
    return f"Debian's package is {_package(f'gccgo-{config.gcc}' if config.gcc else 'gccgo', config.triple)}"


def use(
    name: str, prefix: str, sysroot: Path | None = None, source: Path | None = None, extra: Sequence[Path] = ()
) -> Toolchain:
    """Take a toolchain that exists for a name of the configuration, from now on and in every run.

    It is taken only when it has shown that it compiles for the triple, and links with a C library.

    Args:
        name: the toolchain's name in the configuration.
        prefix: what comes before each tool's name, such as `/opt/hurd/bin/i686-gnu-`; or the folder that it is
            installed in, such as `/opt/hurd`.
        sysroot: the target's headers and libraries, if the compiler does not know them by itself.
        source: GCC's source, if it is not Debian's.
        extra: the user's own configuration files.

    Raises:
        ConfigError: there is no such toolchain.
        ToolMissing: a compiler is not there.
        BuildError: it is for another triple, its libgo is not known, or it cannot compile an empty program.
    """
    config = conf.load(extra).toolchain(name)
    if Path(prefix).is_dir():
        prefix = f"{prefix}/bin/{config.triple}-"
    entry = {
        "triple": config.triple,  # so that the entry can be read without the file that describes the toolchain
        "prefix": str(Path(prefix).expanduser().absolute()) if "/" in prefix else prefix,
        "sysroot": sysroot and str(sysroot.absolute()),  # null where there is none, for an earlier entry may have one
        "source": source and str(source.absolute()),
    }
    file = conf.recorded()
    with lock(file.with_suffix(".lock")):
        known = read(file)[0].get("toolchains", {}) if file.is_file() else {}
        head = "# Written by `harness toolchain`: the toolchains that were built or named.\n"
        with written_whole(file) as new:
            new.write_text(head + yaml.safe_dump({"toolchains": {**known, name: entry}}))
            tools = find(name, conf.load([*extra, new]))
            _try(tools)
    return tools


def _try(tools: Toolchain) -> None:
    """Raises BuildError if a toolchain is not what its description says."""
    triple = _ask(tools.gccgo, "-dumpmachine")
    if triple != tools.triple:
        raise BuildError(f"toolchain {tools.name}: {tools.gccgo} compiles for {triple}, not for {tools.triple}")
    if tools.major not in GCC_VERSIONS:
        raise BuildError(f"toolchain {tools.name}: {tools.gccgo} is GCC {tools.version}, whose libgo is not known")
    if tools.sysroot and not tools.sysroot.is_dir():
        raise BuildError(f"toolchain {tools.name}: no sysroot at {tools.sysroot}")
    with tempfile.TemporaryDirectory() as folder:
        argv = [*tools.compile_flags, "-o", f"{folder}/program"]
        for compiler, name, text in (
            (tools.gcc, "empty.c", "#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n"),
            (tools.gccgo, "empty.go", "package empty\n"),
        ):
            program = Path(folder) / name
            program.write_text(text)
            only = ["-c"] if name.endswith(".go") else []  # to link Go takes a libgo, which is built later
            done = subprocess.run([compiler, *argv, *only, program], capture_output=True, text=True, check=False)
            if done.returncode:
                why = command.first_error(done.stderr)
                raise BuildError(f"toolchain {tools.name}: {compiler} cannot compile an empty program: {why}")


def _package(name: str, triple: str) -> str:
    """Debian's package of a compiler: for the machine that it runs on it has no triple in its name."""
    return name if triple.split("-") == [platform.machine(), "linux", "gnu"] else f"{name}-{_debian(triple)}"


def _debian(triple: str) -> str:
    """A triple as it stands in packages' names, which have no underscores (Debian Policy, 5.6.7)."""
    return triple.replace("_", "-")


def which_tool(program: str, package: str) -> str:
    path_ = shutil.which(program, path=packages.search_path())
    if path_ is None:
        raise ToolMissing(f"no {program} on this machine; Debian's package is {package}")
    return path_


def _ask(compiler: str, *arguments: str) -> str:
    try:
        return subprocess.run([compiler, *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{compiler} {' '.join(arguments)} does not work: {error}") from error


def _program_digest(driver: str, program: str) -> str:
    """The SHA-256 of a compiler proper, which the driver finds (GCC manual, -print-prog-name)."""
    path = Path(_ask(driver, f"-print-prog-name={program}"))
    return file_digest(path) if path.is_file() else ""
