"""What `make matrix` needs of this machine, whether it is there, and how to get it: Debian packages, by apt.

It removes and downgrades no package: compilers that would take others' places are unpacked into the cache instead. Root
is asked for only where packages must be installed. Uses the standard library alone, since the Makefile runs it before
there is a virtual environment: `python3 -m harness.doctor --install`, with `--tests` for what the tests need besides.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (an older one reads this far)
    sys.exit(f"PROBLEM  this is Python {sys.version.split()[0]}, and the harness needs 3.11 or newer")

from harness import cache_space, host, kvm, packages, paths
from harness.cache import Cache
from harness.errors import ConfigError, HarnessError

#: Programs by the Debian package that brings them.
_PROGRAMS = {
    "qemu-system-x86": ["qemu-system-i386", "qemu-system-x86_64"],
    "qemu-utils": ["qemu-img"],
    "openssh-client": ["ssh", "ssh-keygen"],
    "dropbear-bin": ["dropbearkey"],
    "e2fsprogs": ["mke2fs", "debugfs"],
    "fakeroot": ["fakeroot"],
    "cpio": ["cpio"],
    "make": ["make"],
    "patch": ["patch"],
    "xz-utils": ["xz"],
}
#: The same for the tests alone: the report is looked at in a browser, GRUB boots disks that the tests make, and a
#: guest's memory is compressed on any disk.
_TEST_PROGRAMS = {"chromium": ["chromium"], "grub-pc-bin": ["grub-mkimage"], "zstd": ["zstd"]}
#: The target of the control guest's toolchain.
_TRIPLE = "i686-linux-gnu"
#: That of its 64-bit twin's, which is asked for by tests only, and otherwise told of when the guest is used.
_TWIN = "x86_64-linux-gnu"
#: The QEMU of Debian 12, the oldest that is tried.
_QEMU = (7, 2)
#: MiB that each part of the cache takes in a first `make matrix` (measured on Debian 12 and 13, and rounded up), by the
#: folder that is there when it is done. Saving a guest is not begun without room for all its memory.
_CACHE = {"gcc-source": 100, "images": 60, "libgo": 120, "libgo-tree": 300, "machines": 512, "programs": 5}
#: MiB without which neither an image nor a libgo is begun.
_BEGIN = 400
#: MiB that the virtual environment takes (measured), and a run's own folder; both lie in the clone.
_VENV, _RUN = 300, 50
#: MiB: a guest of linux-i386 with its QEMU, and the most that one compilation of libgo takes (net/http, measured).
_GUEST, _COMPILATION = 712, 400
_MIB = 1 << 20


@dataclass(frozen=True)
class Need:
    """A program or file that the host must have, the package that brings it, and whether it is there.

    Attributes:
        unpackable: the package is as good when it is only unpacked.
    """

    what: str
    package: str
    there: bool
    unpackable: bool = False


@dataclass(frozen=True)
class Check:
    """What was looked at. `state` is ok, note, MISSING or PROBLEM; `fatal` if `make matrix` fails for it."""

    state: str
    text: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.state:<8} {self.text}"


def needs(tests: bool = False) -> list[Need]:
    """All that the harness, or (tests) that and its tests, need of the host."""
    needed = [
        Need(program, package, host.find(program) is not None)
        for package, programs in {**_PROGRAMS, **(_TEST_PROGRAMS if tests else {})}.items()
        for program in programs
    ]
    venv = all(importlib.util.find_spec(module) for module in ("venv", "ensurepip"))
    needed.append(Need("Python's venv", "python3-venv", venv))
    major = _gcc()
    needed.append(Need(f"{_TRIPLE}-gccgo-{major}", f"gccgo-{major}-{_TRIPLE}", _gccgo() == major, True))
    if tests and platform.machine() == "x86_64":  # a cross compiler for other machines' own target has another name
        twin = f"{_TWIN}-gccgo-{major}"
        needed.append(Need(twin, f"gccgo-{major}", host.find(twin) is not None))
    source = packages.gcc_source(major) is not None
    needed.append(Need(f"the source of GCC {major}", f"gcc-{major}-source", source, True))
    return needed


def _gccgo() -> int | None:
    """The newest cross gccgo that is there, installed or unpacked."""
    path = packages.search_path()
    majors = (major for major in range(16, 11, -1) if host.find(f"{_TRIPLE}-gccgo-{major}", path))
    return next(majors, None)


def _gcc() -> int:
    """The GCC to use: the one whose cross gccgo is there, else the distribution's default."""
    return _gccgo() or _default_gcc() or 12


def _default_gcc() -> int | None:
    """The GCC that the distribution's gccgo for the target is, if apt has lists that tell."""
    if not host.find("apt-cache"):
        return None
    command = ["apt-cache", "depends", f"gccgo-{_TRIPLE}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(rf"gccgo-(\d+)-{_TRIPLE}", answer)
    return int(match[1]) if match else None


# Getting what is missing


def install(tests: bool = False) -> int:
    """Get what is missing, for the tests too if they are to be run, and look whether `make matrix` would work.

    Returns:
        The exit status: 0, or 1 with the reasons on standard error.
    """
    failures = []
    if any(not need.there for need in needs(tests)):
        try:
            failures = _get(tests)
        except HarnessError as error:
            failures = [str(error)]
    fatal = [check for check in _hindrances(tests) if check.fatal and check.state != "MISSING"]
    if not failures:
        fatal += [Check("MISSING", need.what) for need in needs(tests) if not need.there]
    for line in [*failures, *fatal]:
        print(line, file=sys.stderr)
    return int(bool(failures or fatal))


def _get(tests: bool) -> list[str]:
    """Install or unpack what is missing. Returns what could not be done, and what can be done about it."""
    root, no_root = root_command()
    if _gccgo() is None and _default_gcc() is None:  # apt has no lists to tell which GCC is the default
        if root == []:
            _update(root)
        else:
            _unpack(f"gccgo-{_TRIPLE}")
    missing = [need for need in needs(tests) if not need.there]
    unpacked = {need.package for need in missing if need.unpackable}
    names = sorted({need.package for need in missing} - unpacked)
    failures: list[str] = []
    if names and root is None:
        failures.append(f"{no_root}; have root run: apt-get install {' '.join(names)}")
    elif names or root == []:
        installed = sorted({*names, *unpacked})
        if root and any(not _known(name) for name in installed):
            _update(root)
        blocked = blocked_packages(installed, unpacked)
        for name, harm in blocked.items():
            if name not in unpacked:
                failures.append(f"{name} is not installed: apt {harm}. {_remedy(name)}")
            else:
                print(f"{name} is unpacked and not installed: apt {harm}", flush=True)
        wanted = [name for name in installed if name not in blocked]
        unpacked &= set(blocked)
        if wanted and (failure := _install(root or [], wanted)):
            failures.append(failure)
    for name in sorted(unpacked):
        _unpack(name)
    return failures


def _unpack(name: str) -> None:
    """Unpack a package into the cache; one of sources needs nothing that it depends on."""
    packages.unpack([name], Cache(paths.cache_dir()), lambda text: print(text, flush=True), name.endswith("-source"))


def _known(name: str) -> bool:
    """Whether apt has a version of a package to install."""
    process = subprocess.run(["apt-cache", "show", "-q", name], capture_output=True, check=False)
    return process.returncode == 0


def blocked_packages(names: list[str], likely: Collection[str] = ()) -> dict[str, str]:
    """The packages that apt could install only by doing harm to others, and which. Asks apt to simulate it.

    Args:
        likely: those that are looked at first, for a simulation takes a second or more.
    """
    if not packages.simulate(names).harm:
        return {}
    rest = [name for name in names if name not in likely]
    if rest and packages.simulate(rest).harm:
        likely = names
    alone = {name: harm for name in likely if (harm := packages.simulate([name]).harm)}
    rest = [name for name in names if name not in alone]
    if rest and (harm := packages.simulate(rest).harm):
        alone.update(dict.fromkeys(rest, harm))
    return alone


def _remedy(name: str) -> str:
    programs = _PROGRAMS.get(name) or _TEST_PROGRAMS.get(name) or [name]
    return (
        f"Remove what is in its way by hand, if you do without it, or see to it yourself that {' and '.join(programs)} "
        "can be run"
    )


def _install(root: list[str], names: list[str]) -> str:
    """Install packages as root. Returns what went wrong, or ''."""
    print("installing", *names, flush=True)
    # The simulation has shown that nothing is removed or downgraded; should apt see it otherwise now, it stops.
    options = ["APT::Get::AutomaticRemove=false", "APT::Get::allow-downgrades=false", "DPkg::Lock::Timeout=300"]
    command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "install", "-q", "-y"]
    command += ["--no-remove", "--no-install-recommends", *(word for option in options for word in ("-o", option))]
    output = _call([*command, *names])
    if output is not None and _update(root):  # an old index names packages that are gone
        output = _call([*command, *names])
    return "" if output is None else f"apt-get install {' '.join(names)} fails: {output}"


def _update(root: list[str]) -> bool:
    """Have apt read its package lists anew. Returns whether it could."""
    failure = _call([*root, "apt-get", "update", "-q"])
    if failure:
        print(f"apt-get update fails: {failure}", file=sys.stderr)
    return failure is None


def _call(command: list[str]) -> str | None:
    """Run a command. Returns None, or its first error."""
    # Only sudo may ask, and it does so at the terminal itself.
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return packages.first_error(process.stdout) if process.returncode else None


def root_command() -> tuple[list[str] | None, str]:
    """The words that have a command run by root, none for root; or None and why it cannot be had."""
    if os.geteuid() == 0:
        return [], ""
    if not host.find("sudo"):
        return None, "you are not root, and there is no sudo"
    quiet = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if quiet.returncode == 0:
        return ["sudo", "-n"], ""
    if os.environ.get("CI") or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None, "sudo asks for a password, and nobody is there to give it"
    return ["sudo"], ""


# Looking


def checks() -> list[Check]:
    """All that is looked at on this machine, in an order to read it in."""
    return [*_hindrances(), check_kvm(), check_zstd(), check_cache_size(), *check_orphans(), *check_environment()]


def _hindrances(tests: bool = False) -> list[Check]:
    """What can keep `make matrix` from working; quick, for it is looked at before each."""
    results = [Check("ok", f"Python {'.'.join(map(str, sys.version_info[:3]))}")]
    wanted = needs(tests)
    for need in wanted:
        results.append(Check("ok", need.what) if need.there else Check("MISSING", need.what, fatal=True))
    if any(need.there and need.unpackable for need in wanted):
        results += _compilers()
    return [*results, *_qemu(), *check_cache(), *_room(), *check_memory(), *check_database()]


def _compilers() -> list[Check]:
    """Whether the compilers run, down to the linker: those that are unpacked may lack a library."""
    path = packages.search_path()
    gccgo = host.find(f"{_TRIPLE}-gccgo-{_gccgo()}", path)
    if gccgo is None:
        return []
    command = [gccgo, "-x", "go", "-o", os.devnull, "-"]
    process = subprocess.run(
        command, input="package main\nfunc main() {}\n", capture_output=True, text=True, check=False
    )
    if process.returncode == 0:
        return []
    return [Check("PROBLEM", f"{gccgo} does not compile: {packages.first_error(process.stderr)}", fatal=True)]


def _qemu() -> list[Check]:
    program = host.find("qemu-system-x86_64")
    if program is None:
        return []
    process = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", check=False)
    match = re.search(r"version (\d+)\.(\d+)\S*", process.stdout)
    if process.returncode or not match:
        return [Check("PROBLEM", f"{program} --version fails: {packages.first_error(process.stderr)}", fatal=True)]
    if (int(match[1]), int(match[2])) < _QEMU:
        oldest = ".".join(map(str, _QEMU))
        return [Check("PROBLEM", f"QEMU {match[0]}: the oldest that is tried is {oldest}; it may do")]
    return [Check("ok", f"QEMU {match[0]}")]


def check_kvm() -> Check:
    """Whether KVM runs guests, as tried now and as remembered since this machine booted."""
    if problem := kvm.problem():
        return Check("note", f"KVM: {problem}. Guests run by emulation, several times slower")
    if kvm.failed():
        again = f"to have it tried again: rm {kvm.failure_record()}"
        text = f"KVM: a guest failed under it since this machine booted; {again}"
        return Check("note", f"{text}. Guests run by emulation, several times slower")
    return Check("ok", "KVM runs a guest")


def check_zstd() -> Check:
    """Whether the memory of saved guests can be compressed."""
    if host.find("zstd"):
        return Check("ok", "zstd")
    text = "zstd is not installed (Debian package zstd), so no saved guest is compressed"
    return Check("note", f"{text}. That matters on a slow disk only")


def check_cache() -> list[Check]:
    """Whether the cache can be written."""
    folder = paths.cache_dir()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(existing, os.W_OK | os.X_OK):
        return []
    return [
        Check("PROBLEM", f"{existing} cannot be written; give it to you, or set XDG_CACHE_HOME", fatal=True),
    ]


def check_cache_size() -> Check:
    """How large the cache is, and what keeps it from growing."""
    root = paths.cache_dir()
    try:
        limit = cache_space.bound()
    except ConfigError as error:
        return Check("PROBLEM", str(error), fatal=True)
    entries = cache_space.entries(root)
    size, bounded = (
        cache_space.render_size(sum(entry.size for entry in entries if entry.bounded or whole))
        for whole in (True, False)
    )
    text = f"{root}: {size}; {bounded} of it can be made again, and "
    bound = f"is kept below {cache_space.render_size(limit)}" if limit else "has no bound"
    return Check("ok", f"{text}{bound} ({cache_space.VARIABLE}). `harness cache list` lists it")


def _room() -> list[Check]:
    """Room for what a run adds to the cache, and to the folder that it is called in."""
    cache = paths.cache_dir()
    lacking = sum(mib for kind, mib in _CACHE.items() if not _any(cache / kind))
    wanted = {cache: max(lacking, _BEGIN) if lacking else 0}
    if (paths.DATA / "Makefile").is_file():  # a clone
        wanted[paths.DATA] = _RUN + (0 if _any(paths.DATA / ".venv") else _VENV)
    disks: dict[int, tuple[Path, int]] = {}
    for folder, mib in wanted.items():
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        first, others = disks.get(existing.stat().st_dev, (folder, 0))
        disks[existing.stat().st_dev] = (first, others + mib)
    results = []
    for folder, mib in disks.values():
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(existing).free // _MIB
        if free < mib:
            text = f"{folder}: `make matrix` needs {mib} MiB of room, and {free} are free; another disk's folder can be"
            results.append(Check("PROBLEM", f"{text} named by XDG_CACHE_HOME", fatal=True))
        else:
            results.append(Check("ok", f"{folder}: {free} MiB are free, `make matrix` needs {mib}"))
    return results


def _any(folder: Path) -> bool:
    """Whether something whole is in a folder: what is being made begins with a dot."""
    try:
        return any(not path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return False


def check_memory() -> list[Check]:
    """Memory for a guest, and for as many compilations as there are cores."""
    free = _available()
    cores = os.cpu_count() or 1
    if free < _GUEST:
        text = f"memory: {free} MiB are free, and a guest with its QEMU takes {_GUEST}; end other programs"
        return [Check("PROBLEM", text, fatal=True)]
    if free < cores * _COMPILATION and not _any(paths.cache_dir() / "libgo"):
        text = f"memory: {free} MiB are free, and {cores} compilations of libgo side by side take up to "
        return [Check("PROBLEM", f"{text}{cores * _COMPILATION}; `taskset -c 0 make matrix` makes one at a time")]
    at_once = min(cores, free // _GUEST)
    guests = "one guest" if at_once == 1 else f"{at_once} guests side by side"
    return [Check("ok", f"memory: {free} MiB are free, enough for {guests}")]


def _available() -> int:
    """MiB of memory and swap that can be had (proc(5), /proc/meminfo), in a control group that has a limit too."""
    rows = dict(re.findall(r"^(\w+):\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE))
    free = (int(rows["MemAvailable"]) + int(rows["SwapFree"])) // 1024
    group = Path("/sys/fs/cgroup")  # the own one in a container (cgroup_namespaces(7))
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, (int(limit) - int(used)) // _MIB)


# Leftovers


def check_orphans() -> list[Check]:
    """QEMUs of the harness that go on though it is gone: their shell, which would end them, was killed too."""
    results = []
    for folder in Path("/proc").glob("[0-9]*"):
        command = _words(folder)
        if (
            not command
            or not Path(command[0]).name.startswith("qemu-system-")
            or "file=/dev/fdset/1" not in str(command)
        ):
            continue
        if not has_harness(folder):
            guest = command[command.index("-name") + 1] if "-name" in command else "?"
            text = f"QEMU of guest {guest} goes on, and no harness is there for it: `kill {folder.name}`"
            results.append(Check("PROBLEM", text))
    return results


def has_harness(folder: Path) -> bool:
    """Whether a process has a Python among those that started it."""
    while folder.name not in ("0", "1"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return True  # it has just ended
        folder = folder.with_name(parent)
        command = _words(folder)
        if command and folder.name != "1" and re.match(r"python|harness|pytest", Path(command[0]).name):
            return True
    return False


def _words(folder: Path) -> list[str]:
    try:
        return [word.decode(errors="replace") for word in (folder / "cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def check_environment() -> list[Check]:
    """A virtual environment whose Python is gone, as after an upgrade of the system."""
    python = paths.DATA / ".venv/bin/python"
    if python.is_symlink() and not python.exists():
        text = f"{python.parents[1]} is of {os.readlink(python)}, which is gone; `make setup` makes it anew"
        return [Check("PROBLEM", text)]
    return []


def check_database() -> list[Check]:
    """A results database that this harness cannot read."""
    file = paths.work_dir() / "results.sqlite"
    if not file.is_file():
        return []
    try:
        from harness.results.store import VERSION
    except ImportError:  # no virtual environment yet
        return []
    try:
        db = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        finally:
            db.close()
    except sqlite3.Error as error:
        return [Check("PROBLEM", f"{file}: {error}; move it away, or name another folder by --work", fatal=True)]
    if version > VERSION:
        text = f"{file} was written by a newer version (tables {version}, this one knows {VERSION}); move it away"
        return [Check("PROBLEM", f"{text}, or name another folder by --work", fatal=True)]
    if 0 < version < VERSION:
        return [Check("ok", f"{file} was written by an older version; the next run upgrades it")]
    return []


def report() -> tuple[str, int]:
    """All that was looked at, what to do, and the exit status: 1 if `make matrix` would fail."""
    results = checks()
    missing = [need for need in needs() if not need.there]
    by_root = sorted({need.package for need in missing if not need.unpackable})
    others = sorted({need.package for need in missing if need.unpackable})
    lines = [str(check) for check in results]
    if missing:
        lines += ["", "`make setup` gets what is missing, and removes nothing."]
    if by_root:
        lines.append(f"By hand: sudo apt-get install --no-remove {' '.join(by_root)}")
    if others:
        lines.append(f"Without root, into the cache: {' '.join(others)}")
    fatal = any(check.fatal for check in results)
    lines += ["", "`make matrix` fails here as it is" if fatal else "`make matrix` works here"]
    return "\n".join(lines), int(fatal)


if __name__ == "__main__":
    if "--install" in sys.argv[1:]:
        sys.exit(install("--tests" in sys.argv[1:]))
    text, status = report()
    print(text)
    sys.exit(status)
