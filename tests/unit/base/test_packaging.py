"""The wheel, installed in an environment of its own: it carries all that a clone has, and works outside of one."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness import paths
from harness.cli.app import main

#: What a wheel must carry besides the package.
CARRIED = ("conf", "images", "suites")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=paths.DATA, check=True
    )
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a command of an environment that has the wheel; only what it depends on comes from this environment."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", with_pip=False, symlinks=True)
    python = home / "venv" / "bin" / "python"
    words = ["install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *words], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    dependencies = home / "venv" / "lib" / version / "site-packages" / "dependencies.pth"
    dependencies.write_text(sysconfig.get_path("purelib") + "\n")

    def run(*command):
        path = os.pathsep.join([str(home / "venv" / "bin"), os.environ["PATH"]])  # commands are shown by its name then
        env = {**os.environ, "HARNESS_WORK": str(home / "work"), "PATH": path}
        process = subprocess.run(
            [home / "venv" / "bin" / command[0], *command[1:]], cwd=home, env=env, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


def test_the_wheel_carries_what_a_clone_has(wheel):
    tracked = subprocess.run(["git", "ls-files", *CARRIED, "harness"], cwd=paths.DATA, capture_output=True, text=True)
    names = {name if name.startswith("harness/") else f"harness/data/{name}" for name in tracked.stdout.split()}
    with zipfile.ZipFile(wheel) as archive:
        carried = {entry.filename: entry for entry in archive.infolist()}
    assert names and names <= carried.keys()
    assert any("licenses/LICENSE" in name for name in carried)
    modes = {
        name: carried[f"harness/data/{name}"].external_attr >> 16 & 0o100
        for name in ("images/linux-i386/init", "conf/guests.yaml")
    }
    assert [bool(mode) for mode in modes.values()] == [os.access(paths.DATA / name, os.X_OK) for name in modes]


def test_the_command_works_outside_the_clone(installed):
    where = installed("python", "-c", "from harness import paths; print(paths.DATA)").strip()
    assert where.endswith("site-packages/harness/data") and Path(where) != paths.DATA
    runner = CliRunner()
    for words in (
        ["suite", "list"],
        ["variant", "list"],
        ["ci", "plan", "--jobs", "3"],
        ["toolchain", "list"],
    ):
        assert installed("harness", *words) == runner.invoke(main, words).output


def test_an_image_is_the_same_one(installed):
    from harness.images import image

    assert installed(
        "python", "-c", "from harness.images import image; print(image.key('linux-i386'))"
    ).strip() == image.key("linux-i386")


def test_pytest_finds_the_plugin(installed):
    where = installed("python", "-c", "from harness import paths; print(paths.DATA)").strip()
    program = f"{where}/suites/threads/lock-ring.go"
    listed = installed(
        "python", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", program, "--variant", "pristine"
    )
    assert "lock-ring.go::linux-i386[pristine]" in listed


def test_the_changelog_knows_this_version():
    version = tomllib.loads((paths.DATA / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## {version} " in (paths.DATA / "CHANGELOG.md").read_text()


def complete(*words):
    env = {
        "COMP_WORDS": " ".join(("harness", *words)),
        "COMP_CWORD": str(len(words)),
        "_HARNESS_COMPLETE": "bash_complete",
    }
    result = CliRunner().invoke(main, [], prog_name="harness", env=env)
    return [line.partition(",")[2] for line in result.output.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (("run", "--guest", "linux"), ["linux-i386", "linux-amd64"]),
        (("run", "--variant", "thread-"), ["thread-churn", "thread-churn+trace"]),
        (("run", "pthreads/lim"), ["pthreads/limit"]),
        (("run", "thr"), ["threads"]),
        (("run", "threads/lock-r"), ["threads/lock-ring"]),
        (("suite", "show", "gcc-go-"), ["gcc-go-torture"]),
        (("image", "show", "hurd"), ["hurd-amd64", "hurd-i386", "hurd-i386-2023"]),
        (("build", "--toolchain", "l"), ["linux-i386", "linux-amd64"]),
        (("run", "--conf", "none.yaml", "--guest", "l"), []),
        (("run", "--conf", "{mine}", "--guest", "my"), ["mybox"]),
    ],
)
def test_completion(words, completions, write):
    mine = write(
        "mine.yaml", "guests: {mybox: {toolchain: linux-i386, qemu: q, ssh: {user: root}, kernel: k, system: posix}}\n"
    )
    assert complete(*(word.format(mine=mine) for word in words)) == completions


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0 and f"_HARNESS_COMPLETE={shell}_complete" in result.output


def commands(group, above=()):
    for name, command in group.commands.items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


def test_every_command_is_told_of():
    """The line of each command in the list is whole, it has its section, and every option says what it is for."""
    listed = CliRunner().invoke(main, ["--help"]).output
    assert not re.search(r"\w\.\.\.", listed) and "Others:" not in listed
    options = [
        (words, option)
        for words, command in commands(main)
        for option in command.params
        if isinstance(option, click.Option)
    ]
    silent = [(*words, option.name) for words, option in options if not option.help]
    assert not silent and all(command.help for _, command in commands(main))
