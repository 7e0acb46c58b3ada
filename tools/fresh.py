"""The README's two commands on a fresh Debian: a clean root of each release, a clone of this repository, `make matrix`
and `make test`, by root or by an ordinary user with sudo.

Run on demand: `tox -e fresh`, or `tox -e fresh -- 13 sid --user`. Each release takes an hour and 8 GB of disk. The root
is made by debootstrap and has what the README asks for, and nothing else. This machine's settings for packages (its
Debian mirror, apt's and pip's settings) are copied. Everything runs in mount and PID namespaces of its own: when a
command ends, or this program is killed, the kernel kills the remaining processes and unmounts the file systems.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console

from harness import paths
from harness.durations import as_clock
from harness.images import debian

#: The code names of Debian's releases.
SUITES = {"12": "bookworm", "13": "trixie", "sid": "sid"}
#: The keys of all of Debian's releases (package debian-archive-keyring).
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: The folders in a root of the clone, and of the files that this machine's pip settings name.
CLONE, HOST = Path("srv/harness"), Path("mnt/host")
#: The ordinary user.
USER = "user"
#: apt's settings for reaching an archive (apt.conf(5), apt-transport-http(1)).
APT = re.compile(r"Acquire::(https?|ForceIPv|Check-|Retries|Max-FutureTime|Proxy)", re.IGNORECASE)
#: Lines of a command's output that are shown.
LINES = 12
#: Seconds between two lines about the progress where there is no terminal to keep one up to date.
PAUSE = 60.0
#: Enters a root: `sh -c ENTER enter ROOT [FROM TO]... -- COMMAND...`. By pivot_root(2) and not by chroot(2), since in a
#: chroot nobody may make user namespaces. The shell stays, as the init that reaps what loses its parent. The devices
#: are debootstrap's, not this machine's, whose rights may be its own; gid 5 is tty (Debian's base-passwd).
ENTER = """
set -e
root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount --bind "$root/dev/pts/ptmx" "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
[ ! -e /dev/kvm ] || mount --bind /dev/kvm "$root/dev/kvm"
while [ "$1" != -- ]; do
  mount --rbind "$1" "$2"
  shift 2
done
shift
cd "$root"
mkdir -p mnt/old
pivot_root . mnt/old
umount --lazy /mnt/old
rmdir /mnt/old
cd /
"$@"
exit $?
"""


class CannotStart(click.ClickException):
    """Nothing can be tried here: one sentence, exit status 2."""

    exit_code = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("releases", nargs=-1, type=click.Choice(list(SUITES)), metavar="[12|13|sid]...")
@click.option("--user", "ordinary", is_flag=True, help="As an ordinary user with sudo; without it, as root.")
@click.option("--only", metavar="COMMAND", help="One of the README's commands alone: matrix, or test.")
@click.option("--roots", type=click.Path(path_type=Path, file_okay=False), default="/var/tmp/harness-fresh",
              show_default=True, help="Where roots and logs lie.")  # fmt: skip
def main(releases: tuple[str, ...], ordinary: bool, only: str | None, roots: Path) -> None:
    """Try the README's two commands on fresh RELEASES of Debian, by default 12 and 13.

    The root of a release where a command failed is kept to look into, and replaced by the next try.
    """
    commands = [command for command in readme_commands() if only in (None, command.split()[-1])]
    if not commands:
        raise click.UsageError(f"--only {only}: the README's commands are {', '.join(readme_commands())}")
    if os.geteuid() != 0:
        raise CannotStart("run this as root: debootstrap makes device files, and the fresh root needs mounts")
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    os.environ["PATH"] = path
    if not shutil.which("debootstrap"):
        raise CannotStart("debootstrap is not installed (Debian package debootstrap)")
    if not shutil.which("apt-get"):
        raise CannotStart("there is no apt-get: this needs a Debian machine, whose settings for packages it copies")
    if not KEYRING.exists():
        raise CannotStart(f"there is no {KEYRING} (Debian package debian-archive-keyring)")
    try:
        roots.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"{roots}: {error.strerror}") from error
    if roots.stat().st_uid != 0:
        raise CannotStart(f"{roots} belongs to another user")
    outcomes = {}
    for release in dict.fromkeys(releases or ("12", "13")):
        fresh = Fresh(release, roots.resolve() / f"fresh-{release}{'-user' if ordinary else ''}", ordinary)
        outcomes[release] = fresh.run(commands)
    for release, failure in outcomes.items():
        print(f"Debian {release}: {failure or 'passed'}")
    sys.exit(any(outcomes.values()))


def readme_commands() -> list[str]:
    """The commands of the README's first block."""
    match = re.search(r"^```sh\n(.*?)^```", (paths.DATA / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert match
    return [line.partition("#")[0].strip() for line in match[1].splitlines()]


class Fresh:
    """A fresh root of one release, and what is run in it. Logs lie beside it."""

    def __init__(self, release: str, root: Path, ordinary: bool) -> None:
        self._release, self.root, self._ordinary = release, root, ordinary
        self._binds: list[str] = []
        self._console = Console(highlight=False, markup=False)

    def run(self, commands: list[str]) -> str:
        """Make the root and run the commands in it. Returns what failed, or nothing."""
        with self.lock():
            self.remove()
            failure = self._make() or next(filter(None, map(self._command, commands)), "")
            if not failure:
                self.remove()
            elif self.root.exists():
                shell = [*namespaces(), *self._enter(), "bash"]
                failure += f"; for a shell in the root, until the next try:\n{shlex.join(shell)}"
        return failure

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the root. Raises CannotStart if another run holds it."""
        with self.root.with_name(f"{self.root.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CannotStart(f"{self.root} is in use by another run") from error
            yield

    def remove(self) -> None:
        """Remove the root, also one that a killed run left; its processes and mounts ended with that run."""
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        inside = [mount for mount in mounts if Path(mount).is_relative_to(self.root)]
        if inside:
            raise CannotStart(f"{inside[-1]} is mounted; unmount it, so that {self.root} can be removed")
        if self.root.exists():
            shutil.rmtree(self.root)

    def _make(self) -> str:
        """Make the root, with the clone in it. Returns what failed, or nothing."""
        mirror = debian_mirror()
        include = ["git", "make", *(["sudo"] if self._ordinary else [])]
        if mirror.startswith("https:"):
            include.append("ca-certificates")
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(include)}", f"--keyring={KEYRING}"]
        command += [SUITES[self._release], str(self.root), *([mirror] if mirror else [])]
        failure = self._log("debootstrap", [*namespaces(), *command])
        if failure:
            return failure
        (self.root / "dev/kvm").touch()  # this machine's is mounted there, if it has one
        for name in ("hosts", "resolv.conf"):
            shutil.copy(Path("/etc") / name, self.root / "etc" / name)
        (self.root / "etc/apt/apt.conf.d/90host").write_text(apt_settings())
        self._pip_settings()
        clone = self.root / CLONE
        return self._log("git clone", ["git", "clone", "--no-hardlinks", str(paths.DATA), str(clone)])

    def _pip_settings(self) -> None:
        """Copy this machine's pip settings. The files that they name are mounted in the root."""
        settings = configparser.RawConfigParser()
        for section, key, value in pip_settings():
            for file in files_in(value):
                inside = self.root / HOST / file.relative_to("/")
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.mkdir(exist_ok=True) if file.is_dir() else inside.touch()
                if str(inside) not in self._binds:
                    self._binds += [str(file), str(inside)]
            if not settings.has_section(section):
                settings.add_section(section)
            settings.set(section, key, re.sub(r"\S+", moved, value))
        with (self.root / "etc/pip.conf").open("w") as text:
            settings.write(text)

    def _enter(self) -> list[str]:
        return ["sh", "-c", ENTER, "enter", str(self.root), *self._binds, "--"]

    def _command(self, command: str) -> str:
        """Run a command of the README. Returns what failed, or nothing."""
        account = USER if self._ordinary else "root"
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"TERM={os.environ.get('TERM', 'dumb')}"]
        shell = ["sh", "-c", f"cd /{CLONE} && exec sh tools/account.sh {account} {command}"]
        return self._log(command, [*namespaces(), *self._enter(), *environment, *shell])

    def _log(self, name: str, command: list[str]) -> str:
        """Run a command with its output in a log file; show its progress and its last lines. Returns what failed."""
        file = self.root.with_name(f"{self.root.name}.{name.replace(' ', '-')}.log")
        title = f"Debian {self._release}{', ordinary user' if self._ordinary else ''}: {name}"
        begun = shown = time.monotonic()
        self._console.print(f"{title}, output in {file}")
        with file.open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            with self._console.status(title) as status:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):  # it is still running
                        process.wait(1)
                        break
                    now = time.monotonic()
                    progress = f"{title}, {as_clock(now - begun)}: {last_lines(file, 1)}"
                    status.update(progress)
                    if now > shown + PAUSE and not self._console.is_terminal:
                        shown = now
                        self._console.print(progress)
        finally:
            process.kill()  # the kernel kills its descendants
            process.wait()
        self._console.print(last_lines(file, LINES))
        ended = f"{name} {f'failed with status {process.returncode}' if process.returncode else 'passed'}"
        self._console.print(f"{title}: {ended} after {as_clock(time.monotonic() - begun)}\n")
        return f"{ended}, see {file}" if process.returncode else ""


def namespaces() -> list[str]:
    """The start of a command line that runs in mount and PID namespaces of its own and ends with its parent."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def debian_mirror() -> str:
    """The URL of this machine's Debian mirror; '' for debootstrap's default."""
    command = ["apt-get", "indextargets", "--format", debian.Source.FORMAT, "Created-By: Packages"]
    sources = debian.read_targets(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # The suites of updates and security, which have a dash in their names, may be on another server.
    return next((source.uri for source in sources if source.origin == "Debian" and "-" not in source.suite), "")


class PipSetting(NamedTuple):
    """A setting of pip."""

    section: str
    key: str
    value: str


def apt_settings() -> str:
    """This machine's settings for reaching archives, as lines for a file of apt.conf.d."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in dump.splitlines() if APT.match(line) and not line.endswith('"";')]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy:
            lines.insert(0, f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in lines)


def pip_settings() -> list[PipSetting]:
    """This machine's pip settings, of files and of the environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {}
    # The environment overrides the files.
    for line in sorted(output.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        settings[section.replace(":env:", "global"), key] = str(ast.literal_eval(value))
    return [PipSetting(section, key, value) for (section, key), value in settings.items()]


def files_in(value: str) -> list[Path]:
    """The files and folders of this machine that a setting of pip names."""
    files = []
    for item in value.split():
        file = Path(item.removeprefix("file://"))
        if file.is_absolute() and file.exists():
            # The pages of an index refer to files beside it.
            files.append(file.parent if file.is_dir() and item.startswith("file:") else file)
    return files


def moved(match: re.Match[str]) -> str:
    """An item of a pip setting with its path in the root."""
    item = match[0]
    return re.sub("^(file://)?", rf"\1/{HOST}", item) if files_in(item) else item


def last_lines(file: Path, count: int) -> str:
    """The last lines of a log, without control sequences of a terminal."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 20_000))
        text = log.read().decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rpartition("\r")[2].rstrip() for line in re.split(r"\r?\n", text)]
    return "\n".join([line for line in lines if line][-count:])


if __name__ == "__main__":
    main()
