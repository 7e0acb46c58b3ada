"""Downloads: from a server on this machine that breaks off, lies, or serves something else."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity

from harness.errors import DownloadError
from harness.images import download

DATA = os.urandom(3_000_000)
SUM = hashlib.sha512(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA as told.

    Attributes:
        cuts: after how many bytes each of the next answers ends; then answers are whole.
        ranges: whether Range is understood.
        statuses: what the next answers say instead of serving.
        extra: bytes that Content-Length says too much.
        shift: what Content-Range says too much.
        asked: the Range of each request, "" if there was none.
        stall: whether an answer that is cut goes on without a byte instead of ending.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.cuts, self.ranges, self.statuses = DATA, list[int](), True, list[int]()
        self.extra = self.shift = 0
        self.asked: list[str] = []
        self.stall, self.stalled, self.ended = False, threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, *_: object) -> None:
        """A client that is gone, as some here are, is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, range_header = self.server, self.headers.get("Range", "")
        server.asked.append(range_header)
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(range_header.removeprefix("bytes=").rstrip("-")) if range_header and server.ranges else 0
        size = len(server.data)
        if range_header and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if range_header and server.ranges else 200)
        if range_header and server.ranges:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start + server.extra))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else size
        self.wfile.write(server.data[start : start + cut])
        self.wfile.flush()
        if server.stall:
            server.stalled.set()
            server.ended.wait()
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries."""
    monkeypatch.setattr(download, "WAIT", tenacity.wait_none())


def get(server: Server, target: Path, sha512: str = SUM) -> list[str]:
    lines: list[str] = []
    download.fetch(server.url, target, sha512, lines.append)
    assert target.read_bytes() == server.data
    return lines


def test_a_download_says_how_far_it_is(server: Server, tmp_path: Path) -> None:
    messages = get(server, tmp_path / "file")
    assert any(" of 3 MB, " in line and line.endswith(" to go") for line in messages)
    assert messages[-1] == "checking file"
    assert server.asked == [""]
    get(server, tmp_path / "file")
    assert server.asked == [""], "what is there is not downloaded again"


def test_it_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000, 0]
    messages = get(server, tmp_path / "file")
    assert server.asked == ["", "bytes=1000000-", "bytes=1500000-", "bytes=1500000-"]
    assert sum(line.startswith("trying again: ") for line in messages) == 3


def test_it_goes_on_with_what_an_earlier_process_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA[:2_000_000])
    get(server, tmp_path / "file")
    assert server.asked == ["bytes=2000000-"]


def test_a_part_that_is_whole_needs_no_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    get(server, tmp_path / "file")


def test_a_part_that_is_too_long_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA + b"x")
    get(server, tmp_path / "file")
    assert server.asked == ["bytes=3000001-", ""]


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000]
    get(server, tmp_path / "file")
    assert server.asked == ["", "bytes=1000000-"]


def test_however_often_it_breaks_off_it_ends_as_long_as_something_comes(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] * 20
    get(server, tmp_path / "file")


def test_it_ends_when_nothing_comes(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, *[0] * 20]
    with pytest.raises(DownloadError, match=r"/file: cannot be downloaded: "):
        get(server, tmp_path / "file")
    assert len(server.asked) == 6
    assert (tmp_path / "file.part").stat().st_size == 1_000_000, "what came is kept"


def test_a_length_that_is_too_great_is_not_believed_for_ever(server: Server, tmp_path: Path) -> None:
    server.extra = 1000
    server.ranges = False
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        get(server, tmp_path / "file")


def test_a_length_that_is_too_small_gives_no_file(server: Server, tmp_path: Path) -> None:
    server.extra = -1000
    with pytest.raises(DownloadError, match="what came is not the file that is wanted"):
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_range_that_was_not_asked_for_is_not_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA[:1000])
    server.shift = 1
    get(server, tmp_path / "file")
    assert server.asked == ["bytes=1000-", ""]


def test_wrong_bytes_are_removed(server: Server, tmp_path: Path) -> None:
    server.data = bytes([DATA[0] ^ 1]) + DATA[1:]
    with pytest.raises(DownloadError, match=rf"was removed: its SHA-512 is [0-9a-f]{{16}}\.\.\., not {SUM[:16]}"):
        get(server, tmp_path / "file")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_a_file_that_is_there_and_wrong_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    get(server, tmp_path / "file")


@pytest.mark.parametrize(("statuses", "requests"), [([404], 1), ([403], 1), ([503] * 20, 5)])
def test_a_status_is_said(server: Server, tmp_path: Path, statuses: list[int], requests: int) -> None:
    server.statuses = list(statuses)
    with pytest.raises(DownloadError, match=rf"/file: .*{statuses[0]} "):
        get(server, tmp_path / "file")
    assert len(server.asked) == requests


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    get(server, tmp_path / "file")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://no-such-host.invalid/x", "ftp://a/x", "http://[/x"])
def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match=r"^\S+: cannot be downloaded: .") as caught:
        download.fetch(url, tmp_path / "x", SUM, lambda _: None)
    assert "\n" not in str(caught.value)


def test_no_room_is_said_before_it_begins(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(DownloadError, match=r"file takes 2 MiB more, and only 0 are free"):
        get(server, tmp_path / "file")


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=(server, tmp_path / "file")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.asked == [""]


def test_a_killed_download_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cuts, server.stall = [2_000_000], True
    code = "import sys; from pathlib import Path; from harness.images import download as d\n"
    code += "d.fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3], print)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, server.url, str(tmp_path / "file"), SUM], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    server.stalled.wait()
    for line in process.stdout:
        if "2 of 3 MB" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.stall = False
    size = (tmp_path / "file.part").stat().st_size
    assert 0 < size <= 2_000_000
    get(server, tmp_path / "file")
    assert server.asked == ["", f"bytes={size}-"]


def test_checksums(server: Server) -> None:
    server.data = f"{SUM}  a.img\n{SUM} *./b.img\nnonsense\n{SUM[:-1]}  short\n".encode()
    assert download.checksums(server.url, lambda _: None) == {"a.img": SUM, "b.img": SUM}


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\xff\0", bytes(3_000_000)])
def test_what_is_no_list_of_checksums_is_refused(server: Server, data: bytes) -> None:
    server.data = data
    with pytest.raises(DownloadError, match="not a list of"):
        download.checksums(server.url, lambda _: None)
