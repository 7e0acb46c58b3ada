"""Downloads over HTTP: resumed where they broke off, checked by their SHA-512, safe against a second process.

Knows nothing of what is downloaded.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import tenacity

from harness import clock, locks
from harness.errors import DownloadError

#: How often in a row a download may fail without having come further.
_TRIES = 5
#: Seconds between two tries.
WAIT: tenacity.wait.wait_base = tenacity.wait_exponential(max=15)
#: Seconds without a byte after which a connection counts as broken.
_SILENCE = 30.0
#: What a list of checksums may have at most, in bytes.
_LIST = 1 << 20


class _TryAgainError(Exception):
    """The server could not answer this time."""


def checksums(url: str, progress: Callable[[str], None]) -> dict[str, str]:
    """The SHA-512 of files by their names, as a list that `sha512sum` made says.

    Args:
        url: where the list is.
        progress: is told what is being done.

    Raises:
        DownloadError: it cannot be had, or is no such list.
    """
    progress(f"reading {url}")
    for attempt in _tries(url, lambda: 0, progress):
        with attempt, _get(url, {}) as answer:
            _refuse(answer, url)
            text = b""
            for chunk in answer.iter_bytes():
                text += chunk
                if len(text) > _LIST:
                    raise DownloadError(f"{url}: not a list of checksums: it has more than {_LIST} bytes")
    rows = re.findall(r"^([0-9a-f]{128}) [ *](?:\./)?(\S+)$", text.decode(errors="replace"), re.MULTILINE)
    if not rows:
        raise DownloadError(f"{url}: not a list of SHA-512 checksums")
    return {name: digest for digest, name in rows}


def fetch(url: str, target: Path, sha512: str, progress: Callable[[str], None]) -> None:
    """Download a file. What was downloaded before it broke off stays beside it as `.part` and is gone on with.

    Args:
        url: where it is.
        target: where it goes. If it is there and whole, nothing is downloaded.
        sha512: its SHA-512 in hexadecimal.
        progress: is told how far it is.

    Raises:
        DownloadError: it cannot be had, or is not what it should be.
    """
    part = target.with_name(f"{target.name}.part")
    with locks.lock(target.with_name(f".{target.name}.lock")):
        if target.is_file():
            progress(f"checking {target.name}")
            if digest(target) == sha512:
                return
            target.unlink()
        for attempt in _tries(url, lambda: _size(part), progress):
            with attempt:
                _go_on(url, part, progress)
        progress(f"checking {target.name}")
        if (checksum := digest(part)) != sha512:
            part.unlink()
            raise DownloadError(
                f"{url}: what came is not the file that is wanted and was removed: "
                f"its SHA-512 is {checksum[:16]}..., not {sha512[:16]}..."
            )
        part.replace(target)


def digest(path: Path) -> str:
    """The SHA-512 of a file's bytes, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def _tries(url: str, received: Callable[[], int], progress: Callable[[str], None]) -> Iterator[tenacity.AttemptManager]:
    """Attempts until one works, or _TRIES in a row got no more bytes than there were. Raises DownloadError."""
    most, failures = received(), 0

    def stop(_: tenacity.RetryCallState) -> bool:
        nonlocal most, failures
        failures = 0 if received() > most else failures + 1
        most = max(most, received())
        return failures >= _TRIES

    def tell(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None  # it is called after a failure
        progress(f"trying again: {_reason(state.outcome.exception())}")

    again = tenacity.retry_if_exception_type((httpx.TransportError, _TryAgainError))
    try:
        yield from tenacity.Retrying(retry=again, stop=stop, wait=WAIT, before_sleep=tell, reraise=True)
    except (httpx.HTTPError, httpx.InvalidURL, _TryAgainError) as error:
        raise DownloadError(f"{url}: cannot be downloaded: {_reason(error)}") from error


def _reason(error: BaseException | None) -> str:
    return str(error) or type(error).__name__  # some of httpx's have no text


@contextmanager
def _get(url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    headers = {"Accept-Encoding": "identity", **headers}
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=_SILENCE) as answer:
        if url.startswith("https:") and answer.url.scheme != "https":
            raise DownloadError(f"{url}: leads to {answer.url}, which is not encrypted")
        yield answer


def _refuse(answer: httpx.Response, url: str) -> None:
    """Raise what an answer without the file calls for."""
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise _TryAgainError(status)
    if not answer.is_success:
        raise DownloadError(f"{url}: the server says {status}")


def _go_on(url: str, part: Path, progress: Callable[[str], None]) -> None:
    """Download what is missing of a file, or all of it if the server knows no ranges (RFC 9110, 14)."""
    have = _size(part)
    with _get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        content_range = answer.headers.get("Content-Range", "")
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if content_range != f"bytes */{have}":  # else it is whole already
                part.unlink()
                raise _TryAgainError(f"the server has no byte {have}")
            return
        _refuse(answer, url)
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            if not content_range.startswith(f"bytes {have}-"):
                part.unlink()
                raise _TryAgainError(
                    f"asked for bytes from {have}, the server answers with {content_range or 'no range'}"
                )
        else:
            have = 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        _need_room(part, (total or 0) - have)
        try:
            with part.open("ab" if have else "wb") as file:
                for done in _copy(answer, file.write, have):
                    progress(_describe_progress(part.stem, *done, total))
        except OSError as error:
            raise DownloadError(f"{part}: cannot be written: {error.strerror}") from error
        if total is not None and _size(part) != total:
            raise _TryAgainError(f"ended after {_size(part)} of {total} bytes")


def _copy(answer: httpx.Response, write: Callable[[bytes], object], have: int) -> Iterator[tuple[int, float]]:
    """Write what comes; yields how many bytes there are, and how many came each second."""
    begun, received = clock.time(), 0
    for chunk in answer.iter_raw():
        write(chunk)
        received += len(chunk)
        yield have + received, received / max(clock.time() - begun, 0.001)


def _describe_progress(name: str, done: int, rate: float, total: int | None) -> str:
    text = f"downloading {name}: {done / 1e6:.0f}"
    if total is None:
        return f"{text} MB"
    left = int((total - done) / rate)
    return f"{text} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s, {left // 60}:{left % 60:02} to go"


def _need_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < wanted:
        raise DownloadError(f"{part.parent}: {part.stem} takes {wanted >> 20} MiB more, and only {free >> 20} are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
