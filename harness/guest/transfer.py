"""Files and folders copied into a guest and out of it, and commands run in it, by OpenSSH's client for a user.

Nothing is kept in memory, and nothing half written is left on this machine. A file needs `cat`, `chmod`, `mv` and `wc`
in the guest, a folder needs `tar`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from harness.errors import GuestError, HarnessError, ToolMissing
from harness.files import written_whole
from harness.guest.machine import Machine
from harness.log import ignored

_log = logging.getLogger(__name__)

#: What OpenSSH's client ends with when it is the connection that failed (ssh(1)).
_NO_CONNECTION = 255
#: What the guest prints of a path.
_KIND = """
if [ -d {path} ]; then echo folder; elif [ ! -f {path} ]; then ! [ -e {path} ] || echo other
elif [ -x {path} ]; then echo program; else echo file; fi"""
_PUT_FILE = """
target={target} name={name}
[ ! -d "$target" ] || target=$target/$name
cat >"$target.part" && [ "$(wc -c <"$target.part")" -eq {size} ] && chmod {mode} "$target.part" &&
mv "$target.part" "$target" || {{ rm -f "$target.part"; exit 1; }}
"""
_PUT_FOLDER = """
target={target} name={name}
[ ! -d "$target" ] || target=$target/$name
if [ -e "$target" ]; then echo "$target is there already" >&2; exit 1; fi
mkdir "$target.part" && tar -xf - -C "$target.part" && mv "$target.part/$name" "$target" && rmdir "$target.part" ||
{{ rm -rf "$target.part"; exit 1; }}
"""


def ssh_command(port: int | str, user: str, key: Path, host_key: str | None) -> list[str]:
    """The command that logs in to a guest, or with a shell command behind it runs that. It reads and writes no file of
    the user's but the key.

    Args:
        port: of 127.0.0.1.
        host_key: what the guest must show; None if that is not known.
    """
    options = ["IdentitiesOnly=yes", "LogLevel=ERROR", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"]
    if host_key:
        options += [f"KnownHostsCommand=/bin/echo [127.0.0.1]:{port} {host_key}", "StrictHostKeyChecking=yes"]
    else:
        options.append("StrictHostKeyChecking=no")
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", *words, "-i", str(key), "-p", str(port), f"{user}@127.0.0.1"]


def login(machine: Machine) -> list[str]:
    """The command that logs in to a running guest, as of `ssh_command`."""
    files = machine.files
    return ssh_command(machine.port, machine.guest.ssh.user, files.ssh_key, files.host_key)


class Transfer:
    """The way of a user's files and commands into a guest.

    Args:
        name: the guest's name, for errors.
        ssh: the command that logs in to it.
        note: told what was left out of a copy.
    """

    def __init__(self, name: str, ssh: Sequence[str], note: Callable[[str], None] = lambda text: None) -> None:
        self._name, self._ssh, self._note = name, list(ssh), note

    def run(self, command: str, terminal: bool) -> int:
        """Run a shell command on this process's own streams, or a shell if it is empty. Returns its exit status, which
        is 128 + N if signal N ended it.

        Args:
            terminal: whether it gets a terminal.
        """
        # The shell around it makes an exit status of a signal, which SSH would not tell.
        words = [f"{command}\nexit $?"] if command else []
        login, target = self._ssh[:-1], self._ssh[-1:]
        try:
            return subprocess.run([*login, "-t" if terminal else "-T", *target, *words], check=False).returncode
        except FileNotFoundError as error:
            raise _no_ssh() from error

    def put(self, local: Path, remote: str) -> None:
        """Copy a file or a folder into the guest.

        Args:
            remote: a path, seen from the login's folder; one that is a folder gets the copy put into it.

        Raises:
            HarnessError: it cannot be read, or not be written there.
            GuestError: the connection failed.
        """
        name = local.absolute().name
        what = f"--put {local}"
        values = {"target": shlex.quote(remote or "."), "name": shlex.quote(name)}
        try:
            if local.is_dir():
                with self._running(_PUT_FOLDER.format(**values), what) as process:
                    assert process.stdin
                    with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                        archive.add(local, name)
                return
            with local.open("rb") as file:
                status = os.fstat(file.fileno())
                script = _PUT_FILE.format(**values, size=status.st_size, mode=f"{status.st_mode & 0o777:o}")
                with self._running(script, what) as process:
                    assert process.stdin
                    shutil.copyfileobj(file, process.stdin, 1 << 20)
        except OSError as error:
            raise HarnessError(f"{what}: {error.filename or local}: {error.strerror}") from error

    def get(self, remote: str, local: Path) -> None:
        """Copy a file or a folder out of the guest.

        Args:
            local: the file or folder to make; a file that is there is replaced, a folder is not.

        Raises:
            HarnessError: it is not there, or cannot be written here.
            GuestError: the connection failed.
        """
        what, path = f"--get {remote}", shlex.quote(remote)
        kind = self.ask(_KIND.format(path=path), what)
        if not kind:
            raise HarnessError(f"guest {self._name}: {what}: there is no such file")
        if kind == "other":
            raise HarnessError(f"guest {self._name}: {what}: is neither a file nor a folder")
        try:
            if kind == "folder":
                self._get_folder(path, local, what)
                return
            if local.exists() and not local.is_file():
                raise HarnessError(f"{what}: {local} is there already, and is no file")
            with written_whole(local) as part:
                with part.open("wb") as file, self._running(f"exec cat {path}", what) as process:
                    assert process.stdout
                    shutil.copyfileobj(process.stdout, file, 1 << 20)
                part.chmod(0o755 if kind == "program" else 0o644)
        except OSError as error:
            raise HarnessError(f"{what}: {local}: {error.strerror}") from error

    def _get_folder(self, path: str, local: Path, what: str) -> None:
        if local.exists():
            raise HarnessError(f"{what}: {local} is there already")
        with tempfile.TemporaryDirectory(dir=local.absolute().parent, prefix=f".{local.name}-") as folder:
            new = Path(folder) / local.name
            new.mkdir()
            with self._running(f"tar -cf - -C {path} .", what) as process:
                assert process.stdout
                try:
                    with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                        left_out = unpack(archive, new)
                except tarfile.TarError as error:
                    if not process.wait():  # else it says why itself
                        raise GuestError(f"guest {self._name}: {what}: its tar sent no archive: {error}") from error
                while process.stdout.read(1 << 16):  # what tar writes after the end of an archive
                    pass
            new.rename(local)
        if left_out:
            names = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
            self._note(f"{what}: left out what is neither file nor folder nor link: {names}")

    def ask(self, command: str, what: str) -> str:
        """What a shell command prints, without white space around it. Raises as `get`."""
        with self._running(command, what) as process:
            assert process.stdout
            return process.stdout.read().decode(errors="replace").strip()

    @contextlib.contextmanager
    def _running(self, command: str, what: str) -> Iterator[subprocess.Popen[bytes]]:
        """A shell command of the guest that runs while the block feeds or reads it. Raises as `get` if it fails."""
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    [*self._ssh[:-1], "-T", "-o", "BatchMode=yes", self._ssh[-1], command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except FileNotFoundError as error:
                raise _no_ssh() from error
            with process:
                try:
                    yield process
                    process.communicate()
                except BrokenPipeError:  # it has ended, and says why
                    assert process.stdin
                    with ignored(_log, f"{what}: what the guest did not read", BrokenPipeError):
                        process.stdin.close()
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").splitlines()
                why = lines[0] if lines else f"it ended with status {process.returncode}"
                kind = GuestError if process.returncode == _NO_CONNECTION else HarnessError
                raise kind(f"guest {self._name}: {what}: {why}")


def unpack(archive: tarfile.TarFile, folder: Path) -> list[str]:
    """Unpack an archive of which nothing is trusted: whatever it says, nothing is written outside the folder.

    Links are made last, and none through another. Debian 12's Python has none of tarfile's own filters.

    Returns:
        The names of what was left out: devices, and names and hard links that lead out of the folder.

    Raises:
        OSError: it cannot be written.
        tarfile.TarError: it is no archive, or ends early.
    """
    left_out, links = [], []
    for member in archive:
        path = _inside(folder, member.name)
        if path is None or not (member.isdir() or member.isfile() or member.issym() or member.islnk()):
            left_out.append(member.name)
        elif member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(member.mode & 0o777 | 0o700)
        elif member.isfile():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            path.chmod(member.mode & 0o777)
            os.utime(path, (member.mtime, member.mtime))
        else:
            links.append((member, path))
    for member, path in sorted(links, key=lambda link: link[0].issym()):  # no hard link is looked up through another
        target = None if member.issym() else _inside(folder, member.linkname)
        if not path.parent.resolve().is_relative_to(folder.resolve()) or not (
            member.issym() or (target and target.is_file())
        ):
            left_out.append(member.name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.hardlink_to(target)
        else:
            path.symlink_to(member.linkname)
    return left_out


def _inside(folder: Path, name: str) -> Path | None:
    """The path of an archive's member below a folder; None if it would be elsewhere."""
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else folder / path


def _no_ssh() -> ToolMissing:
    return ToolMissing("no ssh on this machine; Debian's package is openssh-client")
