"""Debian's packages: what apt would do to this machine, and packages that are unpacked in the cache, not installed.

Packages are unpacked where installing them would remove others, and for a user who is not root. Debian's cross
compilers look for their own parts beside themselves (GCC manual, -B; GCC's gcc/prefix.cc), and for the target's C
library in a sysroot, so they run anywhere. Uses only the standard library, as harness/doctor.py does.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import cache_space, paths
from harness.cache import Cache, digest
from harness.errors import BuildError, ToolMissing

_log = logging.getLogger(__name__)
_KIND = "packages"
#: MiB that the compilers for i686 take while they are unpacked: the packages and their content (measured on Debian 12:
#: 80 + 310).
ROOM = 600
#: The lines of `apt-get --simulate`: `Inst NAME [OLD] (NEW ...)`, `Remv NAME [OLD]` (apt-get(8), and its
#: apt-private/private-install.cc and apt-pkg/algorithms.cc).
_STEP = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?", re.MULTILINE)
#: Why apt cannot install packages (its solver 3, of Debian 13 and later, gives reasons in a list of its own).
_REASON = re.compile(r"^ (\S+ : \S.*|\s*\d+\. .*)$", re.MULTILINE)
#: The host's apt, proxies and all, with nothing installed, a cache of its own and no hooks, which may clean the host's
#: cache or expect to run as root. For option -c, which is read after all of the host's own files (apt.conf(5)).
_APT_CONF = """\
#clear APT::Update;
#clear DPkg;
APT::Sandbox::User "root";
Dir::Cache "{work}/cache";
Dir::Cache::archives "{work}/cache/archives";
Dir::State::status "{work}/status";
"""
#: Settings for a user without root, who may not take apt's locks.
_WITHOUT_ROOT = """\
APT::Install-Recommends "false";
Debug::NoLocking "true";
"""
#: Package lists of its own, for a user who cannot update the host's.
_LISTS = """\
Dir::State "{work}/state";
Dir::State::lists "{work}/state/lists";
Dir::State::status "{work}/status";
"""
#: Packages whose files must be the running system's: the dynamic linker fits one C library only.
_OF_THE_SYSTEM = frozenset({"libc6"})
#: Runs a compiler or tool in the folder of unpacked packages, with the libraries there. The prefix map makes the
#: debugging information name files as an installed compiler does, so that the output is the same to the byte.
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
    """What apt would do to a package: the old and the new version as Debian writes them, '' for none."""

    package: str
    old: str
    new: str


@dataclass(frozen=True)
class Simulation:
    """What apt would do. `reason` says why it cannot install the packages; '' if it can."""

    steps: tuple[Step, ...]
    reason: str = ""

    @property
    def removed(self) -> list[str]:
        """The packages that would be removed."""
        return [step.package for step in self.steps if not step.new]

    @property
    def downgraded(self) -> list[str]:
        """The packages that would get an older version."""
        return [step.package for step in self.steps if step.old and step.new and _older(step.new, step.old)]

    @property
    def harm(self) -> str:
        """Why the packages must not be installed, in words that follow 'it'; '' if they may be."""
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
        packages: their names.
        settings: a file for apt to read after its own.
    """
    status, output = apt_get("install", "--simulate", "--no-install-recommends", *packages, settings=settings)
    return parse_simulation(output, status)


def write_apt_conf(work: Path, settings: str) -> Path:
    """Write a configuration file with which apt uses a folder of its own and believes that nothing is installed.

    Args:
        work: the folder, which is created.
        settings: lines of apt.conf(5) to add, in which `{work}` stands for the folder.

    Returns:
        The file, for apt's option -c.
    """
    for name in ("cache/archives/partial", "state/lists/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    file = work / "apt.conf"
    file.write_text(_APT_CONF.format(work=work) + settings)
    return file


def apt_get(*arguments: str, settings: Path | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run apt-get without root.

    Args:
        arguments: its arguments.
        settings: a file for apt to read after its own.
        folder: the folder to run in.

    Returns:
        Its exit status, and its standard output and error together.

    Raises:
        ToolMissing: there is no apt-get.
    """
    options = ["-c", str(settings)] if settings else ["-o", "Debug::NoLocking=true"]
    command = ["apt-get", "-q", *options, *arguments]
    begun = time.monotonic()
    try:
        process = subprocess.run(
            command,
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
        raise ToolMissing("apt-get is not installed; the harness can install packages on Debian only") from error
    _log.info("status %d after %.2f s: %s", process.returncode, time.monotonic() - begun, shlex.join(command))
    return process.returncode, process.stdout


def search_path() -> str:
    """PATH, and behind it the folders of unpacked compilers, the newest first."""
    return os.pathsep.join(
        [os.environ.get("PATH", os.defpath), *(str(folder / "bin") for folder in unpacked_folders())]
    )


def gcc_source(major: int) -> Path | None:
    """The archive of Debian's gcc-N-source for a major version N, installed or unpacked. Debian's patches lie in
    `patches/` beside it."""
    for root in (Path("/"), *(folder / "root" for folder in unpacked_folders())):
        if archives := sorted((root / f"usr/src/gcc-{major}").glob(f"gcc-{major}.*.tar.xz")):
            return archives[-1]
    return None


def unpacked_folders() -> list[Path]:
    """The folders of unpacked packages, the newest first."""
    folders = list((paths.cache_dir() / _KIND).glob("[!.]*"))
    for folder in folders:
        cache_space.will_use(paths.cache_dir(), _KIND, folder.name)
    return sorted(folders, key=lambda folder: (-folder.stat().st_mtime, folder.name))


def unpack(packages: Sequence[str], cache: Cache, progress: Callable[[str], None], alone: bool = False) -> Path:
    """Unpack packages and their dependencies into the cache. Needs no root, and ignores what is installed.

    Args:
        packages: their names.
        cache: where they are kept.
        progress: called with each step, in a few words.
        alone: leave out the dependencies.

    Returns:
        The folder: packages in `root/`, and scripts that run cross compilers in `bin/`.

    Raises:
        ToolMissing: there is no apt-get or no dpkg-deb.
        BuildError: apt does not know the packages, cannot get them, or they cannot be unpacked.
        StoreError: the cache has no room, or cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="harness-apt-") as folder:
        work = Path(folder)
        settings = write_apt_conf(work, _WITHOUT_ROOT)
        try:
            return _unpack(packages, cache, settings, progress, alone)
        except BuildError as error:  # the host's lists may be old or missing
            _log.info("unpacking with the host's package lists failed: %s", error)
            progress("reading the package lists")
            with settings.open("a") as file:
                file.write(_LISTS.format(work=work))
            status, output = apt_get("update", settings=settings)
            if status:
                raise BuildError(f"apt cannot read the package lists: {first_error(output)}") from error
            return _unpack(packages, cache, settings, progress, alone)


def _unpack(
    packages: Sequence[str], cache: Cache, settings: Path, progress: Callable[[str], None], alone: bool
) -> Path:
    simulation = simulate(packages, settings)
    if simulation.reason:
        raise BuildError(f"cannot unpack {' '.join(packages)}: {simulation.reason}")
    versions = sorted(
        f"{step.package}={step.new}"
        for step in simulation.steps
        if (step.package in packages if alone else step.package not in _OF_THE_SYSTEM)
    )

    def fill(folder: Path) -> None:
        progress(f"downloading {len(versions)} packages")
        status, output = apt_get("download", *versions, settings=settings, folder=folder)
        if status:
            raise BuildError(f"cannot download {' '.join(packages)}: {first_error(output)}")
        progress(f"unpacking {' '.join(packages)}")
        for deb in sorted(folder.glob("*.deb")):
            _extract(deb, folder / "root")
            deb.unlink()
        for name in ("doc", "locale", "man"):
            shutil.rmtree(folder / "root/usr/share" / name, ignore_errors=True)  # only some packages have them
        write_wrappers(folder)

    return cache.make(_KIND, digest(versions), fill, ROOM, about=" ".join(packages))


def _extract(deb: Path, target: Path) -> None:
    _log.debug("dpkg-deb -x %s %s", deb, target)
    try:
        process = subprocess.run(["dpkg-deb", "-x", deb, target], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissing("dpkg-deb is not installed (Debian package dpkg)") from error
    if process.returncode:
        raise BuildError(f"cannot unpack {deb.name}: {' '.join(process.stderr.split())}")


def write_wrappers(folder: Path) -> None:
    """Write the scripts in `bin/` that run the cross compilers and their tools in `root/`, which have a triple in their
    names."""
    root = folder / "root"
    libraries = [
        f"$root/{library.relative_to(root)}"
        for pattern in ("usr/lib/*-linux-gnu", "lib/*-linux-gnu")
        for library in sorted(root.glob(pattern))
        if any(library.glob("*.so*"))
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
