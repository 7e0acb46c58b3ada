"""A guest that answers: its machine, the ways to run commands in it, and the files that it has been given.

Knows nothing of what the files are, and of how the guest came to be.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import GuestError, HarnessError
from harness.guest.agent import Agent
from harness.guest.exchange import Exchange, InUse
from harness.guest.line import Line, SerialPort
from harness.guest.machine import EXCHANGE, Machine
from harness.guest.shell import LARGE, Shell

_log = logging.getLogger(__name__)

#: Bytes of programs that lie in a guest at a time; a root disk may have no more than a few hundred MB free.
PROGRAMS = 150 << 20
#: Bytes of large files, those that were used last, that stay on the exchange disk when it is made anew: enough for the
#: libgos and preloaded libraries of a trial.
_KEPT = 512 << 20
#: The programs that are brought at a time, and their bytes: this machine takes little time to write them.
_BATCH, _BATCH_SIZE = 256, 48 << 20
#: Seconds that an agent that was just started may take for its first word by the channel; where the channel is not what
#: the guest's description says, none comes.
_FIRST_WORD = 20.0


class Guest:
    """A guest that answers. Every method raises GuestError when it does not.

    Args:
        machine: its machine.
        connect: opens an SSH connection to it.
        shell: one that is open already.
        files: the paths of the files that it has.
        agent_path: the path of its agent, which may have to be put there yet; '' if it is to have none.
        no_exchange: called when its exchange disk is of no use, with the reason; None if it is known to be.

    Attributes:
        agent: the conversation with its agent, if that was started.
        serves: whether that is by the channel.
        programs: the folders of programs and their sizes, the one that was used last at the end.
        upcoming: the programs that trials may want, by their paths in the guest.
    """

    def __init__(
        self,
        machine: Machine,
        connect: Callable[[], Shell],
        shell: Shell | None = None,
        files: set[str] | None = None,
        agent_path: str = "",
        no_exchange: Callable[[Exception], None] | None = None,
    ) -> None:
        self.machine, self.files, self.agent_path = machine, files or set(), agent_path
        self.agent: Agent | None = None
        self.programs: dict[str, int] = {}
        self.upcoming: Mapping[str, Path] = {}
        self._connect, self._shell, self._no_exchange = connect, shell, no_exchange
        self.serves = False
        self._linked = False  # whether anything leads to the exchange disk
        self._exchanged: dict[str, Path] = {}  # the large files on it, the one that was used last at the end
        self._exchange: Exchange | None = None
        if machine.guest.exchange_interface and no_exchange:
            guest, folder = machine.guest, f"{machine.guest.folder}/exchange"
            mounts, unmount = guest.exchange_mounts(shlex.quote(folder)), guest.exchange_unmount(shlex.quote(folder))
            self._exchange = Exchange(machine.folder / EXCHANGE, guest.os.creator, mounts, unmount, folder)

    @property
    def shell(self) -> Shell:
        """An SSH connection, opened when it is first asked for."""
        if self._shell is None:
            self._shell = self._connect()
        return self._shell

    def close(self) -> None:
        """Close the SSH connection, if one is open."""
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def run(
        self, command: str, quiet: float | None = None, what: str = "", limit: float | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command, by the agent where it serves, else through SSH; see Shell.run."""
        if self.agent and self.serves:
            return self.agent.run(command, quiet, what, limit)
        return self.shell.run(command, quiet, what=what, limit=limit)

    def serve(self) -> None:
        """Have the agent, which it has been given, serve by the channel, if it has one.

        Raises:
            GuestError: by none of the devices that the channel may be does it answer; it was ended.
        """
        failures = []
        for device in self.machine.guest.channels:
            command = shlex.join([self.agent_path, "serve", device, self._socket])
            server = ""
            try:
                status, out, err = self.shell.run(command, what="the agent that serves")
                if status:
                    raise GuestError(err.decode(errors="replace").strip() or f"status {status}")
                server = out.decode(errors="replace").strip()
                self.go_on(_FIRST_WORD)
                return
            except GuestError as error:
                self.machine.check()
                failures.append(f"no channel by {device}: {error}")
                if server.isdecimal():  # it, and the process that watches over it, are a session of their own
                    self.shell.run(f"kill -9 -{server}", what="ending an agent")
        if failures:
            raise GuestError(f"guest {self.machine.name}: {'; '.join(failures)}")

    def go_on(self, quiet: float | None = None) -> None:
        """Take up the conversation with an agent that serves.

        Args:
            quiet: seconds in which nothing comes before it is given up; None means clock.QUIET.
        """
        assert self.machine.channel is not None
        self.agent = Agent(SerialPort(self.machine.channel), self.machine.check, self._relay, quiet)
        self.serves = True

    def attach(self) -> Agent:
        """The conversation with the agent, which it has been given; started through SSH if it does not serve."""
        if self.agent is None:
            self.agent = Agent(self.shell.line([self.agent_path]), self.machine.check)
        return self.agent

    def put(self, source: Path, target: str) -> str:
        """Copy a file into the guest, once, by the exchange disk if it is large. Returns the target."""
        if target not in self.files:
            if source.stat().st_size < LARGE or not self._by_exchange({target: source}, {target: source}):
                self.shell.put(source.read_bytes(), target)
            self.files.add(target)
        if self._exchange and self._exchange.holds(target):
            self._exchanged.pop(target, None)
            self._exchanged[target] = source
        return target

    def ship(self, agent: Agent, program: Path, target: str) -> str:
        """Copy a program into a folder of its own in the guest, once, and unpack there the files.tar that may lie
        beside it. Those that come next are brought by the same disk. Programs that were not used for long make room.

        Returns:
            The target.

        Raises:
            GuestError: it cannot be put there.
        """
        folder = str(Path(target).parent)
        if (known := self.programs.pop(folder, None)) is None:
            archive = program.with_name("files.tar")
            files = {target: program} | ({f"{folder}/{archive.name}": archive} if archive.is_file() else {})
            known = sum(file.stat().st_size for file in files.values())
            while self.programs and sum(self.programs.values()) + known > PROGRAMS:
                oldest = next(iter(self.programs))
                self.run(f"rm -rf {shlex.quote(oldest)}")
                del self.programs[oldest]
            if self._by_exchange(self._batch(files), files):
                if len(files) > 1:
                    self._unpack(f"{folder}/{archive.name}", folder)
            else:
                agent.put(program.read_bytes(), target)
                if len(files) > 1:
                    self.shell.unpack(archive.read_bytes(), folder)
        self.programs[folder] = known
        return target

    def takes_files_at_once(self) -> bool:
        """Whether large files come by the exchange disk, and so within seconds."""
        return self._exchange is not None

    def _batch(self, files: Mapping[str, Path]) -> dict[str, Path]:
        """What is brought with some files, if they have to be brought: the programs that come next."""
        batch, size = dict(files), 0
        targets = list(self.upcoming)
        begin = next((index for index, target in enumerate(targets) if target in files), 0)
        for target in [*targets[begin:], *targets[:begin]][:_BATCH]:
            size += self.upcoming[target].stat().st_size
            if size > _BATCH_SIZE:
                break
            batch[target] = self.upcoming[target]
        return batch

    def _by_exchange(self, brought: Mapping[str, Path], wanted: Mapping[str, Path]) -> bool:
        """Have wanted files come by the exchange disk, and tell whether they are there.

        Args:
            brought: what is put on the disk if the wanted files are not on it yet, they among them.
        """
        exchange = self._exchange
        if exchange is None:
            return False

        def guest(command: str) -> tuple[int, bytes, bytes]:
            return self.run(command, what="the exchange disk")

        try:
            links = dict(wanted)
            if not all(exchange.holds(target) for target in wanted):
                kept = self._used_last()
                if gone := exchange.bring(guest, brought, kept):
                    self._forget(gone)
                    links |= kept
            exchange.link(guest, links, self.agent_path)
            self._linked = True
            return True
        except InUse as error:
            _log.warning("guest %s: %s; files come through SSH", self.machine.name, error)
        except (HarnessError, OSError) as error:
            self._exchange = None
            self.machine.check()
            if self._no_exchange:
                self._no_exchange(error)
            if self._linked and not exchange.usable:  # what came by it before is out of reach
                raise GuestError(f"guest {self.machine.name}: {error}") from error
        return False

    def _used_last(self) -> dict[str, Path]:
        """The large files that stay on the exchange disk when others make room."""
        used: dict[str, Path] = {}
        size = 0
        for target, source in reversed(self._exchanged.items()):
            size += source.stat().st_size
            if size > _KEPT:
                break
            used[target] = source
        return used

    def _forget(self, gone: set[str]) -> None:
        """Have files that are no more on the exchange disk come again when they are wanted."""
        self.files -= gone
        for target in gone:
            self._exchanged.pop(target, None)
            self.programs.pop(str(Path(target).parent), None)

    def _unpack(self, archive: str, folder: str) -> None:
        """Unpack an archive that lies in the guest."""
        status, _, err = self.run(shlex.join(["tar", "-xf", archive, "-C", folder]), what=f"unpacking in {folder}")
        if status:
            raise GuestError(f"unpacking in {folder}: {err.decode(errors='replace').strip() or f'status {status}'}")

    @property
    def _socket(self) -> str:
        return f"{self.agent_path}.socket"

    def _relay(self) -> Line:
        return self.shell.line([self.agent_path, "relay", self._socket])
