"""The README is true to the letter: every block of it is run, read or compared with what really comes out."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness import conf, paths
from harness.cli.app import main
from harness.programs.header import read_program

TEXT = (paths.DATA / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True) for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line
]
#: Exit statuses that a command may have by right.
STATUS = {"doctor": (0, 1)}


def block(kind, begins=""):
    (text_found,) = (text for name, text in BLOCKS if name == kind and text.startswith(begins))
    return text_found


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Every command of the README, run in its order in one work directory."""
    work = tmp_path_factory.mktemp("readme")
    folders = os.environ["PATH"].split(os.pathsep)
    paths_of = {  # a new user, who types `make`, has no harness in the PATH
        "make": [folder for folder in folders if not Path(folder, "harness").is_file()],
        "harness": [str(Path(sys.executable).parent), *folders],
    }
    paths_of["pytest"] = paths_of["harness"]
    processes = {}
    for words in COMMANDS:
        if words[0] == "make" and words[1] == "test":
            continue  # this is it
        environment = {**os.environ, "PATH": os.pathsep.join(paths_of[words[0]]), "HARNESS_WORK": str(work)}
        processes[" ".join(words)] = subprocess.run(
            words, cwd=paths.DATA, env=environment, capture_output=True, text=True, check=False
        )
    return processes


def test_every_kind_of_block_is_looked_at():
    assert {kind for kind, _ in BLOCKS} == {"sh", "", "text", "go", "yaml", "console"}
    assert all(words[0] in ("make", "harness", "pytest") for words in COMMANDS)


def test_a_command_that_takes_long_is_one_that_there_is():
    """What a bisect prints is compared in test_bisect_run.py."""
    words = shlex.split(block("console").splitlines()[0].removeprefix("$ "))
    parsed(words)


def test_commands(ran):
    for command, process in ran.items():
        allowed = STATUS.get(command.split()[1], (0,))
        assert process.returncode in allowed, f"{command}: {process.stdout[-2000:]} {process.stderr[-2000:]}"


def test_the_picture_is_what_make_matrix_prints(ran):
    printed = ran["make matrix"].stdout
    table, answer = block("").split("\nWhat was taken out\n")
    lines = {line.rstrip() for line in printed.splitlines()}
    assert not [line for line in table.splitlines() if line.rstrip() not in lines]
    # Paragraphs are wrapped, a duration is the machine's, and how many threads end is the scheduler's affair.
    expected, printed = (
        re.sub(r"about [\dmhins ]+|\b\d+ (?=torn|ended)", "N ", " ".join(text.split())) for text in (answer, printed)
    )
    assert expected in printed


def test_the_life_cycle_is_what_harness_trace_prints(ran):
    printed = ran["harness trace suites/threads/lock-exit-churn.go"].stdout
    rows = [line.rstrip() for line in block("text").splitlines()]
    names = [re.split(r"\s{2,}", row)[0] for row in rows[4:]]
    assert names and all(name in printed for name in names)
    assert rows[0] in printed and "Ms were destroyed" in printed and "No M was destroyed" in printed


def test_the_program_s_header(write):
    program = read_program(write("demo/x.go", block("go") + "package main\n"))
    assert (program.args, program.env, program.timeout) == (("64",), {"GOMAXPROCS": "4"}, 30.0)
    assert program.expected.exit_status == 2 and program.needs == ("split-stack",)


def test_the_yaml(write):
    configuration = conf.load([write("my.yaml", block("yaml", "variants:"))])
    assert configuration.variant("mine").patches == ["mine.patch"]
    assert configuration.guest("hurd-i386").modules[1].args == "$(exec-task=task-create)"


def test_a_guest_made_from_another(write):
    small = conf.load([write("small.yaml", block("yaml", "guests:"))]).guest("small")
    control = conf.load().guest("linux-i386")
    assert (small.ready.timeout, small.memory, small.ready.console) == (300, 256, control.ready.console)


def test_the_known_failure(write):
    mine = write("known.yaml", block("yaml", "expected:"))
    assert len(conf.load([mine]).expected) > len(conf.load().expected)


GUIDE = "\n".join(file.read_text() for file in sorted((paths.DATA / "docs").glob("*.md")))
GUIDE_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
GUIDE_COMMANDS = [
    shlex.split(line, comments=True)
    for kind, text in GUIDE_BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if line.startswith("harness ")
]


@pytest.mark.parametrize("words", GUIDE_COMMANDS, ids=" ".join)
def test_the_guides_name_commands_that_there_are(words):
    """They need the network, hours or machines, so they are only parsed here."""
    parsed(words)


def parsed(words):
    """Parse a command of ours."""
    command, rest = main, words[1:]
    while isinstance(command, click.Group):
        assert rest[0] in command.commands
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_parser(click.Context(command)).parse_args(list(rest))


def test_the_guide_s_yaml_can_be_read(write):
    blocks = [text for kind, text in GUIDE_BLOCKS if kind == "yaml"]
    assert blocks
    for number, text in enumerate(blocks):
        conf.load([write(f"guide{number}.yaml", text)])
