"""A recording in a capsule: what is packed of it, and the script that replays it with nothing but the same QEMU."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import jinja2

from harness import host
from harness.cache import file_digest
from harness.guest import datadisk
from harness.guest.recording import CONSOLE_MARK, PORT_MARK, Recording
from harness.run.recordings import DATA, RECORD, RecordedTrial

#: Where a recording is in a capsule, and the file there of a disk that the image's copy is not: it has another key.
FOLDER, DISK = "recording", "disk.qcow2"
SCRIPT = "replay.sh"


def add_recording(folder: Path, recorded: RecordedTrial, names: Mapping[str, Path], with_image: bool) -> None:
    """Put a recording and the script that replays it into a capsule's folder.

    Args:
        names: the files that the guest boots from, by their names in the image's folder.
        with_image: whether the disk as it was recorded comes with it.

    Raises:
        HarnessError: qemu-img fails.
        OSError: a file cannot be read or written.
    """
    stored, target = recorded.stored, folder / FOLDER
    target.mkdir()
    for file in (recorded.log, recorded.packets, recorded.console, recorded.folder / RECORD):
        shutil.copyfile(file, target / file.name)
    for stream in ("stdout", "stderr"):
        text = "".join(piece.text for piece in stored.output if piece.stream == stream)
        (target / stream).write_bytes(text.encode("latin-1"))
    places = {
        file.path: f"image/{name}"
        for name, path in names.items()
        for file in stored.files.values()
        if file.path == str(path)
    }
    drives: dict[int, str] = {}
    if stored.disk:
        disk = Path(stored.files["disk"].path)
        drives[1] = f"file={places[str(disk)]},format={stored.disk.format},snapshot=on"
        if with_image:
            _convert(disk, stored.disk.format, target / DISK)
            drives[1] = f"file={FOLDER}/{DISK},format=qcow2,snapshot=on"
    if stored.data:  # the guest has seen how large the disk is
        overlay = target / "overlay.qcow2"
        size = str(datadisk.SIZE)
        host.run(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            recorded.folder / DATA,
            overlay,
            size,
            what="the recording's data disk",
        )
        _convert(overlay, "qcow2", target / "data.qcow2")
        overlay.unlink()
        drives[2] = f"file={FOLDER}/data.qcow2,format=qcow2,snapshot=on"
    command = _command(recorded, places, drives)
    sums = {file.name: file_digest(file) for file in sorted(target.iterdir()) if file.name != RECORD}
    (target / "SHA256SUMS").write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True)
    templates.filters["quote"] = lambda value: shlex.quote(str(value))
    script = templates.get_template("replay.sh.j2").render(
        command=shlex.join(command),
        qemu=command[0],
        version=stored.version,
        title=f"{stored.program}: {stored.title}",
        seconds=round(stored.seconds),
    )
    (folder / SCRIPT).write_text(script)
    (folder / SCRIPT).chmod(0o755)


def _convert(disk: Path, form: str, target: Path) -> None:
    """Write a disk as a compressed qcow2 image."""
    host.run("qemu-img", "convert", "-c", "-f", form, "-O", "qcow2", disk, target, what="the recording's disk")


def _command(recorded: RecordedTrial, places: Mapping[str, str], drives: Mapping[int, str]) -> list[str]:
    """QEMU's command line in the folder where the script runs. It ends by itself where the log does."""
    stored = recorded.stored
    command = Recording(Path(FOLDER), True, stored.template).command(0, "console.log")
    words = [Path(stored.qemu).name]
    for word in command:
        if word == "-no-shutdown":
            continue
        for path in sorted(places, key=len, reverse=True):
            word = word.replace(path, places[path])
        for number, drive in drives.items():
            word = re.sub(rf"^file=/dev/fdset/{number},format=qcow2,cache=unsafe", drive, word)
        words.append(word)
    assert not any(mark in word for mark in (PORT_MARK, CONSOLE_MARK) for word in words)
    return words
