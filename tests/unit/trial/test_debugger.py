"""gdb on a process, with a shell of this machine in the guest's place: gdb and gdbserver are found, shipped and joined.

A real guest and a real gdb are in tests/guest.
"""

import json
import sys

import pytest

from harness.errors import GuestError, HarnessError, ToolMissing
from harness.trial import debugger, gdb

SSH = '#!/bin/sh\nfor last; do :; done\ncd "${0%/*}/guest" || exit\nexec sh -c "$last"\n'
GDB = f"""#!{sys.executable}
import json, sys
words = sys.argv[1:]
with open(sys.argv[0] + ".log", "a") as file:
    file.write(json.dumps(words) + "\\n")
if "info sharedlibrary" in words:
    print("From        To          Syms Read   Shared Object Library")
    print("                        No          LIBC")
    print("                        No          /none/libnone.so")
    print("0x1 0x2 Yes /tmp/harness/libgo.so")
"""


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def hung(tmp_path, monkeypatch):
    """A program that hangs in a stand-in for a guest, and a gdb that writes down how it is called."""
    for name in ("guest", "server", "bin"):
        (tmp_path / name).mkdir()
    for name in ("gdbserver", "ld-linux.so.2", "libc.so.6"):
        (tmp_path / "server" / name).write_text(name)
    (tmp_path / "libc.so.6").touch()
    script(tmp_path / "bin/gdb", GDB.replace("LIBC", str(tmp_path / "libc.so.6")))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(gdb.host, "find", lambda name: str(tmp_path / "bin/gdb") if name == "gdb" else None)
    monkeypatch.setattr(debugger, "_server", lambda package, say: tmp_path / "server")
    return debugger.HungProgram(
        name="s/p",
        guest="g",
        ssh=[str(script(tmp_path / "ssh", SSH)), "root@guest"],
        folder=str(tmp_path / "guest/tmp folder"),
        gdbserver="gdbserver:i386",
        pid=77,
        executable=tmp_path / "program",
        libraries={"/tmp/harness/libgo.so": tmp_path / "libgo.so"},
        sources=tmp_path,
    )


def calls(tmp_path):
    return [json.loads(line) for line in (tmp_path / "bin/gdb.log").read_text().splitlines()]


def test_a_gdbserver_is_shipped_once_and_gdb_is_attached_by_it(hung, tmp_path):
    (tmp_path / "guest/tmp folder").mkdir()
    messages = []
    assert debugger.attach(hung, tmp_path / "x.gdb", messages.append) == 0
    assert debugger.attach(hung, None, messages.append) == 0
    assert messages.count("shipping a gdbserver") == 1
    (server,) = (tmp_path / "guest/tmp folder").iterdir()
    assert {file.name for file in server.iterdir()} == {"gdbserver", "ld-linux.so.2", "libc.so.6"}
    assert all("set remotetimeout 300" in words for words in calls(tmp_path)), "gdb asks again after 2 s, and is lost"
    _, scripted, _, by_hand = calls(tmp_path)
    (connect,) = [word for word in scripted if word.startswith("target remote | ")]
    assert "--attach - 77" in connect and f"{server}/ld-linux.so.2" in connect
    assert {"-batch", "-x", str(tmp_path / "x.gdb"), str(tmp_path / "program"), "set auto-load off"} <= set(scripted)
    assert "-batch" not in by_hand and "-x" not in by_hand and connect in by_hand


LISTING = """
import os
root = next(word for word in words if word.startswith("set sysroot ")).removeprefix("set sysroot ")
files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
with open(sys.argv[0] + ".root", "a") as file:
    file.write(json.dumps(sorted(name.removeprefix(root) for name in files)) + "\\n")
"""


def test_what_gdb_lacks_comes_from_the_guest_and_a_library_that_cannot_be_had_is_done_without(hung, tmp_path):
    (tmp_path / "guest/tmp folder").mkdir()
    program = tmp_path / "bin/gdb"
    script(program, program.read_text() + LISTING)
    assert debugger.attach(hung, tmp_path / "x.gdb", lambda text: None) == 0
    first, second = map(json.loads, (tmp_path / "bin/gdb.root").read_text().splitlines())
    assert first == ["/tmp/harness/libgo.so"]
    assert second == sorted([*first, str(tmp_path / "libc.so.6")])


def test_a_process_that_has_gone_and_a_gdb_that_is_missing_are_told(hung, tmp_path, monkeypatch):
    (tmp_path / "guest/tmp folder").mkdir()
    script(tmp_path / "bin/gdb", "#!/bin/sh\necho 'Cannot attach to process 77: No such process' >&2\n")
    with pytest.raises(GuestError, match="guest g: gdb cannot attach to process 77: Cannot attach"):
        debugger.attach(hung, tmp_path / "x.gdb", lambda text: None)
    monkeypatch.setattr(gdb.host, "find", lambda name: None)
    with pytest.raises(ToolMissing, match="no gdb on this machine; Debian's package is gdb"):
        debugger.attach(hung, None, lambda text: None)


def test_a_guest_without_a_gdbserver_uses_its_own_gdb(hung, tmp_path, capfd):
    hung = hung.model_copy(update={"gdbserver": ""})
    (tmp_path / "guest/tmp folder").mkdir()
    (tmp_path / "x.gdb").write_text("bt\n")
    script(tmp_path / "bin/gdb", '#!/bin/sh\necho "$@"\n[ ! -f "$4" ] || cat "$4"\n')
    assert debugger.attach(hung, tmp_path / "x.gdb", lambda text: None) == 0
    assert capfd.readouterr().out == f"-batch -nx -x {tmp_path}/guest/tmp folder/script.gdb -p 77\nbt\n"
    assert debugger.attach(hung, None, lambda text: None) == 0
    assert "-q -p 77" in capfd.readouterr().out
    script(tmp_path / "ssh", "#!/bin/sh\n")  # which finds nothing
    with pytest.raises(HarnessError, match="names no gdbserver, and the guest has no gdb of its own"):
        debugger.attach(hung, None, lambda text: None)


def test_another_process_finds_a_program_that_hangs_for_as_long_as_somebody_is_there(hung, tmp_path):
    machine = tmp_path / "guests/one"
    machine.mkdir(parents=True)
    (tmp_path / "guests/broken").mkdir()
    (tmp_path / "guests/broken/hung.json").write_text("{")
    with hung.announced(machine):
        assert debugger.announced_programs(tmp_path / "guests") == {machine: hung}
    assert not debugger.announced_programs(tmp_path / "guests")
