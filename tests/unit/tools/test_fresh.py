"""The tool that tries the README's commands on fresh machines; the whole of it is `tox -e fresh`."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness import paths
from tests import faults
from tools import fresh

ROOT = os.geteuid() == 0
#: In most containers root may not make namespaces.
NAMESPACES = ROOT and subprocess.run([*fresh.namespaces(), "true"], capture_output=True, check=False).returncode == 0


def run(*command, **options):
    return subprocess.run(command, cwd=paths.DATA, capture_output=True, text=True, check=False, **options)


def run_fresh(*arguments, **options):
    return run(sys.executable, "-m", "tools.fresh", *map(str, arguments), **options)


@pytest.fixture
def root(tmp_path):
    """A root with this machine's /usr, and the command that enters it."""
    folder = tmp_path / "root"
    for name in ("proc", "sys", "dev/pts", "dev/shm", "mnt", "usr", "tmp"):
        (folder / name).mkdir(parents=True)
    for name in ("kvm", "ptmx"):
        (folder / "dev" / name).touch()
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / name).symlink_to(f"usr/{name}")
    return folder, [*fresh.namespaces(), "sh", "-c", fresh.ENTER, "enter", folder, "/usr", folder / "usr", "--"]


def mounts():
    return Path("/proc/self/mountinfo").read_text()


def test_it_runs_the_readme_s_commands():
    assert fresh.readme_commands() == ["make matrix", "make test"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["11"], "'11' is not one of '12', '13', 'sid'"),
        (["--only", "matrx"], "--only matrx: the README's commands are make matrix, make test"),
        (["--roots", "/proc/here"], "/proc/here: No such file or directory"),
    ],
)
@pytest.mark.skipif(not ROOT or not shutil.which("debootstrap"), reason="needs root and debootstrap")
def test_bad_input_is_one_sentence(arguments, sentence):
    process = run_fresh(*arguments)
    assert (process.returncode, process.stdout) == (2, "") and sentence in process.stderr


def test_it_needs_root_and_debootstrap(tmp_path):
    """Other users than root read that first; root, without debootstrap on its PATH, reads that."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    code = "import shutil; shutil.which = lambda *_: None; from tools.fresh import main; main(['13'])"
    process = run(sys.executable, "-c", code, env=environment)
    assert process.returncode == 2
    assert ("debootstrap is not installed" if ROOT else "run this as root") in process.stderr


@pytest.mark.skipif(not NAMESPACES, reason="needs root that may make namespaces")
def test_a_root_is_entered_and_left_without_a_trace(root):
    folder, enter = root
    process = run(*enter, "sh", "-c", "ls /; ls /mnt /proc/1/status /dev/ptmx; script -qc tty /tmp/typescript; exit 7")
    assert process.returncode == 7, process.stderr
    assert process.stdout.split() == [
        "bin", "dev", "lib", "lib64", "mnt", "proc", "sbin", "sys", "tmp", "usr",
        "/dev/ptmx", "/proc/1/status", "/mnt:", "/dev/pts/0",
    ]  # fmt: skip
    assert str(folder) not in mounts()


@pytest.mark.skipif(not NAMESPACES, reason="needs root that may make namespaces")
def test_a_killed_run_leaves_no_process_and_no_mount(root):
    folder, enter = root
    seconds = f"{1000 + os.getpid() / 10**7:.7f}"  # names this test's processes
    command = [*map(str, enter), "sh", "-c", f"sleep {seconds} & echo ready; sleep {seconds}"]
    code = f"import subprocess; subprocess.run({command!r}, start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "ready\n"
        assert len(sleeping(seconds)) >= 2
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == ""  # until the last one that could write to it is gone
    faults.until(lambda: not sleeping(seconds), 60)
    assert str(folder) not in mounts()
    shutil.rmtree(folder)


def sleeping(seconds):
    """The processes with these seconds on their command lines."""
    pids = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if seconds.encode() in file.read_bytes():
                pids.append(file.parent.name)
    return pids


def test_a_root_that_is_mounted_or_in_use_is_not_removed(tmp_path):
    unused = fresh.Fresh("13", tmp_path / "fresh-13", False)
    unused.root.mkdir()
    with unused.lock(), pytest.raises(fresh.CannotStart, match="is in use by another run"), unused.lock():
        pass
    mounted = fresh.Fresh("13", Path("/proc"), False)
    with pytest.raises(fresh.CannotStart, match=r"^/proc\S* is mounted; unmount it"):
        mounted.remove()
    unused.remove()
    assert not unused.root.exists()


def test_files_of_pip_s_settings_are_found_in_the_root(tmp_path):
    index, wheels, cert = (tmp_path / name for name in ("index/simple", "wheels", "ca.crt"))
    index.mkdir(parents=True)
    wheels.mkdir()
    cert.touch()
    value = f"file://{index} {wheels}\n{cert} https://example.org/simple /not/there 15"
    assert fresh.files_in(value) == [index.parent, wheels, cert]
    assert re.sub(r"\S+", fresh.moved, value) == (
        f"file:///mnt/host{index} /mnt/host{wheels}\n/mnt/host{cert} https://example.org/simple /not/there 15"
    )


def test_only_apt_s_settings_for_reaching_archives_are_copied(monkeypatch, tmp_path):
    """By the real apt-config, with a configuration of the test's own (apt.conf(5))."""
    mine = tmp_path / "apt.conf"
    mine.write_text(
        'Acquire { http { Proxy "http://p.example:3142"; }; Retries "4"; Languages "de"; }; APT::Get "x";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(mine))
    monkeypatch.setenv("https_proxy", "http://q.example:8080")
    lines = fresh.apt_settings().splitlines()
    assert {
        'Acquire::http::Proxy "http://p.example:3142";', 'Acquire::Retries "4";',
        'Acquire::https::Proxy "http://q.example:8080";',
    } <= set(lines)  # fmt: skip
    assert not [line for line in lines if "Languages" in line or not line.startswith("Acquire::")]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ""),
        ("one\ntwo\n\n", "one\ntwo"),
        ("\x1b[2K 10 %\r\x1b[1m 20 %\r\n", " 20 %"),
        ("a\nb\nc", "b\nc"),
        ("\udcff\n", "\ufffd"),
    ],
)
def test_last_lines(write, text, lines):
    assert fresh.last_lines(write("x.log", text.encode(errors="surrogateescape")), 2) == lines


def test_the_workflows_do_the_same():
    """Their files' schemas are looked at in test_ci_files; the script that they call is run by tools/fresh.py."""
    job = yaml.safe_load((paths.DATA / ".github/workflows/fresh.yml").read_text())["jobs"]["fresh"]
    matrix = job["strategy"]["matrix"]
    assert matrix == {"release": list(fresh.SUITES.values()), "account": ["root", fresh.USER]}
    github = [step["run"] for step in job["steps"] if "run" in step]
    other = yaml.safe_load((paths.DATA / ".gitlab/fresh.yml").read_text())["fresh"]
    assert other["parallel"]["matrix"] == [{name.upper(): values for name, values in matrix.items()}]
    gitlab = [line.replace('"$ACCOUNT"', "${{ matrix.account }}") for line in other["script"]]
    assert github == gitlab
    commands = [f"sh tools/account.sh ${{{{ matrix.account }}}} {command}" for command in fresh.readme_commands()]
    assert github[1:] == commands
