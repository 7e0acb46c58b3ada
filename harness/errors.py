"""The errors of the harness: one class for one cause, each with the exit status that the command line gives it.

Knows nothing of any other module. Exit statuses: 1 is a surprise in the matrix (not an error), 2 is bad input,
3 is trouble with a guest, 130 is an interrupt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class HarnessError(Exception):
    """The root of all errors that the harness raises on purpose. Its text is one clear sentence for the user.

    Attributes:
        run: the number of the run that it ended, whose finished trials are stored; None if there was none yet.
    """

    exit_status = 2
    run: int | None = None

    def whole(self) -> str:
        """The sentence, with what belongs to it in lines of their own."""
        return str(self)


class ConfigError(HarnessError):
    """Invalid configuration; the text names file, line and key."""


class ProgramError(HarnessError):
    """A test program cannot be used: it is missing, its header is wrong, or it does not compile."""


class PatchError(HarnessError):
    """A patch cannot be used: it does not apply, or touches what it may not."""


class BuildError(HarnessError):
    """A build failed. The text holds the first error of the tool that failed and the path of the whole log."""


class ToolMissing(HarnessError):
    """A program of the host that is needed is not installed; the text names the package that brings it."""


class QemuRefusal(HarnessError):
    """QEMU does not start a guest: it lacks an option, a device or a file that the guest's description needs. It will
    say the same the next time, unlike what it says in a passing trouble, which is a GuestError."""


class ImageError(HarnessError):
    """An image is missing, damaged, or cannot be built."""


class DownloadError(HarnessError):
    """Something cannot be downloaded, or what came is not what it should be."""


class StoreError(HarnessError):
    """The results' database or the cache cannot be used, or does not hold what is asked for."""


#: What the details of a guest's trouble begin with: the file with all that its console said, and the command that boots
#: the same guest.
WHOLE_CONSOLE, BOOT_COMMAND = "its whole console: ", "QEMU: "


class GuestError(HarnessError):
    """The guest is in trouble: it did not boot, died, or stopped answering. Never a program's fault.

    Attributes:
        console: the last lines of the guest's serial console, oldest first.
        details: what helps to look into it, a line each: where all of its console is, the command line of its QEMU.
    """

    exit_status = 3

    def __init__(self, message: str, console: Sequence[str] = (), details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.console, self.details = list(console), list(details)

    @classmethod
    def like(cls, error: GuestError, message: str = "") -> Self:
        """Another error that shows the same of the guest.

        Args:
            message: what it says, if not the same.
        """
        return cls(message or str(error), error.console, error.details)

    def whole(self) -> str:
        """The message, with the console's lines and the details below it."""
        return "\n  ".join([str(self), *(f"console: {line}" for line in self.console), *self.details])
