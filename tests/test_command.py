"""Commands of builds: what is shown of one that failed, and that nothing which it started outlives the harness."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.build.command import first_error


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "a.c:1:2: warning: w\na.c:3:1: error: no such thing\nmake: *** [all] Error 1\n",
            "a.c:3:1: error: no such thing",
        ),
        ("checking... configure: error: in `/x':\nconfigure: error: cannot run\n", "configure: error: cannot run"),
        (
            "*** Makeinfo is missing. Info documentation will not be built.\n"
            "make[1]: *** No rule to make target 'x', needed by 'y'.  Stop.\nmake: *** [Makefile:1: all] Error 2\n",
            "make[1]: *** No rule to make target 'x', needed by 'y'.  Stop.",
        ),
        ("cc: a\nfatal: No space left on device\nb\n", "fatal: No space left on device"),
        ("one\ntwo\n", "two"),
        ("\n", "it printed nothing"),
    ],
)
def test_the_first_error(output, said):
    assert first_error(output) == said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_command_started_ends_with_the_harness(tmp_path, how):
    """Grandchildren too, of a shell that waits and so does not pass a signal on."""
    script = "sleep 1000 & echo $! > child; mv child ready; wait; true"
    code = "import sys; from pathlib import Path; from harness.build.command import run\n"
    code += "run(['sh', '-c', sys.argv[2]], Path(sys.argv[1], 'log'), folder=Path(sys.argv[1]), what='x')"
    harness = subprocess.Popen([sys.executable, "-c", code, tmp_path, script], stderr=subprocess.DEVNULL)
    ready = tmp_path / "ready"
    while not ready.exists():
        assert harness.poll() is None
        time.sleep(0.01)
    child = int(ready.read_text())
    harness.send_signal(how)
    harness.wait()
    for _ in range(6000):
        if not alive(child):
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it still runs after a minute")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
