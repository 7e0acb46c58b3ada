"""OpenSSH's client, for large uploads: it has a cipher that costs a guest less than any of paramiko's.

Each upload is a connection of its own. Knows nothing of what is sent.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import clock, host
from harness.errors import GuestError

#: What is made of additions and rotations alone, which a processor without instructions for AES does well, emulated or
#: not (RFC 8439, section 1; ssh_config(5), Ciphers). It brings its own MAC.
CIPHER = "chacha20-poly1305@openssh.com"
#: Bytes that are written at a time, and seconds between two questions to the watch.
_PIECE, _TICK = 65536, 0.5
_OPTIONS = {
    "BatchMode": "yes",
    "Ciphers": CIPHER,
    "Compression": "yes",
    "ControlPath": "none",
    "GlobalKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "LogLevel": "ERROR",
}


@dataclass(frozen=True)
class Client:
    """The client and the guest that it connects to, on 127.0.0.1; see `Shell.connect` for the attributes."""

    port: int
    user: str
    key: Path
    host_key: str | None
    watch: Callable[[], None] = lambda: None

    @staticmethod
    def there() -> bool:
        """Whether it is installed."""
        return host.find("ssh") is not None

    def send(self, command: str, data: bytes, what: str) -> float:
        """Run a shell command that reads some data.

        Args:
            what: what an error calls it.

        Returns:
            The seconds it took from the moment when the connection was open.

        Raises:
            GuestError: it failed, or made no progress for clock.QUIET.
        """
        with tempfile.TemporaryDirectory() as folder:
            known, errors = Path(folder) / "known_hosts", Path(folder) / "errors"
            known.write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n" if self.host_key else "")
            strict = "yes" if self.host_key else "no"
            options = {**_OPTIONS, "StrictHostKeyChecking": strict, "UserKnownHostsFile": f'"{known}"'}
            argv = ["ssh", "-F", "none", "-T", "-i", str(self.key), "-p", str(self.port)]
            argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
            with (
                errors.open("wb") as log,
                subprocess.Popen(
                    [*argv, f"{self.user}@127.0.0.1", f"echo; {command}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    process_group=0,  # a ctrl-C is for the harness
                ) as process,
            ):
                try:
                    seconds = self._feed(process, data, what)
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                why = errors.read_text(errors="replace").strip()
                raise GuestError(f"{what}: {why or f'status {process.returncode}'}")
            return seconds

    def _feed(self, process: subprocess.Popen[bytes], data: bytes, what: str) -> float:
        assert process.stdin and process.stdout
        begun: float | None = None
        at, deadline = 0, clock.Deadline()
        os.set_blocking(process.stdin.fileno(), False)
        while True:
            sends = [process.stdin] if begun is not None and not process.stdin.closed else []
            readable, writable, _ = select.select([process.stdout], sends, [], _TICK)
            if readable:
                if not os.read(process.stdout.fileno(), _PIECE):
                    break
                begun = begun or clock.time()  # the line that says that the connection is open
            if writable:
                try:
                    at += os.write(process.stdin.fileno(), data[at : at + _PIECE])
                except BrokenPipeError:  # it has ended, and says why
                    break
                if at == len(data):
                    process.stdin.close()
            self.watch()
            if deadline.passed((at, begun)):
                raise GuestError(f"{what}: no progress for {deadline.quiet:.0f} s, {at} of {len(data)} bytes were sent")
        while process.poll() is None:
            self.watch()
            if deadline.passed(at):
                raise GuestError(f"{what}: ssh does not end")
            select.select([], [], [], 0.01)
        return clock.time() - (begun or 0.0)
