"""The cheapest encryption for a guest: measured in it once for each image, and kept in the cache.

Without KVM a guest spends most of an upload on deciphering, and which cipher costs it least depends on its processor
and its SSH server. Large uploads go through OpenSSH's client where that is much faster, all else through paramiko.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import paramiko

from harness import clock, host
from harness.cache import Cache, digest
from harness.errors import GuestError
from harness.guest import boot
from harness.guest.machine import Machine
from harness.guest.openssh import CIPHER, Client
from harness.guest.shell import Pair

_log = logging.getLogger(__name__)

#: paramiko's pairs to choose from; a cipher of the GCM kind uses no MAC.
PAIRS = (
    Pair("aes128-ctr", "hmac-sha2-256"),
    Pair("aes128-ctr", "hmac-sha1"),
    Pair("aes128-gcm@openssh.com", "hmac-sha2-256"),
)
#: Bytes that are sent to measure, which cannot be compressed; and how often, of which the fastest counts.
SIZE, ROUNDS = 1 << 20, 2
#: How many times as fast OpenSSH's client must be to be worth connections of its own.
WORTH = 1.25
_KIND = "ciphers"


@dataclass(frozen=True)
class Choice:
    """What was measured.

    Attributes:
        pair: paramiko's fastest.
        client: whether OpenSSH's client is to send large files.
        rates: bytes a second, by what was measured.
    """

    pair: Pair
    client: bool
    rates: dict[str, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e6:.2f} MB/s" for name, rate in self.rates.items())
        return f"{self.pair}{f', large files by ssh with {CIPHER}' if self.client else ''} ({rates})"


def known(machine: Machine, cache: Cache) -> Choice | None:
    """What was measured for a machine's image, if it was."""
    folder = cache.find(_KIND, _key(machine))
    if folder is None:
        return None
    try:
        stored = json.loads((folder / "choice.json").read_text())
        return Choice(Pair(**stored["pair"]), stored["client"], stored["rates"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read, and is measured again: %s", folder, error)
        cache.discard(_KIND, folder.name)
        return None


def choose(machine: Machine, cache: Cache, say: Callable[[str], None]) -> Choice:
    """What is cheapest for a machine's image; measured in the machine, which runs, if that is not known.

    Raises:
        GuestError: it takes no connection.
        StoreError: the cache cannot be written.
    """
    if before := known(machine, cache):
        return before
    say("measuring ciphers")
    choice = _measure(machine)
    say(f"SSH by {choice}")

    def make(folder: Path) -> None:
        (folder / "choice.json").write_text(json.dumps(asdict(choice)))

    cache.make(_KIND, _key(machine), make, about=f"how fast the ciphers of {machine.name} are")
    return choice


def _key(machine: Machine) -> str:
    """The image's files, and what else the answer depends on."""
    ssh = host.find("ssh")
    client = [Path(ssh).stat().st_size, Path(ssh).stat().st_mtime_ns] if ssh else None
    return digest([machine.identity["files"], paramiko.__version__, client, SIZE])


def _measure(machine: Machine) -> Choice:
    """Raises GuestError if no pair works; one that the guest's server lacks is left out."""
    data = os.urandom(SIZE)
    rates: dict[str, float] = {}
    failure: GuestError | None = None
    for pair in PAIRS:
        try:
            shell = boot.connect(machine, pair=pair)
        except GuestError as error:
            _log.info("guest %s: no connection by %s: %s", machine.name, pair, error)
            failure = error
            continue
        for _ in range(ROUNDS):
            begun = clock.time()
            shell.run("cat >/dev/null", stdin=data, what=f"measuring {pair}")
            rates[str(pair)] = max(rates.get(str(pair), 0.0), SIZE / (clock.time() - begun))
        shell.close()
    if not rates:
        raise failure or GuestError(f"guest {machine.name}: no connection")
    best = max(PAIRS, key=lambda pair: rates.get(str(pair), 0.0))
    if not Client.there():
        return Choice(best, False, rates)
    try:
        client = boot.client(machine)
        seconds = min(client.send("cat >/dev/null", data, f"measuring {CIPHER}") for _ in range(ROUNDS))
    except GuestError as error:
        _log.info("guest %s: no upload by %s: %s", machine.name, CIPHER, error)
        return Choice(best, False, rates)
    fastest, rates[CIPHER] = rates[str(best)], SIZE / seconds
    return Choice(best, rates[CIPHER] > WORTH * fastest, rates)
