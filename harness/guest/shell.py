"""The way into a guest by SSH: one connection, commands, and files put there with `cat`.

Everything has a deadline, which is put off while bytes move, and whatever goes wrong is a GuestError. While it waits it
calls a watch, which raises a GuestError as soon as waiting has become useless. Needs a POSIX shell, cat, chmod, mkdir
and mv inside.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import shlex
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.compress import ZlibCompressor, ZlibDecompressor

from harness import clock
from harness.errors import GuestError
from harness.guest.line import Connection
from harness.guest.openssh import Client

_log = logging.getLogger(__name__)
#: Where paramiko logs a trace of each connection that fails, besides raising what is then told in a sentence. Nobody is
#: to see it, not even pytest, which shows what reaches the root of all logs.
_SILENT = logging.getLogger(f"{__name__}.paramiko")
_SILENT.setLevel(logging.CRITICAL + 1)

_PIECE = 32768
#: Bytes from which on a file is large: a connection of its own takes as long as some 100 kB.
LARGE = 2 << 20
#: Seconds that a command's last data may come after its exit status, where nothing says that it was the last.
LAST = 1.0
#: Seconds between two questions to the watch.
_TICK = 0.5

#: Raises GuestError when the guest is past help.
Watch = Callable[[], None]


class _Compressor(ZlibCompressor):
    """Compresses fast rather than well: paramiko's own level 9 takes longer over a libgo than the line does."""

    def __init__(self) -> None:
        self.z = zlib.compressobj(1)


class _Transport(paramiko.Transport):
    _compression_info = {  # noqa: RUF012 - as paramiko has it
        **paramiko.Transport._compression_info,  # type: ignore[attr-defined]
        "zlib@openssh.com": (_Compressor, ZlibDecompressor),
        "zlib": (_Compressor, ZlibDecompressor),
    }


class _Link(socket.socket):
    """A connection that counts the bytes that came: a key exchange shows no other progress."""

    came = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As a socket's."""
        data = super().recv(bufsize, flags)
        self.came += len(data)
        return data


class WrongHostKey(GuestError):
    """What answers is not the guest that it should be."""


@dataclass(frozen=True)
class Pair:
    """A cipher and a MAC, by the names that SSH has for them."""

    cipher: str
    mac: str

    def __str__(self) -> str:
        return f"{self.cipher} with {self.mac}" if "gcm" not in self.cipher else self.cipher


class Shell:
    """An open SSH connection to a guest. Raises GuestError from every method when the guest does not play along.

    Attributes:
        client: what large files are sent by, if not by this connection.
    """

    def __init__(self, transport: paramiko.Transport, watch: Watch) -> None:
        self._transport, self._watch = transport, watch
        self.client: Client | None = None

    @classmethod
    def connect(
        cls,
        port: int,
        user: str,
        key: Path,
        host_key: str | None,
        quiet: float | None = None,
        watch: Watch = lambda: None,
        pair: Pair | None = None,
    ) -> Shell:
        """Connect to a guest's SSH server.

        Args:
            port: of 127.0.0.1, which leads to the server.
            user: to log in as.
            key: the private key's file.
            host_key: the key that the guest must show, "ssh-ed25519 AAAA...", or None where it is not known.
            quiet: seconds in which nothing comes before it is given up; None means clock.QUIET.
            watch: called now and then, here and later on; what it raises ends the wait.
            pair: the cipher and the MAC; None means the first of paramiko's own order that the guest has.

        Raises:
            WrongHostKey: the guest shows another host key.
            GuestError: the server does not answer, or refuses the user.
        """
        deadline = clock.Deadline(quiet)
        with _as_guest_error("SSH"):
            link = _Link(fileno=socket.create_connection(("127.0.0.1", port), timeout=deadline.quiet).detach())
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # SSH's small packets would wait for each other
            # paramiko writes to the connection for as long as nobody takes it. The kernel gives up (tcp(7)) when
            # nothing was taken for that long.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * clock.QUIET))
            transport = _Transport(link)
            transport.set_log_channel(_SILENT.name)
            try:
                transport.use_compression(True)  # a libgo is 30 MB, and the line is slow
                transport.banner_timeout = transport.auth_timeout = deadline.quiet
                # Else a key exchange ends after 15 s, however slow the guest; here the deadline decides.
                transport.packetizer.start_handshake = lambda timeout: None  # type: ignore[method-assign]
                if pair:
                    options = transport.get_security_options()
                    options.ciphers, options.digests = (pair.cipher,), (pair.mac,)
                if host_key:
                    kind, blob = host_key.split()[:2]
                    transport.get_security_options().key_types = (kind,)
                done = threading.Event()
                transport.start_client(event=done)
                _wait(done, transport, link, deadline, watch)
                if host_key and transport.get_remote_server_key().asbytes() != base64.b64decode(blob):
                    raise WrongHostKey("SSH: the guest shows another host key than the image's")
                done = threading.Event()
                transport.auth_publickey(user, paramiko.PKey.from_path(key), event=done)
                _wait(done, transport, link, deadline, watch)
                if not transport.is_authenticated():
                    raise GuestError(f"SSH: {user} may not log in with {key}")
            except BaseException:
                transport.close()
                raise
            return cls(transport, watch)

    def run(
        self,
        command: str,
        quiet: float | None = None,
        stdin: bytes = b"",
        what: str = "",
        limit: float | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command.

        Args:
            command: for the guest's shell.
            quiet: seconds in which it neither takes nor prints a byte before it is given up; None means clock.QUIET.
            stdin: what the command reads.
            limit: seconds for all of it, for a command that may print for ever.
            what: what an error calls it, if not by its own words.

        Returns:
            Exit status, standard output, standard error.
        """
        what = what or f"`{command}`"
        begun = clock.time()
        try:
            status, out, err = self._converse(command, clock.Deadline(quiet, limit), stdin, what)
        except GuestError as error:
            _log.info("%s: failed after %.2f s: %s", what, clock.time() - begun, error)
            raise
        _log.debug("%s: status %d after %.2f s", what, status, clock.time() - begun)
        return status, out, err

    def _converse(self, command: str, deadline: clock.Deadline, stdin: bytes, what: str) -> tuple[int, bytes, bytes]:
        watched = clock.time()
        with _as_guest_error(what):
            channel = self._begin(command, deadline.quiet)
            try:
                channel.settimeout(0.05)
                out, err, at, stdin_open = bytearray(), bytearray(), 0, True
                exited: float | None = None
                while True:
                    # Asked first, for paramiko's thread may at any moment get the last data, the status and the end.
                    ended = channel.closed or channel.eof_received
                    # Both streams are emptied in turn: left full, they would block each other (paramiko issue 1778).
                    moved = False
                    while channel.recv_ready() and (data := channel.recv(_PIECE)):
                        out += data
                        moved = True
                    while channel.recv_stderr_ready() and (data := channel.recv_stderr(_PIECE)):
                        err += data
                        moved = True
                    if at < len(stdin) and channel.send_ready():
                        try:
                            at += channel.send(stdin[at : at + _PIECE])
                            moved = True
                        except TimeoutError:
                            _log.debug("guest: its window was full again; %d of %d bytes are sent", at, len(stdin))
                    elif stdin_open and at == len(stdin):
                        channel.shutdown_write()
                        stdin_open = False
                    if not moved:
                        if exited is None and channel.status_event.is_set():
                            exited = clock.time()
                        # OpenSSH may tell the status before the last data (its session.c, session_exit_message); a
                        # process in the background may keep the output open for ever.
                        if exited is not None and (ended or clock.time() > exited + LAST):
                            if (status := channel.recv_exit_status()) < 0:  # as paramiko marks that none came
                                raise GuestError(f"{what}: it was killed, or the connection was closed")
                            return status, bytes(out), bytes(err)
                        if deadline.passed((at, channel.out_window_size, len(out), len(err))):
                            sent = f", {at} of {len(stdin)} bytes were sent" if stdin else ""
                            raise GuestError(f"{what}: no progress for {deadline.quiet:.0f} s{sent}")
                        if clock.time() > watched + _TICK:
                            self._watch()
                            watched = clock.time()
                        time.sleep(0.005)
            finally:
                channel.close()

    def put(self, data: bytes, path: str) -> None:
        """Write an executable file in the guest. A file that is there under its name is whole. Raises
        GuestError."""
        quoted, folder = shlex.quote(path), shlex.quote(str(Path(path).parent))
        command = f"mkdir -p {folder} && cat > {quoted}.new && chmod 755 {quoted}.new && mv {quoted}.new {quoted}"
        if self.client and len(data) >= LARGE:
            try:
                self.client.send(command, data, f"upload of {path}")
                return
            except GuestError as error:
                self._watch()  # raises if it is the guest that has failed
                _log.warning("%s; it is sent again without OpenSSH's client", error)
                self.client = None
        status, _, err = self.run(command, stdin=data, what=f"upload of {path}")
        if status:
            raise GuestError(f"upload of {path}: {err.decode(errors='replace').strip() or f'status {status}'}")

    def unpack(self, archive: bytes, folder: str) -> None:
        """Unpack a tar archive in a folder of the guest, which needs tar for it. Raises GuestError."""
        status, _, err = self.run(f"tar -xf - -C {shlex.quote(folder)}", stdin=archive, what=f"unpacking in {folder}")
        if status:
            raise GuestError(f"unpacking in {folder}: {err.decode(errors='replace').strip() or f'status {status}'}")

    def line(self, argv: Sequence[str]) -> Connection:
        """Start a program and have its standard input and output as a line."""
        with _as_guest_error(argv[0]):
            return Connection(self._begin(f"exec {shlex.join(argv)}", clock.QUIET))

    def _begin(self, command: str, timeout: float) -> paramiko.Channel:
        channel = self._transport.open_session(timeout=timeout)
        # paramiko waits for ever for the word that the command is accepted; it stops when the channel is closed.
        late = threading.Event()

        def give_up() -> None:
            late.set()
            channel.close()

        timer = threading.Timer(timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            channel.exec_command(command)
        except paramiko.SSHException as error:
            if late.is_set():
                raise TimeoutError(f"not begun within {timeout:.0f} s") from error
            raise
        finally:
            timer.cancel()
        return channel

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _wait(
    done: threading.Event, transport: paramiko.Transport, link: _Link, deadline: clock.Deadline, watch: Watch
) -> None:
    """Wait for a step that paramiko does in its own thread."""
    while not done.wait(_TICK):
        watch()
        if deadline.passed(link.came):
            raise GuestError(f"SSH: no answer for {deadline.quiet:.0f} s")
    if error := transport.get_exception():
        raise error
    if not transport.is_active():
        raise GuestError("SSH: the connection was closed")


@contextlib.contextmanager
def _as_guest_error(what: str) -> Iterator[None]:
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise GuestError(f"{what}: {str(error) or type(error).__name__}") from error
