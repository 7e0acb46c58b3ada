"""How the memory of a saved guest is kept: as the stream that QEMU writes, compressed if that restores faster, or as a
file in which each page has its place (QEMU manual, mapped-ram).

Which is faster is measured on a sample of the file itself: how fast the disk reads it, how much smaller `zstd` makes
it, and how fast `zstd` expands it. Knows nothing of guests, and of QEMU only that it reads a stream from a pipe.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from harness import clock, host
from harness.errors import GuestError
from harness.files import written_whole
from harness.log import ignored

_log = logging.getLogger(__name__)

#: Bytes of the memory that are measured; the file's middle, as its beginning may be a guest's kernel.
SAMPLE = 16 << 20
#: Bytes that are read from a disk at a time.
_PIECE = 1 << 20
#: How many times as fast compressed memory must arrive to be worth the work. It must be clearly faster, because memory
#: that was read lately is still in this machine's page cache, where the disk does not count.
WORTH = 1.5
#: A mask on random bytes that makes them compress like memory: zstd makes the result half as large, and expands it at
#: 0.76 GB/s. It made the memory of two guests 0.43 and 0.5 times as large, at 0.94 and 0.72 GB/s (all measured).
_NOISE = b"\xff" * 4 + bytes(4)
#: How often the expansion is measured; the best counts, as other work of this machine only makes it slower.
_TURNS = 3
#: Seconds that a process may take to end when its reader has.
_ENDING = 5.0
_ZSTD = "zstd"
#: How zstd names its standard input in its errors.
_STDIN = "/*stdin*\\ : "
#: The quickest level: others hardly make memory smaller, and none is quicker to expand.
_LEVEL = "-1"


class Form(StrEnum):
    """How memory is kept."""

    STREAM = "stream"
    COMPRESSED = "zstd"
    MAPPED = "mapped-ram"


class Figures(BaseModel):
    """What was measured.

    Attributes:
        read: bytes that the disk gives, a second, when nothing of them is in this machine's memory.
        ratio: how many bytes one compressed byte holds.
        expand: bytes that zstd makes of compressed ones, a second.
    """

    model_config = ConfigDict(frozen=True)

    read: float
    ratio: float
    expand: float

    @property
    def compressed(self) -> float:
        """Bytes that compressed memory gives, a second: it is read and expanded at the same time."""
        return min(self.read * self.ratio, self.expand)

    @property
    def worth_compressing(self) -> bool:
        """Whether a restore from compressed memory is clearly quicker."""
        return self.compressed >= WORTH * self.read

    def __str__(self) -> str:
        rates = f"its disk gives {self.read / 1e6:.0f} MB/s, and {self.compressed / 1e6:.0f} MB/s compressed"
        return f"{rates} ({self.ratio:.2g} times as small, expanded at {self.expand / 1e6:.0f} MB/s)"


class Memory(BaseModel):
    """What is stored of a saved memory: its form, and the figures that led to it, None if none could be had."""

    model_config = ConfigDict(frozen=True)

    form: Form = Form.STREAM
    figures: Figures | None = None


def measure(file: Path) -> Figures | None:
    """Measure how a memory would best be kept; None if there is no zstd, it fails, or the file cannot be read."""
    try:
        with file.open("rb") as data:
            return _measure(data)
    except (OSError, subprocess.CalledProcessError) as error:
        _log.warning("%s: how it is best kept cannot be measured: %s", file, error)
        return None


def measure_disk(folder: Path) -> Figures | None:
    """The same for a memory that is not saved yet, and will be saved into a folder; what is measured stands in for
    it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as data:
            noise = int.from_bytes(os.urandom(SAMPLE)) & int.from_bytes(_NOISE * (SAMPLE // len(_NOISE)))
            data.write(noise.to_bytes(SAMPLE))
            return _measure(data)
    except (OSError, subprocess.CalledProcessError) as error:
        _log.warning("%s: its disk cannot be measured: %s", folder, error)
        return None


def _measure(file: IO[bytes]) -> Figures | None:
    """Measure a sample of an open file. Raises OSError and CalledProcessError."""
    program = host.find(_ZSTD)
    if program is None:
        _log.info("saved memory is not compressed: %s is not installed (Debian package %s)", _ZSTD, _ZSTD)
        return None
    sample, seconds = _read_cold(file)
    if not sample:
        return None
    with tempfile.TemporaryFile() as packed:
        # In a group of its own: a ctrl-C is for the harness.
        command = [program, _LEVEL, "-qc"]
        process = subprocess.run(command, input=sample, capture_output=True, check=True, process_group=0)
        packed.write(process.stdout)
        size = packed.tell()
        packed.flush()
        expanding = min(_expand(program, packed.fileno()) for _ in range(_TURNS))
    return Figures(read=len(sample) / seconds, ratio=len(sample) / size, expand=len(sample) / expanding)


def _expand(program: str, packed: int) -> float:
    """The seconds that zstd takes to expand an open file."""
    os.lseek(packed, 0, os.SEEK_SET)
    begun = time.monotonic()
    # Its errors go where its output does: that it fails is enough to know.
    out = subprocess.DEVNULL
    subprocess.run([program, "-dqc"], stdin=packed, stdout=out, stderr=out, check=True, process_group=0)
    return time.monotonic() - begun


def _read_cold(file: IO[bytes]) -> tuple[bytes, float]:
    """A sample of an open file, and the seconds that reading it took. What this machine's memory has of it is dropped
    first, which it can be when it is on the disk."""
    file.flush()
    number = file.fileno()
    os.fsync(number)
    parts = list(_middle(number))
    for at, size in parts:
        os.posix_fadvise(number, at, size, os.POSIX_FADV_DONTNEED)
    begun = time.monotonic()
    pieces = [
        os.pread(number, min(_PIECE, at + size - here), here)
        for at, size in parts
        for here in range(at, at + size, _PIECE)
    ]
    return b"".join(pieces), time.monotonic() - begun


def _middle(number: int) -> Iterator[tuple[int, int]]:
    """The parts of an open file, without its holes, that are a sample of it: where each begins, and its size."""
    left, end = SAMPLE, os.fstat(number).st_size
    at = max(0, (end - SAMPLE) // 2)
    while left > 0 and at < end:
        try:
            at = os.lseek(number, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which means that there is nothing but a hole to the end
                raise
            return
        size = min(left, os.lseek(number, at, os.SEEK_HOLE) - at)
        yield at, size
        at, left = at + size, left - size


def compress(file: Path) -> bool:
    """Compress a file in its place. Returns whether that could be done; if not, the file is as it was."""
    program = host.find(_ZSTD)
    if program is None:
        return False
    command = [program, _LEVEL, "-qcT0"]
    try:
        with written_whole(file) as packed, packed.open("wb") as out, file.open("rb") as plain:
            subprocess.run(command, stdin=plain, stdout=out, stderr=subprocess.PIPE, check=True, process_group=0)
    except subprocess.CalledProcessError as error:
        _log.warning("%s is not compressed: %s", file, error.stderr.decode(errors="replace").strip() or error)
        return False
    except OSError as error:
        _log.warning("%s is not compressed: %s", file, error)
        return False
    return True


class Expansion:
    """A process that expands a compressed file into a pipe. It ends when nobody reads the pipe any more.

    Args:
        file: the compressed file.

    Attributes:
        pipe: the number of the end to read from, for the caller to close.

    Raises:
        GuestError: it cannot be started.
    """

    def __init__(self, file: Path) -> None:
        program = host.find(_ZSTD)
        if program is None:
            raise GuestError(f"{file} is compressed, and {_ZSTD} is not installed (Debian package {_ZSTD})")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed by `stop`)
        self.pipe, end = os.pipe()
        try:
            with file.open("rb") as packed:
                self._process = subprocess.Popen(
                    [program, "-dqc"], stdin=packed, stdout=end, stderr=self._errors, process_group=0
                )
        except OSError as error:
            os.close(self.pipe)
            self._errors.close()
            raise GuestError(f"{file}: {error.strerror}") from error
        finally:
            os.close(end)

    def position(self) -> str:
        """Where it is in the compressed file (proc(5), fdinfo); '' if it has ended."""
        try:
            return Path(f"/proc/{self._process.pid}/fdinfo/0").read_text()
        except OSError as error:
            _log.debug("where %s is: %s", _ZSTD, error)
            return ""

    def wait(self) -> None:
        """Wait for its end, once all that it had was read. Raises GuestError if it does not end, or failed."""
        deadline = clock.Deadline()
        while self._process.poll() is None:
            if deadline.passed(self.position()):
                raise GuestError(f"{_ZSTD} has not ended")
            time.sleep(0.005)
        if failure := self.failure():
            raise GuestError(failure)

    def failure(self) -> str:
        """What went wrong, in a sentence, once the reader has ended; '' if nothing did. That nobody reads any more is
        no failure of this process."""
        with ignored(_log, f"waiting for {_ZSTD}", subprocess.TimeoutExpired):
            self._process.wait(_ENDING)
        if self._process.returncode in (None, 0, -signal.SIGPIPE):
            return ""
        self._errors.seek(0)
        text = " ".join(self._errors.read().decode(errors="replace").replace(_STDIN, "").split())
        return f"its memory cannot be expanded: {text or f'{_ZSTD} ended with status {self._process.returncode}'}"

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._errors.close()
