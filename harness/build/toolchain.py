"""A toolchain on this machine: where its tools are and what version they have.

Knows nothing of libgo or programs.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import conf
from harness.cache import file_digest
from harness.errors import BuildError, ToolMissing

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
        return _which(self.prefix + name, f"binutils-{self.triple}")

    @functools.cached_property
    def identity(self) -> dict[str, object]:
        """What the outcome of a compilation depends on: the compilers' own bytes and the flags."""
        return {
            "triple": self.triple,
            "gccgo": self.banner,
            "compilers": [_program_digest(self.gccgo, one) for one in ("go1", "cc1")],
            "sysroot": str(self.sysroot),
            "flags": self.flags,
        }


def find(name: str, configuration: conf.Configuration) -> Toolchain:
    """Find the tools of a toolchain.

    Args:
        name: its name in the configuration.
        configuration: where it is described.

    Raises:
        ConfigError: there is no such toolchain.
        ToolMissing: a compiler is not installed.
        BuildError: the compiler does not run.
    """
    said = configuration.toolchain(name)
    at = ("toolchains", name)
    prefix = said.prefix
    if "/" in prefix:  # a path is seen from the YAML file, a bare prefix is looked up in PATH
        prefix = str(configuration.beside(prefix, *at, "prefix"))
    wanted = [said.gcc] if said.gcc else list(GCC_VERSIONS)
    gccgo = next((found for major in wanted if (found := shutil.which(f"{prefix}gccgo-{major}"))), None)
    gccgo = gccgo or shutil.which(f"{prefix}gccgo")
    if gccgo is None:
        package = f"gccgo-{said.gcc}-{said.triple}" if said.gcc else f"gccgo-{said.triple}"
        raise ToolMissing(f"toolchain {name}: no {prefix}gccgo on this machine; Debian's package is {package}")
    version = _ask(gccgo, "-dumpfullversion")
    major = version.split(".")[0]
    if said.gcc and int(major) != said.gcc:
        raise ToolMissing(f"toolchain {name}: {gccgo} is GCC {version}, not the {said.gcc} that `gcc:` asks for")
    gcc = shutil.which(f"{prefix}gcc-{major}") or _which(f"{prefix}gcc", f"gcc-{major}-{said.triple}")
    return Toolchain(
        name=name,
        triple=said.triple,
        prefix=prefix,
        gccgo=gccgo,
        gcc=gcc,
        version=version,
        banner=_ask(gccgo, "--version").splitlines()[0],
        sysroot=configuration.beside(said.sysroot, *at, "sysroot") if said.sysroot else None,
        flags=tuple(said.flags),
        configure=tuple(said.configure),
        source=configuration.beside(said.source, *at, "source") if said.source else None,
    )


def _which(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ToolMissing(f"no {program} on this machine; Debian's package is {package}")
    return found


def _ask(compiler: str, *words: str) -> str:
    try:
        return subprocess.run([compiler, *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{compiler} {' '.join(words)} does not work: {error}") from error


def _program_digest(driver: str, program: str) -> str:
    """The SHA-256 of a compiler proper, which the driver finds (GCC manual, -print-prog-name)."""
    path = Path(_ask(driver, f"-print-prog-name={program}"))
    return file_digest(path) if path.is_file() else ""
