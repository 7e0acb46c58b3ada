"""Builds' commands: a failure has its reason, and no process outlives the harness, however that ends."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.build import command
from harness.errors import BuildError
from tests.faults import until


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.c:1:2: warning: w\na.c:3:4: error: e\nmake: *** [x] Error 1\n", "a.c:3:4: error: e"),
        ("configure: error: in `/x':\nconfigure: error: no good\n", "configure: error: no good"),
        (
            "/usr/bin/ld: /cache/0a1b/libgo.so: undefined reference to `main.main'\n"
            "collect2: error: ld returned 1 exit status\nmake: *** [x]\n",
            "undefined reference to `main.main'",
        ),
        (
            "/usr/bin/ld: x.o: bad\ncollect2: error: ld returned 1 exit status\n",
            "collect2: error: ld returned 1 exit status",
        ),
        ("/bin/sh: 5: gawk: not found\nmake: *** [x] Error 127\n", "/bin/sh: 5: gawk: not found"),
        ("as: x: No space left on device\nmake: *** [x]\n", "as: x: No space left on device"),
        ("make: *** No rule to make target 'x'.\n", "make: *** No rule to make target 'x'."),
        (
            "*** Makeinfo is missing.\nmake[1]: *** No rule to make target 'y'.\n",
            "make[1]: *** No rule to make target 'y'.",
        ),
        ("checking x... configure: error: in `/x':\nconfigure: error: no good\n", "configure: error: no good"),
        ("only this\n\n", "only this"),
        ("", "it printed nothing"),
    ],
)
def test_the_first_error(output, message):
    assert command.first_error(output) == message


def test_a_failure_ends_in_its_error_and_names_the_log(tmp_path):
    log = tmp_path / "log"
    command.run(["sh", "-c", "echo earlier: error: gone"], log, folder=tmp_path, what="one")
    with pytest.raises(BuildError) as caught:
        command.run(["sh", "-c", "echo $A: error: now; exit 3"], log, folder=tmp_path, what="two", env={"A": "x"})
    assert str(caught.value) == f"two failed: x: error: now (whole log: {log})"
    with pytest.raises(BuildError, match="no-such-program: not found"):
        command.run(["no-such-program"], log, folder=tmp_path, what="three")


def test_a_command_is_logged_with_its_status(tmp_path, caplog):
    caplog.set_level("DEBUG", "harness.build.command")
    command.run(["sh", "-c", "exit 0"], tmp_path / "log", folder=tmp_path, what="libgo: make")
    assert command.capture(["sh", "-c", "cat; exit 3"], stdin=b"a b").stdout == b"a b"
    first, second = caplog.messages
    assert re.fullmatch(r"libgo: make: status 0 after \d+\.\d\d s: sh -c 'exit 0'", first)
    assert re.fullmatch(r"status 3 after \d+\.\d\d s: sh -c 'cat; exit 3'", second)


def alive(word):
    """The processes with a word on their command lines."""
    return subprocess.run(["pgrep", "-f", word], capture_output=True, text=True, check=False).stdout.split()


# A command with a child of its own, as make has.
NEST = "sh -c 'sleep {word} & sleep {word}; true'"


def test_a_killed_harness_leaves_nothing_running(tmp_path):
    word = f"30.{os.getpid()}1"
    code = "import sys; from pathlib import Path; from harness.build import command\n"
    code += f"command.run(['sh', '-c', {NEST.format(word=word)!r}], Path('log'), folder=Path(), what='x')"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until(lambda: len(alive(word)) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not alive(word), 20.0)  # they would end by themselves in 30


def test_an_error_in_one_build_stops_the_others(tmp_path):
    word = f"30.{os.getpid()}2"

    def build():
        command.run(["sh", "-c", NEST.format(word=word)], tmp_path / "log", folder=tmp_path, what="x")

    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(2) as threads, command.stoppable(threads):
        jobs = [threads.submit(build) for _ in range(3)]
        until(lambda: len(alive(word)) >= 4)
        raise KeyboardInterrupt
    until(lambda: not alive(word), 20.0)  # killed ones take a moment to be gone; by themselves they end in 30
    assert [isinstance(job.exception(), BuildError) for job in jobs[:2]] == [True, True] and jobs[2].cancelled()
    command.run(["true"], tmp_path / "log", folder=tmp_path, what="later ones run again")
