"""What is looked at on this machine, and the exit status; what would be installed, and by whom."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import doctor, kvm, packages, paths
from harness.cli.app import main


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A cache and a work directory of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_WORK", str(tmp_path / "work"))
    return tmp_path


@pytest.fixture
def programs(own, monkeypatch):
    """A PATH with links to some programs only."""

    def link(*names):
        folder = own / "bin"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("PATH", str(folder))

    return link


def fatal(checks):
    return [check.text for check in checks if check.fatal]


def test_this_machine_has_what_its_tests_need():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert result.output.rstrip().endswith("`make matrix` works here")
    lines = [line for line in result.output.splitlines() if line and not line.startswith("`")]
    assert all(line.startswith(("ok       ", "note     ", "PROBLEM  ")) for line in lines)
    assert "ok       QEMU version" in result.output and "KVM" in result.output and "memory: " in result.output


def test_what_is_missing_is_named_and_the_status_is_1(programs):
    programs("ssh", "dpkg")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "MISSING  qemu-system-x86_64" in result.output and "ok       ssh" in result.output
    assert "MISSING  i686-linux-gnu-gccgo-12" in result.output
    by_root, without = (
        next(line for line in result.output.splitlines() if word in line) for word in ("By hand", "Without")
    )
    assert "apt-get install --no-remove " in by_root and "qemu-system-x86" in by_root and "gccgo" not in by_root
    assert "gccgo-12-i686-linux-gnu" in without
    assert result.output.rstrip().endswith("`make matrix` fails here as it is")


def test_it_runs_without_a_virtual_environment(own):
    """With the system's own Python and without any package."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(paths.DATA)!r})\n"]
    command[-1] += "from harness import doctor; print(doctor.report()[0])"
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "`make matrix`" in process.stdout


def test_nothing_is_asked_of_apt_or_sudo_when_nothing_is_missing(own, monkeypatch):
    def refuse(*words, **more):
        raise AssertionError(f"run: {words}")

    for name in ("_call", "root_command", "_get"):
        monkeypatch.setattr(doctor, name, refuse)
    assert doctor.install() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_ends_make_matrix_at_once(own):
    """On a small file system of its own, in a mount namespace."""
    folder = own / "cache"
    folder.mkdir()
    script = f"mount -t tmpfs -o size=64m none {folder} && exec {sys.executable} -m harness.doctor --install"
    process = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=paths.DATA, capture_output=True, text=True)
    if "Operation not permitted" in process.stderr:
        pytest.skip("no mount namespaces here")
    assert process.returncode == 1
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith(f"PROBLEM  {folder}/harness: `make matrix` needs ") and "64 are free" in line


def test_too_little_memory(own, monkeypatch):
    for free, is_fatal, words in (
        (500, True, "a guest with its QEMU takes 712"),
        (800, False, "compilations of libgo"),
        (1 << 20, False, "enough for"),
    ):
        monkeypatch.setattr(doctor, "_available", lambda free=free: free)
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        (check,) = doctor.check_memory()
        assert check.fatal == is_fatal and words in check.text


def test_kvm_under_which_a_guest_failed_is_not_called_good(own, monkeypatch):
    """The probe is taken to say yes, which it does not on every machine."""
    monkeypatch.setattr(doctor.kvm, "problem", lambda: "")
    assert doctor.check_kvm().state == "ok"
    kvm.remember_failure()
    assert doctor.check_kvm().state == "note" and f"rm {kvm.failure_record()}" in doctor.check_kvm().text


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_a_cache_of_somebody_else(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/usr")
    assert "cannot be written" in fatal(doctor.check_cache())[0]


@pytest.mark.parametrize(("version", "is_fatal", "words"), [(999, True, "newer version"), (1, False, "older version")])
def test_a_database_of_another_harness(own, version, is_fatal, words):
    (own / "work").mkdir()
    with sqlite3.connect(own / "work/results.sqlite") as db:
        db.execute(f"PRAGMA user_version={version}")
    (check,) = doctor.check_database()
    assert check.fatal == is_fatal and words in check.text


def test_a_database_that_is_none(own):
    (own / "work").mkdir()
    (own / "work/results.sqlite").write_text("nonsense" * 100)
    (check,) = doctor.check_database()
    assert check.fatal and "not a database" in check.text


def test_an_environment_whose_python_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert doctor.check_environment() == []
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/none/python3.9")
    (check,) = doctor.check_environment()
    assert "/none/python3.9, which is gone" in check.text and not check.fatal


def test_a_qemu_without_a_harness_is_found(tmp_path):
    """A process that looks like one of the harness's QEMUs: with a Python above it, and with none."""
    program = tmp_path / "qemu-system-none"
    program.symlink_to("/bin/sh")
    command = [str(program), "-c", "read -r line", "-name", "lost", "file=/dev/fdset/1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    # The child of a shell that has ended is nobody's.
    script = 'exec 3<&0; "$@" <&3 >/dev/null 2>&1 & echo $!'
    shell = subprocess.Popen(["sh", "-c", script, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert not [check for check in doctor.check_orphans() if f"kill {process.pid}`" in check.text]
        lost = shell.stdout.read().decode().strip()
        shell.wait()
        assert Path(f"/proc/{lost}").is_dir()
        if doctor.has_harness(Path(f"/proc/{lost}")):
            pytest.skip("a Python takes in processes that nobody waits for")
        assert [
            check for check in doctor.check_orphans() if f"kill {lost}`" in check.text and "guest lost" in check.text
        ]
    finally:
        for running in (process, shell):
            running.stdin.close()
            running.wait()
        shell.stdout.close()


def sudo(own, text):
    (own / "bin").mkdir(exist_ok=True)
    script = own / "bin/sudo"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("text", "root", "words"),
    [
        ("", ["sudo", "-n"], ""),
        ("echo 'sudo: a password is required' >&2; exit 1", None, "nobody is there to give it"),
        (None, None, "there is no sudo"),
    ],
)
def test_who_is_root(own, monkeypatch, text, root, words):
    """sudo stands in by a script: the real one has what this machine's sudoers say."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(own / "bin"))
    if text is not None:
        sudo(own, text)
    command, why = doctor.root_command()
    assert command == root and words in why


def test_an_ordinary_user_without_sudo_is_told_in_one_sentence(programs, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    programs("dpkg", "apt-cache")
    unpacked = []
    monkeypatch.setattr(packages, "unpack", lambda names, *more, **words: unpacked.extend(names))
    assert doctor.install() == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("you are not root, and there is no sudo; have root run: apt-get install ")
    assert "qemu-system-x86" in lines[0] and "gccgo" not in lines[0]
    assert "gccgo" in {name.split("-")[0] for name in unpacked}


@pytest.mark.parametrize("likely", [[], ["gccgo-12-i686-linux-gnu"], ["cpio"]])
def test_what_would_remove_others_is_told_from_what_would_not(monkeypatch, likely):
    """apt's answers are given here: what it would say depends on what this machine has."""

    def simulate(names):
        removes = "gccgo-12-i686-linux-gnu" in names
        return packages.Simulation((packages.Step("gcc-multilib", "4:12.2.0-3", ""),) if removes else ())

    monkeypatch.setattr(packages, "simulate", simulate)
    assert doctor.blocked_packages(["cpio", "patch"], likely) == {}
    blocked = doctor.blocked_packages(["cpio", "gccgo-12-i686-linux-gnu", "patch"], likely)
    assert blocked == {"gccgo-12-i686-linux-gnu": "would remove gcc-multilib"}


def test_packages_that_only_together_do_harm_are_all_blocked(monkeypatch):
    def simulate(names):
        return packages.Simulation((packages.Step("other", "1", ""),) if len(names) > 1 else ())

    monkeypatch.setattr(packages, "simulate", simulate)
    assert doctor.blocked_packages(["cpio", "patch"]) == dict.fromkeys(["cpio", "patch"], "would remove other")
