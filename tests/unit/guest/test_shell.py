"""The way into a guest, against an SSH server of paramiko's in this process that answers in an order of its own."""

import socket
import threading
import time

import paramiko
import pytest

from harness.errors import GuestError
from harness.guest.shell import Shell


class Server(paramiko.ServerInterface):
    """Lets anybody in, and answers every command in one way."""

    def __init__(self, answer):
        self.answer = answer

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        threading.Timer(0.3, self.answer, args=(channel,)).start()  # when the client knows that it is accepted
        return True


@pytest.fixture
def shell_of(tmp_path):
    """A shell on a server that answers with a function, which is given the channel."""
    ends = []
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(tmp_path / "key")

    def connect(answer):
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            transport = paramiko.Transport(listener.accept()[0], default_window_size=1 << 16)
            ends.append(transport)
            transport.add_server_key(key)
            transport.start_server(server=Server(answer))

        threading.Thread(target=serve, daemon=True).start()
        shell = Shell.connect(listener.getsockname()[1], "root", tmp_path / "key", None, 30.0)
        ends.extend([shell, listener])
        return shell

    yield connect
    for end in reversed(ends):
        end.close()


def test_all_of_an_answer_that_comes_at_once_is_taken(shell_of, monkeypatch):
    def answer(channel):
        channel.sendall(b"out")
        channel.sendall_stderr(b"err")
        channel.send_exit_status(3)
        channel.close()

    recv_stderr_ready = paramiko.Channel.recv_stderr_ready

    def just_after(channel):
        """As asked, but all that the server sends comes between the answer and what the caller asks next."""
        ready = recv_stderr_ready(channel)
        while not channel.closed:
            time.sleep(0.001)
        return ready

    monkeypatch.setattr(paramiko.Channel, "recv_stderr_ready", just_after)
    shell = shell_of(answer)
    for _ in range(5):
        assert shell.run("command") == (3, b"out", b"err")


def test_what_comes_after_the_status_is_taken(shell_of, monkeypatch):
    monkeypatch.setattr("harness.guest.shell.LAST", 30.0)

    def answer(channel):
        channel.send_exit_status(0)
        time.sleep(0.2)
        channel.sendall(b"last")
        channel.shutdown_write()

    assert shell_of(answer).run("command") == (0, b"last", b"")


def test_a_process_in_the_background_is_not_waited_for(shell_of):
    def answer(channel):
        channel.sendall(b"out")
        channel.send_exit_status(0)

    assert shell_of(answer).run("command", 20.0) == (0, b"out", b"")


def test_a_connection_that_closes_without_a_status_is_an_error(shell_of):
    with pytest.raises(GuestError, match="`command`: it was killed, or the connection was closed"):
        shell_of(lambda channel: channel.close()).run("command")


def test_a_command_that_nobody_accepts_ends(shell_of):
    shell = shell_of(lambda channel: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "check_channel_exec_request", lambda *any: threading.Event().wait(10.0))
        with pytest.raises(GuestError, match=r"^`command`: not begun within 3 s$"):
            shell.run("command", 3.0)


def test_an_upload_may_take_longer_than_nothing_may_move(shell_of):
    def answer(channel):
        size = 0
        while data := channel.recv(16384):
            size += len(data)
            time.sleep(0.05)
        channel.sendall(str(size).encode())
        channel.send_exit_status(0)
        channel.close()

    data = bytes(2 << 20)
    assert shell_of(answer).run("command", 2.0, data) == (0, str(len(data)).encode(), b"")


def test_an_upload_that_nobody_takes_ends(shell_of):
    with pytest.raises(GuestError, match=r"^`command`: no progress for 2 s, \d+ of 2097152 bytes were sent$"):
        shell_of(lambda channel: None).run("command", 2.0, bytes(2 << 20))
