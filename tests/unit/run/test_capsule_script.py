"""run.sh of a capsule with a number of trials. QEMU and ssh are stand-ins: a real one is in tests/guest."""

import os
import subprocess
from pathlib import Path

import jinja2
import pytest

from harness.run import capsule

QEMU = "#!/bin/sh\necho booted >>{folder}/boots\necho ready >console.log\nexec sleep 60\n"
#: Ends with the next of the statuses when it is asked to start the program.
SSH = """#!/bin/sh
for last; do :; done
case $last in
uname) echo Linux ;;
start)
    echo output
    status=$(head -n 1 {folder}/statuses)
    sed -i 1d {folder}/statuses
    exit "$status" ;;
*) cat >/dev/null ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script with arguments; its programs end with the statuses given."""
    here, tools = tmp_path / "capsule", tmp_path / "bin"
    (here / "image").mkdir(parents=True)
    tools.mkdir()
    for name, text in (("qemu", QEMU), ("ssh", SSH), ("sha256sum", "#!/bin/sh\n")):
        (tools / name).write_text(text.format(folder=tmp_path))
        (tools / name).chmod(0o755)
    for file in (here / "image/key", here / "program"):
        file.touch()
    values = dict.fromkeys(("quit", "kill", "host_key"), "") | {"start": "start", "command": "qemu", "qemu": "qemu"}
    values |= {"folder": "/tmp/x", "libraries": [], "name": "p", "guest": "g", "user": "root", "ready_console": "ready"}
    values |= {"ready_command": "uname", "ready_expect": "Linux", "boot_seconds": 30, "limit": 60, "told": "hang"}
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(capsule.__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    templates.filters["quote"] = lambda value: f"'{value}'"
    (here / "run.sh").write_text(templates.get_template("capsule.sh.j2").render(values))
    (here / "run.sh").chmod(0o755)

    def run_(*arguments, statuses=()):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        (tmp_path / "boots").write_text("")
        done = subprocess.run(
            [here / "run.sh", *arguments],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if " of " in line or "TRIALS" in line or "row" in line]
        return done.returncode, done.stdout, lines, (tmp_path / "boots").read_text().count("booted")

    return run_


def test_trials_are_counted_by_how_they_ended(run):
    status, out, lines, boots = run("5", statuses=[0, 2, 0, 139, 2])
    assert (status, out, boots) == (1, "output\n" * 5, 5)
    assert lines == [
        *(
            f"run.sh: trial {number} of 5: {end}"
            for number, end in enumerate(
                ("exit status 0", "exit status 2", "exit status 0", "ended by signal 11", "exit status 2"), start=1
            )
        ),
        "run.sh: 2 of 5: exit status 0",
        "run.sh: 2 of 5: exit status 2",
        "run.sh: 1 of 5: ended by signal 11",
    ]


def test_one_trial_has_the_programs_own_status(run, tmp_path):
    assert run(statuses=[7])[0] == 7
    assert run("1", statuses=[7])[0] == 7
    assert run("2", statuses=[0, 0])[0] == 0
    image = str(tmp_path / "capsule/image")
    assert run("2", image, f"{image}/key", statuses=[0, 0])[0] == 0


def test_what_is_no_number_of_trials_and_a_guest_that_is_always_in_trouble(run, tmp_path):
    assert run("0") == (125, "", ["run.sh: TRIALS must be 1 or more"], 0)
    (tmp_path / "bin/qemu").write_text("#!/bin/sh\nexit 1\n")
    status, _, lines, _ = run("9")
    assert status == 125 and lines[-1] == "run.sh: 3 of 3: the guest or this machine was in trouble"
