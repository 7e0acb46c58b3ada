"""A capsule: one trial in one file, with which others can repeat it without the harness.

It holds the program, its libgo, what was observed, and a POSIX shell script that boots the guest with QEMU and runs the
program over SSH. The guest's image comes with it, in a copy that a new key opens, or is named by its hashes. No key of
the user's own ever gets into it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import jinja2

from harness import conf, host, kvm
from harness.cache import file_digest
from harness.errors import GuestError, HarnessError, ProgramError
from harness.files import written_whole
from harness.guest import boot
from harness.guest.bootfiles import BootFiles
from harness.guest.qemu_command import hardware_arguments, qemu_version
from harness.invocation import command_line
from harness.programs.model import TrialSpec
from harness.progress import Reporter
from harness.results.store import Store
from harness.run import recordings
from harness.run.manifest import check_same, source_files
from harness.run.packed import add_recording
from harness.run.prepare import PreparedRun, fresh_guest, guest_setups, prepare_run
from harness.run.resolve import ResolvedRequest, repeat_request, resolve
from harness.trial import cores
from harness.trial.diagnostics import PREFIX
from harness.trial.execute import program_environment
from harness.trial.record import Trial

_README = """\
{program} on {guest} with the libgo {variant} came to: {verdict}
{reason}
{signature}

    ./run.sh{arguments}

boots the guest with QEMU and runs the program there. It needs {qemu}, ssh, sha256sum and
a POSIX shell. Standard output and standard error are the program's own; what run.sh says of itself begins with
`run.sh:`. Exit status: the program's (128 + N if signal N ended it), 124 if it was stopped after {limit} s, 125
if the guest or this machine is in trouble. PORT=N chooses another port of 127.0.0.1 than 10022.

    ./run.sh 20{arguments}

runs it 20 times, each time in a guest that has just booted, and counts how it ended.

{image}

program{files}, source/: what was run, and what it was compiled from
recording/, if it is here: the trial recorded. ./run.sh --replay{replay_arguments} replays it, with the same QEMU
observed/: what the trial wrote, and the diagnostics that were collected of it
{expected}manifest.json: the trial, its expectation, the guest's description, hashes, environment, QEMU's version
SHA256SUMS: the files that the guest boots from
"""
_EXPECTED = "expected/: the output that was expected of it\n"
_WITH = "image/ holds the guest's image, in a copy that only image/key may log in to."
_WITHOUT = """\
The guest's image is not in here: IMAGE_FOLDER must hold the files that SHA256SUMS names, and PRIVATE_KEY must be one
that may log in. An image that the harness built is in the folder that `harness image show {name}` prints,
and its key is ~/.cache/harness/ssh/id_ed25519."""


@dataclass(frozen=True)
class _Boot:
    """What a capsule's guest boots from: `names` are the files by the names that the script knows them by."""

    names: dict[str, Path]
    files: BootFiles
    drive: str


def pack(store: Store, number: int, work: Path, target: Path, with_image: bool, report: Reporter) -> None:
    """Write the capsule of a trial.

    Args:
        number: of the trial.
        target: the file to write, a tar archive packed by gzip.
        with_image: whether the guest's image comes with it.

    Raises:
        StoreError: there is no such trial.
        ProgramError: its program does not compile.
        HarnessError: what it ran no longer exists, or the file cannot be written.
        GuestError: the guest, which is booted for its image to get a new key, is in trouble.
    """
    run, trial = store.trial(number)
    if not target.parent.is_dir():
        raise HarnessError(f"{target}: there is no such folder to write to")
    resolved = resolve(repeat_request(store, number, work))
    spec = resolved.cells()[0]
    if spec.program.build.output_flags:
        again = command_line("rerun", str(number), work=work)
        raise HarnessError(
            f"trial {number} cannot be packed: the guest prints its program; `{again}` makes the trial again"
        )
    prepared = prepare_run(resolved, report)
    check_same(run, prepared.plan, f"trial {number} cannot be packed", whole=False)
    for output in prepared.artifacts[resolved.guests[trial.guest].toolchain].broken.values():
        raise ProgramError(f"trial {number} cannot be packed: {output}")
    say = partial(report.step, f"capsule of trial {number}")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as new, written_whole(target) as part:
            folder = Path(new)
            plain = boot_set = _named(trial.guest, resolved, prepared)
            if with_image:
                boot_set = _image(trial.guest, boot_set, resolved, folder, report)
            _fill(folder, spec, trial, resolved, prepared, boot_set, store.collected(number), with_image)
            if recorded := recordings.search(store, number, work):
                if changes := recordings.different(recorded):
                    text = f"its recording is left out, as it cannot be replayed: {'; '.join(changes)}"
                    report.note(f"capsule of trial {number}", text, answer=True)
                else:
                    say("packing its recording")
                    add_recording(folder, recorded, plain.names, with_image)
            say("packing")
            with tarfile.open(part, "w:gz", compresslevel=6) as archive:
                archive.add(folder, f"trial-{number}", filter=_nobody)
    except OSError as error:
        raise HarnessError(f"{target}: cannot be written: {error.strerror}") from error


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An archive's entry without this machine's names."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o755 if entry.isdir() else 0
    return entry


def _fill(
    folder: Path,
    spec: TrialSpec,
    trial: Trial,
    resolved: ResolvedRequest,
    prepared: PreparedRun,
    boot_set: _Boot,
    collected: dict[str, bytes],
    with_image: bool,
) -> None:
    """Put everything but the image into a folder."""
    guest = resolved.guests[trial.guest]
    artifacts = prepared.artifacts[guest.toolchain]
    with_libgo = not spec.program.is_c
    executable = artifacts.programs[spec.variant, spec.program.name]
    libraries = list(artifacts.libraries(guest, spec.variant, with_libgo).values())
    packed = [executable, *libraries, *_beside(executable)]
    for file in packed:
        shutil.copyfile(file, folder / file.name)
    (folder / executable.name).chmod(0o755)
    copy_sources(source_files(spec.program), folder / "source")
    expected = spec.program.expected
    outputs = {"stdout": expected.stdout, "output": expected.output}
    for name, text in outputs.items():
        if text is not None:
            (folder / "expected").mkdir(exist_ok=True)
            (folder / "expected" / name).write_bytes(text)
    observed = {"stdout": trial.stdout, "stderr": trial.stderr}
    parts = {name: data for name, data in collected.items() if name.startswith(PREFIX)}
    parts.pop(recordings.PART, None)  # it says where the recording is on this machine
    observed |= parts
    for name, data in observed.items():
        path = folder / "observed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sums = {name: file_digest(file) for name, file in boot_set.names.items()}
    (folder / "SHA256SUMS").write_text("".join(f"{value}  {name}\n" for name, value in sums.items()))
    by_kvm = kvm.may_work()
    arguments = hardware_arguments(
        trial.guest, guest, boot_set.files, boot_set.drive, by_kvm, "@PORT@", "file:console.log"
    )
    command = [Path(guest.qemu).name, *arguments]
    variant = resolved.variants[spec.variant].config
    setup = guest_setups(resolved, prepared)[trial.guest]
    environment = program_environment(setup, spec, variant, with_cores=False)
    target = f"{guest.folder}/capsule"
    if with_libgo:
        environment["LD_LIBRARY_PATH"] = target
    if preloads := artifacts.preloads.get(spec.variant):
        environment["LD_PRELOAD"] = ":".join(f"{target}/{library.name}" for library in preloads)
    script = run_script(
        command=shlex.join(command).replace("@PORT@", "$port"),
        env=environment,
        folder=target,
        guest=guest,
        files=boot_set.files,
        libraries=[library.name for library in libraries],
        archives=[file.name for file in _beside(executable)],
        spec=spec,
        result=f"{trial.verdict}, {trial.reason}",
    )
    (folder / "run.sh").write_text(script)
    (folder / "run.sh").chmod(0o755)
    record = asdict(trial) | {"stdout": "observed/stdout", "stderr": "observed/stderr"}
    sources = sorted(path for path in (folder / "source").rglob("*") if path.is_file())
    hashes = {
        str(file.relative_to(folder)): file_digest(file)
        for file in (*(folder / each.name for each in packed), *sources)
    }
    manifest = {
        "trial": record,
        "expected": str(expected),
        "guest": guest.model_dump(mode="json"),
        "image": sums,
        "sha256": hashes,
        "environment": environment,
        "qemu": qemu_version(trial.guest, guest),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    readme = _README.format(
        program=trial.program,
        guest=trial.guest,
        variant=trial.variant,
        verdict=trial.verdict,
        reason=trial.reason,
        signature=trial.signature,
        arguments="" if with_image else " IMAGE_FOLDER PRIVATE_KEY",
        replay_arguments="" if with_image else " IMAGE_FOLDER",
        qemu=command[0],
        limit=_limit(spec),
        image=_WITH if with_image else _WITHOUT.format(name=guest.image or "IMAGE"),
        files="".join(f", {file.name}" for file in packed[1:]),
        expected=_EXPECTED if any(text is not None for text in outputs.values()) else "",
    )
    (folder / "README.txt").write_text(readme)


def _limit(spec: TrialSpec) -> int:
    """A program's time limit as `sleep` of POSIX takes it, in whole seconds."""
    return math.ceil(spec.program.timeout)


def _beside(executable: Path) -> list[Path]:
    """The archive of files that a program runs beside, if it has one (harness/build/gotest.py)."""
    archive = executable.with_name("files.tar")
    return [archive] if archive.is_file() else []


def copy_sources(files: Sequence[Path], target: Path) -> None:
    """Copy the files that a program is compiled from to a new folder, as they lie beside each other.

    Raises:
        OSError: one cannot be read, or not be written.
    """
    places = [Path(os.path.normpath(file.absolute())) for file in files]
    top = Path(os.path.commonpath([place.parent for place in places]))
    for place in places:
        copy = target / place.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, copy)


def run_script(
    command: str,
    env: Mapping[str, str],
    folder: str,
    guest: conf.Guest,
    files: BootFiles,
    libraries: Sequence[str],
    archives: Sequence[str],
    spec: TrialSpec,
    result: str,
) -> str:
    """The script that boots the guest and runs the program.

    Args:
        command: QEMU's, for a shell; `$port` stands for the port of this machine.
        env: the program's environment.
        folder: where the files go in the guest; the program goes into a folder of its own there, where it runs.
        libraries, archives: the names of the files that go there; archives are unpacked, and have the folder `test`.
        result: what the trial came to, in words.
    """
    place = f"{folder}/program"
    executable = f"{place}/{cores.executable(spec.program.source.stem)}"
    home = f"{place}/test" if archives else place
    argv = ["env", *(f"{key}={value}" for key, value in env.items()), executable, *spec.program.args]
    pid = shlex.quote(f"{folder}/pid")
    # The shell around it makes an exit status of a signal, which SSH would not tell.
    run = f"cd {shlex.quote(home)} && sh -c {shlex.quote(f'echo $$ >{pid}; exec {shlex.join(argv)}')}; exit $?"
    unpack = "".join(f" && tar -xf {shlex.quote(f'{folder}/{name}')}" for name in archives)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True)
    templates.filters["quote"] = lambda value: shlex.quote(str(value))
    return templates.get_template("capsule.sh.j2").render(
        command=command,
        folder=folder,
        files=[*libraries, *archives],
        executable=executable,
        make=f"mkdir -p {shlex.quote(place)}",
        unpack=f"cd {shlex.quote(place)}{unpack}" if unpack else "",
        start=run,
        quit=f"kill -QUIT $(cat {pid})",
        kill=f"kill -KILL $(cat {pid})",
        qemu=shlex.split(command)[0],
        guest=spec.guest,
        user=guest.ssh.user,
        host_key=files.host_key or "",
        ready_console=guest.ready.console or "",
        ready_command=guest.ready.command,
        ready_expect=guest.ready.expect,
        boot_seconds=int(guest.ready.timeout),
        limit=_limit(spec),
        told=result,
    )


def _named(name: str, resolved: ResolvedRequest, prepared: PreparedRun) -> _Boot:
    """The files of a guest as they are, by names that differ."""
    files, disk = prepared.files[name], resolved.guests[name].disk
    names: dict[str, Path] = {}
    for file in (files.disk, files.kernel, files.initrd, *(path for path, _ in files.modules)):
        if file is not None and file not in names.values():
            names[file.name if file.name not in names else f"{len(names)}-{file.name}"] = file
    by_file = {file: Path("image") / known for known, file in names.items()}
    moved = replace(
        files,
        disk=by_file.get(files.disk) if files.disk else None,
        kernel=by_file.get(files.kernel) if files.kernel else None,
        initrd=by_file.get(files.initrd) if files.initrd else None,
        modules=tuple((by_file[path], args) for path, args in files.modules),
    )
    return _Boot(names, moved, f"file={moved.disk},format={disk.format},snapshot=on" if disk else "")


def _image(name: str, plain: _Boot, resolved: ResolvedRequest, folder: Path, report: Reporter) -> _Boot:
    """Copy what a guest boots from. The disk is that of a guest which was booted for it, and given a new key."""
    say: Callable[[str], None] = partial(report.step, f"image {name}")
    image = folder / "image"
    image.mkdir()
    if plain.files.disk is None:
        raise HarnessError(f"guest {name} has no disk that a new key could be put on; leave out --image")
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "capsule", "-f", image / "key", what="SSH key")
    public = (image / "key.pub").read_bytes()
    with fresh_guest(name, resolved.configuration, resolved.request.work, report) as running:
        shell = boot.connect(running)
        status, _, err = shell.run("cat >.ssh/authorized_keys", stdin=public)
        if status:
            raise GuestError(f"guest {name}: the new key cannot be written: {err.decode(errors='replace').strip()}")
        say("halting the guest that has the new key")
        overlay = boot.halt(running, shell)
        say("packing its disk")
        convert = ["qemu-img", "convert", "-c", "-O", "qcow2", str(overlay), str(image / "disk.qcow2")]
        process = subprocess.run(convert, capture_output=True, text=True, errors="replace", check=False)
        if process.returncode:
            raise HarnessError(f"{image / 'disk.qcow2'}: {' '.join(process.stderr.split())}")
    names = {"disk.qcow2": image / "disk.qcow2"}
    for known, file in plain.names.items():
        if known != plain.files.disk.name:
            names[known] = image / known
            shutil.copyfile(file, names[known])
    return _Boot(names, plain.files, "file=image/disk.qcow2,format=qcow2,snapshot=on")
