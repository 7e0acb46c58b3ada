"""A login on a serial console: lines are typed, and what they print is read, by no hand.

Whatever is typed is echoed, and the kernel may speak at any moment, so the end of a command is known by a word that is
printed and was not typed so. Nothing has a time limit but silence: as long as the console says what it has not said
before, it is waited for. Knows nothing of machines, and nothing of what the commands do.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

from harness import clock
from harness.errors import GuestError
from harness.guest.console import Console

#: Characters that a line may have: some serial drivers lose what comes before they have read (GNU Mach's keeps few kB).
LONGEST = 250
#: Seconds of silence after which something has most likely ended, and it does no harm if it has not.
_SETTLED = 10.0
#: How often a login is tried: the first lines may come before the terminal is set up, and be lost.
_LOGINS = 3
#: A shell that edits no lines, says everything in English and asks for no terminal.
_SHELL = "exec env PS1= LC_ALL=C TERM=dumb DEBIAN_FRONTEND=noninteractive sh"
_PASSWORD = r"(?i:^ *password: *)"
_REFUSED = r"(?i:incorrect|authentication failure|permission denied)"


class Terminal:
    """A terminal on a serial console. Every method raises GuestError when the console is silent for too long.

    Args:
        console: what the machine says.
        type_: types bytes.
        check: asked all the time; raises what ends the waiting, such as the machine's end.
        silence: seconds without a new line after which nothing is waited for any more.
        say: is told the console's latest line now and then.

    Attributes:
        silence: as above; it may be changed between two commands.
    """

    def __init__(
        self,
        console: Console,
        type_: Callable[[bytes], None],
        check: Callable[[], None],
        silence: float,
        say: Callable[[str], None],
    ) -> None:
        self._console, self._type, self._check = console, type_, check
        self.silence, self._say = silence, say
        self._mark = 0  # what was said before counts: the prompt may be there already
        self._word = f"ness-{secrets.token_hex(3)}"
        self._count = 0

    def log_in(self, prompt: str, user: str) -> None:
        """Wait for a login prompt, log in, and start a plain shell.

        Args:
            prompt: a regular expression that the login prompt matches.
            user: who logs in; has no password.

        Raises:
            GuestError: no prompt comes, or the user may not log in.
        """
        self._wait(prompt, "no login prompt")
        for _ in range(_LOGINS):
            self._send(user)
            if self._settle(f"{_PASSWORD}|{_REFUSED}"):
                self._send("")
                self._settle(_REFUSED)
            if self._shell_answers(f"{prompt}|{_REFUSED}"):
                self._send(_SHELL)
                if self._shell_answers(_REFUSED):
                    self.run("stty -echo")
                    return
            self._settle(prompt)
            self._send("")  # whatever asks for something now gets nothing, and asks for a user next
            self._wait(prompt, "no second login prompt")
        raise GuestError(f"{user} may not log in on its console without a password")

    def run(self, command: str) -> tuple[int, str]:
        """Run a command, which reads nothing. Returns its exit status, and what the console said meanwhile.

        Args:
            command: for the shell, on one line.

        Raises:
            ValueError: the line is too long for a terminal.
            GuestError: the command does not end.
        """
        self._count += 1
        ask = f'echo "har""{self._word}-{self._count}:$s"'
        line = f"{{ {command}; }} </dev/null; s=$?; {ask}"
        if len(line) > LONGEST:
            raise ValueError(f"{len(line)} characters are too many for one line: {command}")
        self._send(line)
        # The kernel may have spoken into the word: after a while it is asked for again.
        match = self._wait(self._answer, f"`{command}` has not ended", again=ask)
        output = [text for text in match.string[: match.start()].splitlines() if ask not in text]
        return int(match[1]), "\n".join(output)

    def send(self, command: str) -> None:
        """Start a command after which nothing more will be typed."""
        self._send(command)

    @property
    def _answer(self) -> str:
        return rf"har{self._word}-{self._count}:(\d+)"

    def _shell_answers(self, refused: str) -> bool:
        """Whether a shell reads what is typed. It is asked again and again, since what logs in may drop lines."""
        deadline = clock.Deadline(self.silence)
        while not deadline.passed(self._console.heard):
            self._count += 1
            self._send(f's=0; echo "har""{self._word}-{self._count}:$s"')
            if match := self._settle(rf"{self._answer}|{refused}"):
                return match[1] is not None
        raise GuestError("no shell answers on its console")

    def _send(self, line: str) -> None:
        self._mark = self._console.mark()
        self._type(f"{line}\r".encode())

    def _settle(self, pattern: str) -> re.Match[str] | None:
        """Wait until what was said since the last line matches, or has not changed for a while."""
        return self._look(pattern, _SETTLED, "")

    def _wait(self, pattern: str, what: str, again: str = "") -> re.Match[str]:
        """Wait until what was said since the last line matches.

        Args:
            pattern: the regular expression.
            what: what it means if it never does, for the error.
            again: a line to type when it is half as long silent as it may be.
        """
        match = self._look(pattern, self.silence, again)
        if match is None:
            raise GuestError(f"{what}, and nothing new on its console for {self.silence:.0f} s")
        return match

    def _look(self, pattern: str, silence: float, again: str) -> re.Match[str] | None:
        lines: set[str] = set()
        heard = -1.0
        deadline, half = clock.Deadline(silence), clock.Deadline(silence / 2)
        while True:
            self._check()
            self._console.poll()
            if heard != self._console.heard:
                heard = self._console.heard
                text = self._console.text_since(self._mark)
                if match := re.search(pattern, text, re.MULTILINE):
                    return match
                # Progress is what was not said before: a message that comes every minute for ever is none.
                new = [line for line in map(str.strip, text.splitlines()) if line and line not in lines]
                if new:
                    lines.update(new)
                    self._say(new[-1])
            if again and half.passed(len(lines)):
                self._type(f"{again}\r".encode())
                again = ""
            if deadline.passed(len(lines)):
                return None
            time.sleep(0.1)
