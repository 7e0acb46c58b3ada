"""The log: what the harness does with QEMU, guests and compilers, and each error that ends nothing.

It goes to a file in the run's folder always, and to standard error with `--debug`. Knows nothing of what is logged.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: The name of the log in a run's folder.
NAME = "harness.log"
#: Records that are kept until the run's folder is known; a build of libgo leaves some hundreds.
_KEPT = 100_000
_LOGGER = logging.getLogger("harness")


class _Formatter(logging.Formatter):
    """UTC, level, thread, module, text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(threadName)s %(name)s: %(message)s")
        self.converter = time.gmtime
        self.datefmt = "%Y-%m-%dT%H:%M:%S"


class _File(logging.FileHandler):
    """A log file that ends no run: that it cannot be written, as on a full disk, is said once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(_Formatter())
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once why the log ends here."""
        self._complain(sys.exc_info()[1])

    def close(self) -> None:
        """End the log. What could not be written before fails here once more."""
        try:
            super().close()
        except OSError as error:
            self._complain(error)

    def _complain(self, error: BaseException | None) -> None:
        if not self._failed:
            self._failed = True
            _complain(Path(self.baseFilename), error)


def to_stderr() -> None:
    """Send the whole log to standard error from now on, once."""
    if not debugging():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        _LOGGER.addHandler(handler)
        _LOGGER.setLevel(logging.DEBUG)


def debugging() -> bool:
    """Whether the log goes to standard error."""
    return any(type(handler) is logging.StreamHandler for handler in _LOGGER.handlers)


@contextmanager
def of_run() -> Iterator[Callable[[Path], None]]:
    """Log a run during the block.

    Yields:
        A function that is called with the run's folder as soon as there is one. What was logged before goes there too.
    """
    buffer = logging.handlers.MemoryHandler(_KEPT, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    level = _LOGGER.level
    _LOGGER.addHandler(buffer)
    _LOGGER.setLevel(logging.DEBUG)
    files: list[_File] = []
    print_thread_error = threading.excepthook

    def log_thread_error(error: threading.ExceptHookArgs) -> None:
        trace = (error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback)
        _LOGGER.error("thread %s ended by an error", error.thread and error.thread.name, exc_info=trace)
        print_thread_error(error)

    threading.excepthook = log_thread_error

    def write_to(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = _File(folder / NAME)
        except OSError as error:
            _complain(folder / NAME, error)
            return
        files.append(file)
        _LOGGER.addHandler(file)
        buffer.setTarget(file)
        buffer.flush()
        _LOGGER.removeHandler(buffer)

    try:
        yield write_to
    finally:
        threading.excepthook = print_thread_error
        for handler in (buffer, *files):
            _LOGGER.removeHandler(handler)
            handler.close()
        _LOGGER.setLevel(level)


@contextmanager
def ignored(logger: logging.Logger, action: str, *errors: type[Exception]) -> Iterator[None]:
    """Go on after the block if it raises one of some errors, and log that.

    Args:
        action: what may fail, such as "guest linux-i386: removing its core".
    """
    try:
        yield
    except errors as error:
        logger.info("%s: ignored: %s: %s", action, type(error).__name__, error)


def _complain(path: Path, error: BaseException | None) -> None:
    text = error.strerror if isinstance(error, OSError) else error
    print(f"harness: {path}: the log cannot be written: {text}", file=sys.stderr)
