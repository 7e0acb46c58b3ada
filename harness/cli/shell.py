"""The command shell: a fresh guest for a user, his files in it, and the command that boots it by hand."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import click

from harness import conf, kvm, paths
from harness.cli import complete
from harness.cli.options import CONF, WORK, progress_options
from harness.cli.output import load_work_configuration, reporter
from harness.errors import HarnessError
from harness.guest.machine import Machine, free_port
from harness.guest.qemu_command import user_command
from harness.guest.transfer import Transfer, login, ssh_command
from harness.run.prepare import bootable_files, fresh_guest


@dataclass(frozen=True)
class _Copy:
    """A file or folder to be copied: where it is and where it goes."""

    source: str
    target: str


@click.command()
@click.argument("guest", shell_complete=complete.guests)
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
@click.option(
    "--put",
    "puts",
    multiple=True,
    metavar="LOCAL[:REMOTE]",
    help="Copy a file or folder into the guest first, by default into the login's folder; repeatable.",
)
@click.option(
    "--get",
    "gets",
    multiple=True,
    metavar="REMOTE[:LOCAL]",
    help="Copy a file or folder out of the guest in the end, by default to here; repeatable.",
)
@click.option("--console", is_flag=True, help="Boot the guest and show its console meanwhile, though one may be saved.")
@click.option("--print", "only_print", is_flag=True, help="Print how to boot the guest by hand, and boot nothing.")
@progress_options
@CONF
@WORK
def shell(
    guest: str,
    command: tuple[str, ...],
    puts: tuple[str, ...],
    gets: tuple[str, ...],
    console: bool,
    only_print: bool,
    conf_files: tuple[Path, ...],
    work: str | None,
) -> None:
    """Open a shell in a fresh guest, or run a command there.

    The guest is gone when you leave it. One word is a command for the guest's shell, as in -- 'ls | wc'; several are a
    program and its arguments.
    Exit status: the shell's or the command's, 128 + N if signal N ended it; 2 bad input, 3 trouble with the guest.

    \b
    harness shell linux-i386                                  look around
    harness shell linux-i386 --put a.out -- ./a.out           run a program of your own
    harness shell linux-i386 --get /var/log:logs -- true      fetch a folder
    harness shell linux-i386 --console                        see it boot
    """
    configuration = load_work_configuration(conf_files, work)
    configuration.guest(guest)
    if only_print:
        if puts or gets or command or console:
            raise HarnessError("--print boots nothing; leave out --put, --get, --console and the command")
        print_by_hand(guest, configuration)
        return
    to_put, to_get = [_put(word) for word in puts], [_get(word) for word in gets]
    with contextlib.ExitStack() as stack:
        # A live view of the progress would be torn by the console.
        report = reporter(partial(click.echo, err=True)) if console else reporter()
        with report:
            tell = _show_console if console else None
            machine = stack.enter_context(fresh_guest(guest, configuration, paths.work_dir(work), report, tell))
            transfer = transfer_to(machine)
            for copy in to_put:
                report.step(f"guest {guest}", f"receiving {copy.source}")
                transfer.put(Path(copy.source), copy.target)
        status = run_in(machine, command)
        for copy in to_get:
            transfer.get(copy.source, Path(copy.target))
    sys.exit(status)


def print_by_hand(name: str, configuration: conf.Configuration) -> None:
    """Print shell commands that boot a guest as the harness does, without the harness, and log in to it."""
    guest = configuration.guest(name)
    with reporter() as report:
        files = bootable_files(name, configuration, report)
    port = free_port()
    lines = [f"# Boot {name}; its console is the terminal's, ctrl-A X ends it."]
    if files.disk and guest.disk:
        disk = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", guest.disk.format, "-b", str(files.disk)]
        lines += ['cd "$(mktemp -d)"', shlex.join([*disk, "overlay.qcow2"])]
    drive = "file=overlay.qcow2,format=qcow2"
    lines.append(shlex.join(user_command(name, guest, files, drive, kvm.may_work(), port)))
    ready = f"its console says `{guest.ready.console}`" if guest.ready.console else "it has booted"
    lines.append(f"# Log in from another terminal when {ready}.")
    lines.append(shlex.join(ssh_command(port, guest.ssh.user, files.ssh_key, files.host_key)))
    click.echo("\n".join(lines))


def transfer_to(machine: Machine) -> Transfer:
    """The way into a running guest."""
    return Transfer(machine.name, login(machine), partial(click.echo, err=True))


def run_in(machine: Machine, command: Sequence[str] = ()) -> int:
    """Have the user in a guest, or a command of his. Returns the exit status.

    Raises:
        GuestError: the guest died under the command.
    """
    text = command[0] if len(command) == 1 else shlex.join(command)
    terminal = sys.stdin.isatty() and (not command or sys.stdout.isatty())
    status = transfer_to(machine).run(text, terminal)
    if command and status and (trouble := machine.trouble()):
        raise machine.failure(trouble)
    return status


def _show_console(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.flush()


def _put(word: str) -> _Copy:
    """What --put says. Raises HarnessError if there is no such file here."""
    source, target = word, ""
    if not Path(word).exists():
        source, _, target = word.rpartition(":")
    if not source or not Path(source).exists():
        raise HarnessError(f"--put {word}: there is no such file or folder here")
    return _Copy(source, target)


def _get(word: str) -> _Copy:
    """What --get says. Raises HarnessError if nothing can be written there."""
    source, _, place = word.partition(":")
    name = PurePosixPath(source).name
    target = Path(place or ".")
    if not source:
        raise HarnessError(f"--get {word}: names no file of the guest")
    if target.is_dir():
        if name in ("", ".."):
            raise HarnessError(f"--get {word}: name the file or folder to make here, as in --get {source}:copy")
        target = target / name
    if not target.absolute().parent.is_dir():
        raise HarnessError(f"--get {word}: there is no folder {target.parent} here")
    return _Copy(source, str(target))
