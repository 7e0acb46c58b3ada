"""Debian's packages: what apt would do to this machine, and packages that are unpacked in the cache and not installed.

Packages are unpacked where installing them would remove others, and for a user who is not root. Debian's cross
compilers look for their own parts beside themselves (GCC manual, -B; GCC's gcc/prefix.cc), and for the target's C
library in a sysroot, so they run anywhere. Uses the standard library alone, as harness/doctor.py does.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.cache import Cache, digest
from harness.errors import BuildError, ToolMissing

_log = logging.getLogger(__name__)
_KIND = "packages"
#: MiB that the compilers for i686 take while they are unpacked: the packages, and what is in them (measured on Debian
#: 12: 80 + 310).
ROOM = 600
#: The lines of `apt-get --simulate`: `Inst NAME [OLD] (NEW ...)`, `Remv NAME [OLD]` (apt-get(8), and its
#: apt-private/private-install.cc and apt-pkg/algorithms.cc).
_STEP = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?", re.MULTILINE)
#: What apt says when it finds no way (its solver 3, of Debian 13 and later, gives reasons in a list of its own).
_REASON = re.compile(r"^ (\S+ : \S.*|\s*\d+\. .*)$", re.MULTILINE)
#: The host's apt, with nothing installed and without hooks, which may clean the host's cache or expect to be root.
_CONF = """\
#clear APT::Update;
#clear DPkg;
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Debug::NoLocking "true";
Dir::Cache "{work}/cache";
Dir::Cache::archives "{work}/cache/archives";
Dir::State::status "{work}/status";
"""
#: The same with package lists of its own, for a user who cannot have the host's updated.
_LISTS = """\
Dir::State "{work}/state";
Dir::State::lists "{work}/state/lists";
Dir::State::status "{work}/status";
"""
#: Packages whose files must be the running system's: the dynamic linker fits one C library only.
_OF_THE_SYSTEM = frozenset({"libc6"})
#: Runs a compiler or a tool that lies beside it. The libraries that it needs lie there too. With the prefix map
#: the debugging information names files as an installed compiler does, so what is compiled is the same to the byte.
_WRAPPER = """\
#!/bin/sh
root=$(cd "${{0%/*}}/../root" && pwd -P) || exit
LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
export LD_LIBRARY_PATH
exec "$root/usr/bin/{name}" {options}"$@"
"""
_SYSROOT = '--sysroot="$root" -fdebug-prefix-map="$root"= '
_COMPILER = re.compile(r"-(?:cpp|g\+\+|gcc|gccgo)(?:-\d+)?$")


@dataclass(frozen=True)
class Step:
    """What apt would do to a package: versions as Debian writes them, '' where there is none before or after."""

    package: str
    old: str
    new: str


@dataclass(frozen=True)
class Simulation:
    """What apt would do. `reason` is empty if it found a way to do what was asked for."""

    steps: tuple[Step, ...]
    reason: str = ""

    @property
    def removed(self) -> list[str]:
        """The packages that would go."""
        return [step.package for step in self.steps if not step.new]

    @property
    def downgraded(self) -> list[str]:
        """The packages that would get an older version."""
        return [step.package for step in self.steps if step.old and step.new and _older(step.new, step.old)]

    @property
    def harm(self) -> str:
        """Why it must not be done, in words that follow 'it': '' if it may be done."""
        parts = [
            f"would {verb} {' '.join(names)}"
            for verb, names in (("remove", self.removed), ("downgrade", self.downgraded))
            if names
        ]
        return " and ".join(parts) or (f"is not possible: {self.reason}" if self.reason else "")


def parse_simulation(output: str, status: int) -> Simulation:
    """What `apt-get --simulate install` printed.

    Args:
        output: its standard output and standard error, with LC_ALL=C.
        status: its exit status.
    """
    steps = tuple(
        Step(name, old or "", "" if verb != "Inst" else new) for verb, name, old, new in _STEP.findall(output)
    )
    if not status:
        return Simulation(steps)
    errors = re.findall(r"^E: (.*)", output, re.MULTILINE)
    reasons = [" ".join(reason.split()) for reason in _REASON.findall(output)]
    reasons = [reason for reason in reasons if re.search(r"\b(?:Conflicts|Breaks)\b", reason)] or reasons
    return Simulation(steps, "; ".join(reasons or errors) or "apt-get gives no reason")


def simulate(packages: Iterable[str], settings: Path | None = None) -> Simulation:
    """What installing packages would do to this machine. Needs no root.

    Args:
        settings: a file for apt to read after its own.
    """
    status, output = apt_get("install", "--simulate", "--no-install-recommends", *packages, settings=settings)
    return parse_simulation(output, status)


def apt_get(*arguments: str, settings: Path | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run apt-get without root. Returns its exit status, and its standard output and error together.

    Raises:
        ToolMissing: there is none.
    """
    options = ["-c", str(settings)] if settings else ["-o", "Debug::NoLocking=true"]
    try:
        done = subprocess.run(
            ["apt-get", "-q", *options, *arguments],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolMissing("no apt-get on this machine: the harness gets what it needs on Debian only") from error
    return done.returncode, done.stdout


def search_path() -> str:
    """PATH, and behind it the folders of unpacked compilers, the newest first."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *(str(folder / "bin") for folder in unpacked())])


def gcc_source(major: int) -> Path | None:
    """The archive of Debian's gcc-N-source, installed or unpacked, with Debian's patches in `patches/` beside it."""
    for root in (Path("/"), *(folder / "root" for folder in unpacked())):
        if archives := sorted((root / f"usr/src/gcc-{major}").glob(f"gcc-{major}.*.tar.xz")):
            return archives[-1]
    return None


def unpacked() -> list[Path]:
    """The folders of unpacked packages, the newest first."""
    folders = (paths.cache_dir() / _KIND).glob("[!.]*")
    return sorted(folders, key=lambda folder: (-folder.stat().st_mtime, folder.name))


def unpack(packages: Sequence[str], cache: Cache, say: Callable[[str], None], alone: bool = False) -> Path:
    """Unpack packages and what they depend on into the cache. Needs no root, and asks not what is installed.

    Args:
        say: told what is going on, in a few words.
        alone: leave out what they depend on.

    Returns:
        The folder: packages in `root/`, and what runs cross compilers in `bin/`.

    Raises:
        ToolMissing: there is no apt-get or no dpkg-deb.
        BuildError: apt does not know the packages, cannot get them, or they cannot be unpacked.
        StoreError: the cache has no room, or cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="harness-apt-") as folder:
        work = Path(folder)
        settings = _settings(work)
        try:
            return _unpack(packages, cache, settings, say, alone)
        except BuildError as error:  # the host's lists may be old, or not be there
            _log.info("unpacking with the host's package lists: %s", error)
            say("reading the package lists")
            with settings.open("a") as file:
                file.write(_LISTS.format(work=work))
            status, output = apt_get("update", settings=settings)
            if status:
                raise BuildError(f"the package lists cannot be read: {first_error(output)}") from error
            return _unpack(packages, cache, settings, say, alone)


def _settings(work: Path) -> Path:
    for name in ("cache/archives/partial", "state/lists/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    settings = work / "apt.conf"
    settings.write_text(_CONF.format(work=work))
    return settings


def _unpack(packages: Sequence[str], cache: Cache, settings: Path, say: Callable[[str], None], alone: bool) -> Path:
    simulation = simulate(packages, settings)
    if simulation.reason:
        raise BuildError(f"{' '.join(packages)} cannot be unpacked: {simulation.reason}")
    wanted = sorted(
        f"{step.package}={step.new}"
        for step in simulation.steps
        if (step.package in packages if alone else step.package not in _OF_THE_SYSTEM)
    )

    def fill(folder: Path) -> None:
        say(f"downloading {len(wanted)} packages")
        status, output = apt_get("download", *wanted, settings=settings, folder=folder)
        if status:
            raise BuildError(f"{' '.join(packages)} cannot be downloaded: {first_error(output)}")
        say(f"unpacking {' '.join(packages)}")
        for deb in sorted(folder.glob("*.deb")):
            _extract(deb, folder / "root")
            deb.unlink()
        for name in ("doc", "locale", "man"):
            shutil.rmtree(folder / "root/usr/share" / name, ignore_errors=True)
        wrap(folder)

    return cache.make(_KIND, digest(wanted), fill, ROOM)


def _extract(deb: Path, target: Path) -> None:
    try:
        done = subprocess.run(["dpkg-deb", "-x", deb, target], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissing("no dpkg-deb on this machine; Debian's package is dpkg") from error
    if done.returncode:
        raise BuildError(f"{deb.name} cannot be unpacked: {' '.join(done.stderr.split())}")


def wrap(folder: Path) -> None:
    """Write what runs the cross compilers and their tools, which are named after a target triple."""
    root = folder / "root"
    libraries = [
        f"$root/{place.relative_to(root)}"
        for pattern in ("usr/lib/*-linux-gnu", "lib/*-linux-gnu")
        for place in sorted(root.glob(pattern))
        if any(place.glob("*.so*"))
    ]
    (folder / "bin").mkdir()
    for program in sorted((root / "usr/bin").glob("*-*-*-*")):
        options = _SYSROOT if _COMPILER.search(program.name) else ""
        wrapper = folder / "bin" / program.name
        wrapper.write_text(_WRAPPER.format(libraries=":".join(libraries), name=program.name, options=options))
        wrapper.chmod(0o755)


def _older(version: str, than: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "lt", than], check=False).returncode == 0


def first_error(output: str) -> str:
    """apt's first error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("E:")), lines[-1] if lines else "apt-get printed nothing")
