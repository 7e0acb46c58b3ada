"""What is asked of a QEMU. Other QEMUs than this machine's are stand-ins that answer as the real ones were seen to."""

import os
import shutil

import pytest

from harness.errors import ToolMissing
from harness.guest import qemu

SANDBOX = ["-sandbox", "on,obsolete=deny,elevateprivileges={},spawn=deny,resourcecontrol=deny"]
#: By the first line of --version: what it says of options that it does not take, as Debian 12, 13 and unstable of
#: November 2026 have it; then one of each that is built without libseccomp, and one that cannot drop root.
ANSWERS = {
    "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)": {"-run-with": "-run-with: invalid option"},
    "QEMU emulator version 9.2.0": {},
    "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)": {"-runas": "-runas: invalid option"},
    "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)": {"-runas": "-runas: invalid option"},
    "QEMU emulator version 10.0.0": {
        "-runas": "-runas: invalid option",
        "-sandbox": "-sandbox support is not enabled in this QEMU binary",
    },
    "QEMU emulator version 99.0.0": {
        "-runas": "-runas: invalid option",
        "-run-with": "-run-with user=65534:65534: Invalid parameter 'user'",
    },
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def stand_in(write):
    """Make a QEMU that answers --version and nothing else. Beside it, `asked` gets a line for each question."""

    def make(version):
        lines = [
            f"{option}) echo 'qemu-system-x86_64: {why}' >&2; exit 1;;" for option, why in ANSWERS[version].items()
        ]
        script = write("qemu", '#!/bin/sh\necho "$*" >>"$0.asked"\ncase $1 in\n' + "\n".join(lines))
        with script.open("a") as file:
            file.write(f"\nesac\necho '{version}'\necho 'Copyright (c) 2003-2026'\n")
        script.chmod(0o755)
        return str(script)

    return make


@pytest.mark.parametrize(
    ("version", "sandbox", "drop_root"),
    list(
        zip(
            ANSWERS,
            [True, True, True, True, False, True],
            [["-runas", "65534:65534"], *[["-run-with", "user=65534:65534"]] * 4, []],
            strict=True,
        )
    ),
)
def test_only_options_that_it_has(stand_in, version, sandbox, drop_root):
    answer = qemu.at_hand(stand_in(version))
    assert answer.version == version
    for root, elevate in ((True, "allow"), (False, "deny")):
        expected = [SANDBOX[0], SANDBOX[1].format(elevate)] if sandbox else []
        assert answer.confinement(root) == [*expected, *(drop_root if root else [])]


def test_it_is_asked_once_until_it_is_another(stand_in, tmp_path):
    first, second = "QEMU emulator version 9.2.0", "QEMU emulator version 10.0.0"
    program, questions = stand_in(first), tmp_path / "qemu.asked"
    assert qemu.at_hand(program) == qemu.at_hand(program)
    assert len(questions.read_text().splitlines()) == 3
    stand_in(second)
    assert qemu.at_hand(program).version == second
    assert len(questions.read_text().splitlines()) == 6
    os.utime(program, ns=(0, 0))
    qemu.at_hand(program)
    assert len(questions.read_text().splitlines()) == 9


def test_this_machine_s_qemu():
    program = shutil.which("qemu-system-x86_64")
    answer = qemu.at_hand(program)
    assert answer.version.startswith("QEMU emulator version ")
    for root in (True, False):
        status, _, err = qemu.run(program, *answer.confinement(root))
        assert status == 0, err
    assert answer.sandbox and answer.drop_root
    assert qemu.run(program, "-no-such-option")[0] != 0


@pytest.mark.parametrize(
    ("version", "by_name"),
    [("7.2.22 (Debian)", False), ("9.0.50", False), ("9.1.0", True), ("10.0.13 (Debian)", True), ("11.1.3", True)],
)
def test_how_it_saves(version, by_name):
    assert qemu.Qemu(f"QEMU emulator version {version}", True, ()).migrates_to_file is by_name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "#!/bin/sh\necho 'libslirp.so.0: no such file' >&2\nexit 127\n",
            "--version fails: libslirp.so.0: no such file",
        ),
        ("#!/bin/sh\nexit 3\n", "--version fails: status 3"),
        (b"\x7fELF of another machine", "cannot be run: Exec format error"),
    ],
)
def test_one_that_does_not_run(write, text, why):
    program = write("qemu", text)
    program.chmod(0o755)
    with pytest.raises(ToolMissing) as caught:
        qemu.at_hand(str(program))
    assert str(caught.value) == f"{program} {why}"
