"""gdb on a program that hangs in a guest, with the symbols of the program and of its libgo.

A gdbserver for the guest, with the libraries that it needs, is shipped into the guest and talks to this machine's gdb
through SSH, as a command's standard input and output. A guest for which there is none may have a gdb of its own. Knows
nothing of what made the program hang.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness import paths
from harness.cache import Cache, digest
from harness.errors import GuestError, HarnessError
from harness.guest.transfer import Transfer
from harness.host import run
from harness.images import debian
from harness.log import ignored
from harness.trial import gdb

_log = logging.getLogger(__name__)

#: The file in a machine's folder that tells other processes of a program that hangs there.
_ANNOUNCED = "hung.json"
_KIND = "gdbserver"
#: MiB that a gdbserver and its libraries take while they are unpacked.
_ROOM = 60
#: The names by which programs look for libraries; what other names there are is not needed.
_LIBRARY = re.compile(r"(?:lib|ld)[^/]*\.so\.\d+")
#: Seconds that gdb may take for the list of libraries, and that it waits for an answer: to log in and to start a
#: gdbserver takes a busy guest without KVM a minute.
_LISTING, _ANSWER = 300.0, 300


class HungProgram(BaseModel):
    """A program that hangs in a guest, and how to reach it.

    Attributes:
        name: what the program is called.
        guest: the guest's name.
        ssh: the command that logs in to the guest.
        folder: the guest's folder for what it is given.
        gdbserver: the Debian package of a gdbserver for the guest; '' if there is none.
        pid: its process in the guest.
        executable: its file on this machine.
        libraries: its libraries that are on this machine, by where they lie in the guest.
        sources: the folder of its source.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    guest: str
    ssh: list[str]
    folder: str
    gdbserver: str
    pid: int
    executable: Path
    libraries: dict[str, Path]
    sources: Path

    @contextmanager
    def announced(self, folder: Path) -> Iterator[None]:
        """Have `announced_programs` find it during the block.

        Args:
            folder: its machine's.
        """
        file = folder / _ANNOUNCED
        with ignored(_log, f"writing {file}", OSError):  # a full disk: the program hangs all the same
            file.write_text(self.model_dump_json())
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def announced_programs(machines: Path) -> dict[Path, HungProgram]:
    """The programs that hang in guests which somebody looks at, by the machine's folder.

    Args:
        machines: where the folders of all machines of a work directory are.
    """
    programs = {}
    for file in sorted(machines.glob(f"*/{_ANNOUNCED}")):
        with ignored(_log, f"reading {file}", OSError, ValueError):  # the guest has just gone
            programs[file.parent] = HungProgram.model_validate_json(file.read_text())
    return programs


def check(gdbserver: str) -> None:
    """Raise ToolMissing if gdb is to be this machine's, and there is none.

    Args:
        gdbserver: the package of a gdbserver for the guest; '' if there is none.
    """
    if gdbserver:
        gdb.required()


def attach(program: HungProgram, script: Path | None, say: Callable[[str], None]) -> int:
    """Attach gdb to a program that hangs; leave it to the user, or have it run a script, whose output is printed.

    When gdb ends the program goes on, unless it was killed.

    Args:
        script: gdb's commands; None leaves gdb to a user.
        say: told what goes on.

    Returns:
        gdb's exit status.

    Raises:
        HarnessError: there is no gdb, or no gdbserver for the guest.
        GuestError: the connection to the guest fails.
    """
    check(program.gdbserver)
    transfer = Transfer(program.guest, program.ssh)
    if not program.gdbserver:
        return _attach_inside(program, transfer, script)
    server = _server(program.gdbserver, say)
    remote = f"{program.folder}/{_KIND}-{server.parent.name}"
    if not transfer.ask(f"[ ! -d {shlex.quote(remote)} ] || echo there", "looking for a gdbserver"):
        say("shipping a gdbserver")
        transfer.put(server, remote)
    start = _start(server, remote, program.pid)
    # gdb gives what stands behind the bar to a shell.
    connect = f"target remote | exec {shlex.join([*program.ssh[:-1], '-T', program.ssh[-1], start])}"
    with tempfile.TemporaryDirectory(prefix="harness-gdb-") as folder:
        root = Path(folder)
        for target, library in program.libraries.items():
            _place(root, target).symlink_to(library.resolve())
        say("looking for the program's libraries")
        for name in _missing(program, root, connect):
            with ignored(_log, f"fetching {name} of the guest for gdb", HarnessError, OSError):
                transfer.get(name, _place(root, name))
        say("attaching gdb")
        with gdb.interrupts_left_to_it():
            return subprocess.run(_gdb(program, root, connect, script), check=False).returncode


def _gdb(program: HungProgram, root: Path, connect: str, script: Path | None) -> list[str]:
    """The command that attaches gdb. `root` is where the guest's libraries are found."""
    command = [str(gdb.find()), *gdb.SAFE, *(("-batch", "-nx") if script else ("-q",))]
    command += [word for each in (*_settings(root), f"directory {program.sources}", connect) for word in ("-ex", each)]
    return [*command, *(("-x", str(script)) if script else ()), str(program.executable)]


def _settings(root: Path) -> list[str]:
    """gdb's settings for a guest."""
    return [f"set remotetimeout {_ANSWER}", f"set sysroot {root}"]


def _missing(program: HungProgram, root: Path, connect: str) -> list[str]:
    """The libraries of a program that are not here, by their paths in the guest. Raises GuestError."""
    commands = ["set auto-solib-add off", *_settings(root), connect, "info sharedlibrary"]
    command = [str(gdb.find()), *gdb.SAFE, "-batch", "-nx", *(word for each in commands for word in ("-ex", each))]
    command.append(str(program.executable))
    try:
        process = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LISTING, check=False, process_group=0
        )
    except subprocess.TimeoutExpired as error:
        raise GuestError(
            f"guest {program.guest}: gdb did not reach process {program.pid} in {_LISTING:.0f} s"
        ) from error
    output = process.stdout.decode(errors="replace")
    if "From" not in output:
        lines = (process.stdout + process.stderr).decode(errors="replace").splitlines()
        why = next((line for line in lines if "annot" in line or "rror" in line), lines[-1] if lines else "no answer")
        raise GuestError(f"guest {program.guest}: gdb cannot attach to process {program.pid}: {why}")
    return gdb.missing_libraries(output)


def _place(root: Path, name: str) -> Path:
    """Where a file of the guest lies below a folder; the folder that it is in is made."""
    place = root / name.lstrip("/")
    if ".." in place.parts:
        raise GuestError(f"{name}: no library of a program has such a name")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _attach_inside(program: HungProgram, transfer: Transfer, script: Path | None) -> int:
    """Attach the guest's own gdb. Raises HarnessError if it has none."""
    if not transfer.ask("command -v gdb || :", "looking for gdb"):
        raise HarnessError(
            f"guest {program.guest}: its description names no gdbserver, and the guest has no gdb of its own"
        )
    options = "-q"
    if script:
        remote = f"{program.folder}/script.gdb"
        transfer.put(script, remote)
        options = f"-batch -nx -x {shlex.quote(remote)}"
    with gdb.interrupts_left_to_it():
        # The script comes after the process is attached to: gdb takes -p first (its main.c).
        return transfer.run(f"gdb {options} -p {program.pid}", terminal=script is None and sys.stdin.isatty())


def _server(package: str, say: Callable[[str], None]) -> Path:
    """The folder of a gdbserver with its libraries, from the cache, or from Debian's archive at the first time.

    Args:
        package: as NAME:ARCHITECTURE.

    Raises:
        ImageError: apt cannot get it.
        ToolMissing: apt or dpkg is not installed.
        StoreError: the cache has no room.
    """
    name, _, architecture = package.partition(":")

    def fill(folder: Path) -> None:
        say(f"downloading {package}")
        with tempfile.TemporaryDirectory(prefix="harness-apt-") as work:
            root = Path(work) / "root"
            for deb in debian.Apt(Path(work) / "apt", architecture).install([name]):
                run("dpkg-deb", "-x", deb, root, what=f"unpacking {deb.name}")
            target = folder / "files"
            target.mkdir()
            shutil.copy(root / "usr/bin/gdbserver", target)
            for library in sorted(root.glob("**/*.so*")):
                if (
                    _LIBRARY.fullmatch(library.name)
                    and library.parent.name.endswith(("-gnu", "lib"))
                    and library.is_file()
                ):
                    shutil.copy(library, target)

    return Cache(paths.cache_dir()).make(_KIND, digest([package, debian.codenames()]), fill, _ROOM) / "files"


def _start(server: Path, remote: str, pid: int) -> str:
    """The command in the guest that has a gdbserver attach to a process, and talk on standard input and output.

    The loader that came with it starts it, so the guest's own C library may be any.
    """
    loaders = sorted(file.name for file in server.glob("ld*.so*"))
    if not loaders:
        raise HarnessError(f"{server}: has no dynamic loader; remove the folder, and it is made again")
    words = [f"{remote}/{loaders[0]}", "--library-path", remote, f"{remote}/gdbserver", "--attach", "-", str(pid)]
    return shlex.join(words)
