"""Fresh guests: restored in a second from where one was saved, or booted when that does not work.

The first guest of a description is booted, given the files that all trials need, and saved; every other one, in this
run and in later ones, goes on from there. Files come on a data disk where the guest can mount one, else through SSH. A
word that only the saved guest's memory holds proves that a guest was really restored. Knows nothing of what the files
are.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from harness import conf
from harness.cache import Cache, digest
from harness.errors import GuestError, HarnessError
from harness.guest import boot, ciphers, datadisk
from harness.guest.bootfiles import BootFiles
from harness.guest.fresh import Guest
from harness.guest.machine import Machine, Saved
from harness.guest.saved_memory import Memory
from harness.guest.shell import LARGE, Shell
from harness.log import ignored

T = TypeVar("T")

#: How often a restore may fail in a row before guests are booted instead, for the rest of the run.
RESTORES = 3
#: Saved machines that are kept of a guest; each takes about as much disk as the guest uses memory.
KEPT = 4
#: The same for all guests together, of which many may be descriptions that nobody boots any more.
KEPT_IN_ALL = 24
#: Fresh guests that get what they lack by the exchange disk, before one is saved with all of it.
_LIKE_THAT = 2
_KIND = "machines"
_log = logging.getLogger(__name__)
#: What is told, with their number, when a guest boots after boots that failed.
FAILED_BOOTS = "boots that failed before one worked: "
#: A process that holds the word in its memory, writes it down when it is asked to, and ends. The word comes by standard
#: input, so that it stands in no file and no list of processes. It is asked by a file that appears: what runs under an
#: SSH server may have any signal ignored, and a FIFO is a server of its own on the Hurd, which a small one may lack. It
#: looks for the file only between the saving and the first question, so no trial is disturbed. Not every sleep knows
#: parts of a second.
KEEPER = """
folder={folder}
mkdir -p "$folder" || exit
read -r word
rm -f "$folder/prove" "$folder/proof"
(
until [ -e "$folder/prove" ]; do sleep 0.2 || sleep 1; done
echo "$word" >"$folder/proof.new" && mv "$folder/proof.new" "$folder/proof"
) </dev/null >/dev/null 2>&1 &
echo $!
sync
"""
#: `kill -0` sends no signal, but tells whether the process is there.
PROOF = """
folder={folder}
{{ {clock}
}} >/dev/null
: >"$folder/prove"
until [ -e "$folder/proof" ]; do kill -0 {keeper} || break; sleep 0.1 2>/dev/null || sleep 1; done
cat "$folder/proof"
rm -f "$folder/prove" "$folder/proof"
"""


class Pool:
    """Fresh guests of one description. May be used from several threads.

    Args:
        name: the guest's name.
        guest: its description.
        files: what it boots from.
        contents: the files that a saved guest holds: the path in the guest, and the file of this machine.
        cache: where saved machines are kept.
        trouble: told of each restore that failed, each boot that stood still, and how many boots failed before one
            worked, in a sentence each.
        screens: the folder for screenshots of guests in trouble.
        agent: the path in the guest of the agent, if it is among the contents: it is what reads a data disk.
        failed_boots: how many boots failed in another pool of this guest.

    Attributes:
        failed_boots: how many boots failed since the last one that worked.
    """

    def __init__(
        self,
        name: str,
        guest: conf.Guest,
        files: BootFiles,
        contents: Mapping[str, Path],
        cache: Cache,
        trouble: Callable[[str], None],
        screens: Path | None = None,
        agent: str = "",
        failed_boots: int = 0,
    ) -> None:
        self._agent, self._by_disk = agent, guest.data_interface is not None
        self._by_exchange, self._by_channel = guest.exchange_interface is not None, True
        self._screens = screens
        self._name, self._guest, self._contents = name, guest, dict(contents)
        self._cache, self._trouble = cache, trouble
        self._fresh_since_held = _LIKE_THAT  # so many guests were restored since other contents are to be held
        self._ways = files.ways()  # the one to try next comes first
        self._failures = 0
        self.failed_boots = failed_boots

    def fresh(self, folder: Path, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> Guest:
        """A fresh guest. One whose boot stands still is booted once more: the other way, if there are two.

        Args:
            folder: an empty folder for its machine.
            say: told what is going on, in a word or two.
            stopped: asked now and then whether to give up.

        Raises:
            ToolMissing, ImageError, QemuRefusal: it cannot be started on this machine.
            GuestError: it does not boot.
        """
        return self._with_a_second_boot(lambda: self._fresh(self._machine(folder, stopped), say))

    def booted(self, folder: Path, say: Callable[[str], None]) -> Guest:
        """A guest that was booted, though one may be saved; the arguments and errors are those of `fresh`."""
        self._failures = RESTORES
        return self.fresh(folder, say)

    def _with_a_second_boot(self, boots: Callable[[], T]) -> T:
        """What boots a guest, made again if that stands still."""
        try:
            return boots()
        except boot.StoodStill as error:
            how = ""
            if len(self._ways) > 1:
                how = (
                    ", by the boot loader on its disk"
                    if self._ways[0].kernel is None
                    else ", with QEMU loading its kernel"
                )
            self._trouble(f"{error.whole()}\nIt is booted once more{how}.")
            return boots()

    def _fresh(self, machine: Machine, say: Callable[[str], None]) -> Guest:
        try:
            while self._failures < RESTORES:
                saved = None
                try:
                    saved = self.saved_machine(machine, say)
                    return self._restore(machine, saved, say)
                except _CannotSave as error:
                    machine.stop()
                    self._failures = RESTORES
                    self._trouble(f"{error}; guests are booted instead")
                except _Removed as error:
                    _log.info("%s; another is chosen", error)
                    machine.stop()
                except GuestError as error:
                    machine.stop()
                    if machine.stopped() or isinstance(error, _DoesNotBoot | boot.StoodStill):
                        raise
                    self._failures += 1
                    then = "once more"
                    if self._failures >= RESTORES:
                        then = "guests are booted from now on"
                        if saved:  # the next run saves another
                            self._remove(saved)
                    text = f"restoring failed: {error}; {then}"
                    details = error.details or [machine.boot_command()]
                    self._trouble(GuestError(text, error.console, details).whole())
            return self.boot(machine, say)
        except BaseException:
            machine.stop()
            raise

    def boot(self, machine: Machine, say: Callable[[str], None]) -> Guest:
        """Boot a machine of this guest, with all that it is to hold. Raises as `fresh` does."""
        contents = self._contents
        guest = self._boot(machine, contents, say)
        self._fill(guest, contents, say)
        return guest

    def wake(self, guest: Guest) -> None:
        """Have a fresh guest go on that was paused. Raises GuestError."""
        guest.machine.resume()
        guest.run(self._guest.set_clock.format(seconds=int(time.time())), what="setting the clock")

    def hold(self, contents: Mapping[str, Path]) -> None:
        """Have fresh guests hold other files from now on; the arguments are those of the pool."""
        if dict(contents) != self._contents:
            self._contents, self._fresh_since_held = dict(contents), 0

    def restores(self, target: str) -> bool:
        """Whether fresh guests are restored, and hold a file."""
        return self._failures < RESTORES and target in self._contents and self._fresh_since_held >= _LIKE_THAT

    def prepare(self, folder: Path, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Boot and save a guest, if none of this description is saved yet, and end it. Raises as `fresh` does."""

        def save() -> None:
            machine = self._machine(folder, stopped)
            try:
                if not self._kept(digest(machine.identity)):
                    self.saved_machine(machine, say)
            finally:
                machine.stop()

        self._with_a_second_boot(save)

    def _machine(self, folder: Path, stopped: Callable[[], bool]) -> Machine:
        """A machine, to be booted the way that one was saved after, else the one to try next."""
        machines = [Machine(self._name, self._guest, way, folder, self._screens, stopped) for way in self._ways]
        if len(machines) > 1:
            machines.sort(key=lambda machine: not self._kept(digest(machine.identity)))
        return machines[0]

    def _restore(
        self, machine: Machine, folder: Path, say: Callable[[str], None], more: Mapping[str, Path] | None = None
    ) -> Guest:
        """Go on where a machine was saved.

        Args:
            more: what it is to be given before it is saved again, if it is.
        """
        say("restoring")
        self._cache.find(_KIND, folder.name, self._name)  # in use from now on
        try:
            try:
                stored = json.loads((folder / "saved.json").read_text())
                os.utime(folder)  # the least recently used goes first
            except OSError as error:
                raise GuestError(f"guest {self._name}: {folder}: {error.strerror}") from error
            data = self._data(machine, more) if more and not stored["contents"] else None
            kept = Memory.model_validate(stored["memory"])
            machine.start(Saved.at(folder, kept), copy_disk=more is not None, data=data)
        except GuestError as error:
            if not folder.exists():  # another run has removed it just now
                raise _Removed(f"guest {self._name}: {folder} was removed") from error
            raise
        guest = self._guest_of(machine, files=set(stored["contents"]))
        clock = self._guest.set_clock.format(seconds=int(time.time()))
        if stored["keeper"] is None:
            try:
                guest.go_on()
            except GuestError as error:
                machine.check()
                self._go_without_channel(error)
                self._remove(folder)  # another one is saved, to be reached through SSH
                raise
            assert guest.agent is not None
            word, why = guest.agent.recall(), "its agent holds another word"
            guest.run(clock, what="setting the clock")
        else:
            command = PROOF.format(folder=shlex.quote(self._guest.folder), clock=clock, keeper=stored["keeper"])
            _, out, err = guest.shell.run(command, what="the proof of a restore")
            word, why = out.decode(errors="replace").strip(), err.decode(errors="replace").strip()
        if word != stored["word"]:
            guest.close()
            raise GuestError(f"guest {self._name}: it was not restored: {why}")
        self._failures = 0
        return guest

    def _guest_of(self, machine: Machine, shell: Shell | None = None, files: set[str] | None = None) -> Guest:
        """A guest of a machine that runs."""

        def connect() -> Shell:
            choice = ciphers.known(machine, self._cache)
            shell = boot.connect(machine, pair=choice.pair if choice else None)
            if choice and choice.client:
                shell.client = boot.client(machine)
            return shell

        no_exchange = self._go_without_exchange if self._by_exchange and self._agent else None
        return Guest(machine, connect, shell, files, self._agent, no_exchange)

    def _boot(self, machine: Machine, contents: Mapping[str, Path], say: Callable[[str], None]) -> Guest:
        say("booting")
        data = self._data(machine, contents)
        try:
            machine.start(data=data)
            guest = self._guest_of(machine, boot.wait(machine))
        except boot.StoodStill:
            self.failed_boots += 1
            self._ways = sorted(self._ways, key=lambda way: way == machine.files)
            raise
        except GuestError as error:
            self.failed_boots += 1
            raise _DoesNotBoot.like(error) from error
        if self.failed_boots:
            self._trouble(f"{FAILED_BOOTS}{self.failed_boots}")
            self.failed_boots = 0
        return guest

    def _comes_by_disk(self, contents: Mapping[str, Path]) -> bool:
        return self._by_disk and self._agent in contents

    def _data(self, machine: Machine, contents: Mapping[str, Path]) -> Path | None:
        """A file system with a machine's contents, in its folder; None if they come through SSH."""
        if not self._comes_by_disk(contents):
            return None
        target = machine.folder / "data.img"
        try:
            machine.folder.mkdir(parents=True, exist_ok=True)
            datadisk.make(contents, target, self._guest.os.creator)
        except (HarnessError, OSError) as error:
            self._go_without_disk(error)
            return None
        return target

    def _go_without_disk(self, error: Exception) -> None:
        """Have files come through SSH from now on, and that be known once."""
        _log.info("guest %s: its files come through SSH: %s", self._name, error, exc_info=True)
        if self._by_disk:
            self._by_disk = False
            self._trouble(f"{error}; files come through SSH from now on, which takes longer")

    def _go_without_channel(self, error: GuestError) -> None:
        """Have no agent serve from now on, and that be known once: it did not answer."""
        if self._by_channel:
            self._by_channel = False
            self._trouble(f"{error}; guests are reached through SSH from now on, which takes longer")

    def _go_without_exchange(self, error: Exception) -> None:
        """Have no guest try its exchange disk from now on, and that be known once."""
        _log.info("guest %s: its exchange disk is of no use: %s", self._name, error, exc_info=True)
        if self._by_exchange:
            self._by_exchange = False
            self._trouble(f"{error}; files come through SSH from now on, which takes longer")

    def _fill(self, guest: Guest, contents: Mapping[str, Path], say: Callable[[str], None]) -> None:
        if guest.machine.data and not guest.files:
            say(f"reading its data disk, {sum(source.stat().st_size for source in contents.values()) / 1e6:.1f} MB")
            folder = f"{self._guest.folder}/data"
            try:
                datadisk.bring(guest.shell, self._guest.mounts(shlex.quote(folder)), folder, contents, self._agent)
                guest.files |= set(contents)
            except GuestError as error:
                self._go_without_disk(error)
                guest.machine.check()
        lacking = {target: source for target, source in contents.items() if target not in guest.files}
        if any(source.stat().st_size >= LARGE for source in lacking.values()):
            self._choose_cipher(guest, say)
        for target, source in lacking.items():
            say(f"receiving {Path(target).name}, {source.stat().st_size / 1e6:.1f} MB")
            guest.shell.put(source.read_bytes(), target)  # into its own disk: it may be saved
            guest.files.add(target)
        if self._agent in guest.files and self._by_channel and not guest.serves:
            try:
                guest.serve()
            except GuestError as error:
                guest.machine.check()
                self._go_without_channel(error)

    def _choose_cipher(self, guest: Guest, say: Callable[[str], None]) -> None:
        """Have large files sent the cheapest way; the first guest of an image tells which that is."""
        try:
            if ciphers.choose(guest.machine, self._cache, say).client:
                guest.shell.client = boot.client(guest.machine)
        except GuestError as error:
            guest.machine.check()
            _log.warning("guest %s: its ciphers could not be measured: %s", self._name, error)

    def saved_machine(self, machine: Machine, say: Callable[[str], None], booted: Guest | None = None) -> Path:
        """The folder of a saved machine that holds all contents; made first if there is none, of the booted guest if
        one is given. Raises GuestError if it cannot be saved, here or by another thread."""
        base = digest(machine.identity)
        all_contents = self._contents
        wanted = set(all_contents)
        kept = self._kept(base)
        if not booted and self._by_exchange and self._fresh_since_held < _LIKE_THAT:
            self._fresh_since_held += 1
            if some := [(len(contents & wanted), folder) for folder, contents in kept if self._agent in contents]:
                return max(some)[1]
        if enough := [(len(contents), folder) for folder, contents in kept if wanted <= contents]:
            if booted:
                booted.close()
                machine.stop()
            return min(enough)[1]  # the less it holds, the sooner it is restored
        # Else the one that lacks least is given the rest; by disk, one that has not mounted its disk yet gets all.
        may_be = [(len(contents), folder) for folder, contents in kept if contents < wanted]
        if self._comes_by_disk(all_contents):
            may_be = [(number, folder) for number, folder in may_be if not number]
        best = max(may_be, default=(0, None))[1]
        key = digest([base, sorted(wanted)])

        def make(staging: Path) -> None:
            if self._failures >= RESTORES:
                raise GuestError("saving failed elsewhere")
            if booted:
                guest = booted
            elif best:
                guest = self._restore(machine, best, say, all_contents)
            else:
                guest = self._boot(machine, all_contents, say)
            if digest(machine.identity) != base:
                raise _OtherAccelerator(guest)
            self._fill(guest, all_contents, say)
            say("saving")
            word = secrets.token_hex(16)
            try:
                keeper = self._leave_word(guest, word)
                guest.close()
                kept = machine.save(staging).kept
            except GuestError as error:
                raise _CannotSave(str(error)) from error
            sizes = {path.name: path.stat().st_size for path in staging.iterdir()}
            record = {"base": base, "word": word, "keeper": keeper, "contents": sorted(guest.files), "sizes": sizes}
            (staging / "saved.json").write_text(json.dumps({**record, "memory": kept.model_dump(mode="json")}))

        try:
            about = f"{self._name}, with {len(wanted)} files"
            folder = self._cache.make(_KIND, key, make, self._guest.memory, waiting=machine.check_wanted, about=about)
        except _OtherAccelerator as error:
            _log.info("guest %s: KVM gave up on it; it is saved as an emulated machine", self._name)
            return self.saved_machine(machine, say, error.guest)
        self._prune(base, folder)
        return folder

    def _leave_word(self, guest: Guest, word: str) -> int | None:
        """Have a guest hold a word in its memory.

        Returns:
            The process that holds it; None if the agent does, which serves.

        Raises:
            GuestError: nothing holds it.
        """
        if guest.agent and guest.serves:
            guest.agent.remember(word)
            guest.run("sync", what="sync")
            return None
        keeper, stdin = KEEPER.format(folder=shlex.quote(self._guest.folder)), f"{word}\n".encode()
        status, out, err = guest.shell.run(keeper, stdin=stdin, what="what will prove a restore")
        if not out.strip().isdigit():
            why = err.decode(errors="replace").strip() or f"status {status}"
            raise GuestError(f"guest {self._name}: the process that proves a restore cannot be started: {why}")
        return int(out)

    def _prune(self, base: str, newest: Path) -> None:
        """Remove the saved machines that were not used for longest, if there are too many. The one just made stays."""
        for old, _ in [*self._kept(base)[KEPT:], *self._kept()[KEPT_IN_ALL:]]:
            if old != newest:
                self._remove(old)

    def _remove(self, folder: Path) -> None:
        _log.info("guest %s: removing %s", self._name, folder)
        with ignored(_log, f"guest {self._name}: removing {folder}", BlockingIOError):  # it is being made again
            self._cache.discard(_KIND, folder.name, wait=False)

    def _kept(self, base: str | None = None) -> list[tuple[Path, set[str]]]:
        """The saved machines, of a description or of all, with the paths of what they hold, latest used first."""
        machines = []
        for file in (self._cache.root / _KIND).glob("[!.]*/saved.json"):
            try:
                data = json.loads(file.read_text())
                used = file.parent.stat().st_mtime
                whole = all((file.parent / name).stat().st_size == size for name, size in data["sizes"].items())
            except OSError as error:  # removed meanwhile
                _log.info("guest %s: a saved machine is left out: %s", self._name, error)
                continue
            except (ValueError, KeyError) as error:
                _log.warning("guest %s: %s: not a saved machine's record: %r", self._name, file, error)
                whole = False
            if not whole:
                self._remove(file.parent)  # cut off by a full disk, say: it is made again
            elif base in (None, data["base"]):
                machines.append((used, file.parent, set(data["contents"])))
        return [(folder, contents) for _, folder, contents in sorted(machines, key=lambda machine: -machine[0])]


class _DoesNotBoot(GuestError):
    """A guest that does not come up: restoring it another time is no use."""


class _Removed(GuestError):
    """A saved machine went between the choice of it and its use: the choice is made again."""


class _OtherAccelerator(Exception):
    """KVM gave up on a guest, which was then booted by emulation: it is another machine than the one to be saved."""

    def __init__(self, guest: Guest) -> None:
        super().__init__()
        self.guest = guest


class _CannotSave(GuestError):
    """QEMU, or the guest, does not let itself be saved."""
