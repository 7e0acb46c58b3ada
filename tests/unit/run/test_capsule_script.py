"""run.sh of a capsule, and the sources in it. QEMU and ssh are stand-ins: real ones are in tests/guest."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness import conf
from harness.conf.model import Ready
from harness.guest.bootfiles import BootFiles
from harness.programs.header import read_program
from harness.programs.model import TrialSpec
from harness.run import capsule
from harness.run.manifest import source_files

QEMU = "#!/bin/sh\necho booted >>{folder}/boots\necho ready >console.log\nexec sleep 60\n"
#: This machine is the guest.
SSH = '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n'
#: Ends with the next of the statuses.
PROGRAM = """#!/bin/sh
echo output
status=$(head -n 1 {folder}/statuses)
sed -i 1d {folder}/statuses
exit "$status"
"""


def write_script(folder, name="p.go", header="// run\n", libraries=(), archives=()):
    """Writes the run.sh of a program's capsule, whose guest is a folder of this machine."""
    source = folder / name
    source.write_text(f"{header}\npackage main\n")
    guest = conf.load().guest("linux-i386")
    guest = guest.model_copy(update={"ready": Ready(console="ready")})
    script = capsule.run_script(
        command="qemu",
        env={"WORD": "a 'word'"},
        folder=str(folder / "the guest"),
        guest=guest,
        files=BootFiles(None, None, "", None, (), folder / "key", None),
        libraries=libraries,
        archives=archives,
        spec=TrialSpec("g", "v", read_program(source), 1),
        result="hang",
    )
    file = folder / "capsule/run.sh"
    file.write_text(script)
    file.chmod(0o755)


@pytest.fixture
def run(tmp_path):
    """Runs the script with arguments; its programs end with the statuses given."""
    here, tools = tmp_path / "capsule", tmp_path / "bin"
    (here / "image").mkdir(parents=True)
    tools.mkdir()
    for name, text in (("qemu", QEMU), ("ssh", SSH), ("sha256sum", "#!/bin/sh\n")):
        (tools / name).write_text(text.format(folder=tmp_path))
        (tools / name).chmod(0o755)
    (here / "image/key").touch()
    (here / "program").write_text(PROGRAM.format(folder=tmp_path))
    write_script(tmp_path)

    def run_(*arguments, statuses=()):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        (tmp_path / "boots").write_text("")
        process = subprocess.run(
            [here / "run.sh", *arguments],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in process.stderr.splitlines() if " of " in line or "TRIALS" in line or "row" in line]
        return process.returncode, process.stdout, lines, (tmp_path / "boots").read_text().count("booted")

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


def test_another_output_than_expected_is_told_and_counted(run, tmp_path):
    (tmp_path / "capsule/expected").mkdir()
    (tmp_path / "capsule/expected/stdout").write_text("output\n")
    assert run("2", statuses=[0, 0])[0] == 0
    (tmp_path / "capsule/expected/stdout").write_text("else\n")
    status, out, lines, _ = run("2", statuses=[0, 0])
    assert (status, out) == (1, "output\n" * 2)
    assert lines[-1] == "run.sh: 2 of 2: exit status 0, and not the output in expected/stdout"


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


@pytest.mark.parametrize("name", ["pid.go", "my $(prog)'s.go", "core.go"])
def test_a_program_of_any_name_runs_with_its_arguments_and_files(run, tmp_path, name):
    here = tmp_path / "capsule"
    (tmp_path / "test").mkdir()
    (tmp_path / "test/data").write_text("data")
    with tarfile.open(here / "files.tar", "w") as archive:
        archive.add(tmp_path / "test", "test")
    (here / "lib x.so").write_text("library")
    (here / "program").write_text('#!/bin/sh\ncat data "../../lib x.so"\nprintf "|%s" "$0" "$WORD" "$@"\nexit 5\n')
    write_script(tmp_path, name, "// run\n// args: 'a  b' $c\n", ["lib x.so"], ["files.tar"])
    status, out, *_ = run()
    assert (status, out.split("|")[0]) == (5, "datalibrary")
    executable = tmp_path / "the guest/program" / ("core-program" if name == "core.go" else name[:-3])
    assert out.split("|")[1:] == [str(executable), "a 'word'", "a  b", "$c"]


def test_a_time_limit_below_a_second_is_no_limit_of_zero(tmp_path):
    (tmp_path / "capsule").mkdir()
    write_script(tmp_path, header="// run\n// timeout: 500ms\n")
    assert "sleep 1 >" in (tmp_path / "capsule/run.sh").read_text()


def test_all_files_of_a_program_are_packed_as_they_lie(tmp_path):
    texts = {
        "a/p.go": "// run util.go ../b/more.go\n\npackage main\n",
        "a/util.go": "u",
        "b/more.go": "m",
        "a/x.go": "x",
    }
    texts |= {"c/p.c": "// run\n", "c/p.h": "h"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, packed in (("a/p.go", {"a/p.go", "a/util.go", "b/more.go"}), ("c/p.c", {"p.c", "p.h"})):
        target = tmp_path / f"copy of {Path(name).name}"
        capsule.copy_sources(source_files(read_program(tmp_path / name)), target)
        assert {str(file.relative_to(target)) for file in target.rglob("*.*")} == packed
    assert (tmp_path / "copy of p.go/b/more.go").read_text() == "m"
