"""The control guest made hostile, as data: a changed copy of its disk, and a description that changes single fields.

- What runs under its SSH server begins with every signal ignored that can be.
- Its link is slow: QEMU holds each packet back for a while (QEMU manual, `-object filter-buffer`), and dropbear takes
  24 KiB at a time.
- Its processor is slow: QEMU is niced; `busy` runs two loops beside it.
- Its clock jumps an hour ahead and two hours back, again and again.
- It has busybox and dropbear alone, and no folder of the harness's: the control is so anyway.

`pytest --hostile` runs any tests on it instead of the control; `tox run -e hostile` those that boot guests.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from harness import conf, paths
from harness.cache import Cache, digest
from harness.images import disk
from harness.images.bootfiles import find_boot_files

NAME = "linux-i386"
#: Microseconds for which a packet is held back.
HELD_BACK = 50_000
#: How much nicer than the tests QEMU and the loops are.
NICE = 3

#: The login shell: ignores what can be ignored, and becomes the shell. Signals: signal(7); 9 is KILL, 19 STOP.
_DEAF = f"""#!/bin/busybox sh
trap '' {" ".join(str(number) for number in range(1, 32) if number not in (9, 19))}
exec /bin/busybox sh "$@"
"""
_JUMPS = """#!/bin/busybox sh
while :; do
    sleep 3
    date -s @$(($(date +%s) + 3600))
    sleep 3
    date -s @$(($(date +%s) - 7200))
done >/dev/null 2>&1
"""
_QEMU = '#!/bin/sh\nexec nice -n {nice} {qemu} "$@"\n'


def description() -> dict[str, object]:
    """What differs from the control guest, as YAML has it; the disk and a QEMU that is niced are made in the cache."""
    own = conf.load()
    guest, files = own.guest(NAME), find_boot_files(NAME, own, print)
    base = files.disk
    assert base is not None

    def make(folder: Path) -> None:
        image = folder / "root.img"
        subprocess.run(["cp", "--sparse=always", base, image], check=True)
        image.chmod(0o644)
        system = disk.FileSystem(image, 0)
        system.write("/usr/bin/deaf", _DEAF.encode(), 0o755)
        system.write("/usr/bin/jumps", _JUMPS.encode(), 0o755)
        for path, old, new in (
            ("/etc/passwd", "/root:/bin/sh", "/root:/bin/deaf"),
            ("/etc/shells", "/bin/sh\n", "/bin/sh\n/bin/deaf\n"),
            ("/etc/inittab", "::ctrlaltdel:", "::respawn:/usr/bin/jumps\n::ctrlaltdel:"),
        ):
            text = system.read(path).decode()
            assert old in text, path
            system.write(path, text.replace(old, new).encode(), 0o644)
        image.chmod(0o444)
        niced = folder / Path(guest.qemu).name
        niced.write_text(_QEMU.format(nice=NICE, qemu=shutil.which(guest.qemu)))
        niced.chmod(0o755)

    key = digest([str(base), base.stat().st_mtime_ns, guest.qemu, _DEAF, _JUMPS, _QEMU, NICE])
    cached = Cache(paths.cache_dir()).make("test-guests", key, make, 100)
    return {
        "disk": {"file": str(cached / "root.img")},
        "qemu": str(cached / Path(guest.qemu).name),
        "qemu_args": [*guest.qemu_args, "-object", f"filter-buffer,id=slow,netdev=net,interval={HELD_BACK}"],
        "ready": {"timeout": "10m"},
    }


def configure(folder: Path) -> Path:
    """Write the user's configuration for a machine whose control guest is the hostile one. Returns the folder that
    XDG_CONFIG_HOME is to name. The toolchains that the user has recorded stay."""
    recorded = yaml.safe_load(conf.recorded().read_text()) if conf.recorded().is_file() else {}
    file = folder / "harness" / conf.recorded().name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**recorded, "guests": {NAME: description()}}))
    return folder


@contextmanager
def busy() -> Iterator[None]:
    """Two busy loops, as nice as the guest's QEMU, for the time of the block."""
    loops = [subprocess.Popen(["nice", "-n", str(NICE), "sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
