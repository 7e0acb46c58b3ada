"""What the configuration may say: guests, toolchains, variants and known failures, with units and defaults.

Each model refuses keys that it does not know. Knows nothing of files but their names.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.conf import naming
from harness.conf.system import SYSTEMS, OperatingSystem
from harness.conf.units import seconds


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error
    return value


def _clock(value: str) -> str:
    try:
        value.format(seconds=0)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{value!r}: its only field is {{seconds}}, and a plain brace is written twice") from error
    return value


def _mount(value: str) -> str:
    try:
        value.format(device="", folder="")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        fields = "{device} and {folder}"
        raise ValueError(f"{value!r}: its only fields are {fields}, and a plain brace is written twice") from error
    return value


def _unmount(value: str) -> str:
    try:
        value.format(folder="")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{value!r}: its only field is {{folder}}, and a plain brace is written twice") from error
    return value


def _host_key(value: str) -> str:
    from paramiko import Transport  # here, since it takes longer than all else and few files have such a key

    known = sorted(Transport._key_info)  # type: ignore[attr-defined]  # what SecurityOptions.key_types takes
    kind, blob = (*value.split(), "", "")[:2]
    if value and not (kind in known and blob):
        raise ValueError(f"{value!r} is not TYPE BASE64, as in ssh_host_*_key.pub; known types: {', '.join(known)}")
    try:
        base64.b64decode(blob, validate=True)
    except ValueError as error:
        raise ValueError(f"{blob!r} is not base64") from error
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"{value!r} is not an absolute path")
    return value


def _device(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError(f"{value!r} is neither an absolute path, such as /dev/ttyS1, nor empty")
    return value


def _numbered(value: object) -> object:
    if isinstance(value, dict):  # else pydantic's first word is that a table is no name
        for number in value:
            if not re.fullmatch(r"[0-9]{1,3}", str(number)) or not 1 <= int(number) <= 127:
                raise ValueError(f"{number!r} is not the number of a signal, 1 to 127")
    return value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


#: The environment variable with the seed of a trial.
SEED = "HARNESS_SEED"
#: A time in seconds, written as 30, 30s, 2m or 500ms.
Seconds = Annotated[float, BeforeValidator(seconds)]
#: A Python regular expression.
Regex = Annotated[str, AfterValidator(_regex)]
#: A file: `/x`, `~/x`, `./x` and `../x` are paths (seen from the YAML file), a bare name is a file of the image.
FileName = Annotated[str, Field(min_length=1)]
#: Environment variables; numbers are taken as text.
Environment = Annotated[dict[str, Annotated[str, BeforeValidator(_text)]], AfterValidator(naming.environment)]


class Model(BaseModel):
    """The root of all models: unknown keys are errors, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Disk(Model):
    """A guest's disk. The harness never writes to the file: each guest gets an overlay of its own."""

    file: FileName
    format: Literal["raw", "qcow2"] = "raw"
    interface: Literal["virtio", "ide", "scsi"] = "virtio"


class DataDisk(Model):
    """The second disk, which brings a guest its agent and libgos: QEMU's interface, and a shell command that mounts it.

    In `mount`, `{device}` stands for the disk and `{folder}` for the folder where it is to be seen. An empty one means
    that there is no such disk. What is not given is as the guest's first disk and its operating system have it. The
    same commands serve the exchange disk (harness/guest/exchange.py), which is unmounted by `unmount`; where `mount`
    names no `{device}`, there is none.
    """

    interface: Literal["virtio", "ide", "scsi"] | None = None
    mount: Annotated[str, AfterValidator(_mount)] | None = None
    unmount: Annotated[str, AfterValidator(_unmount)] | None = None


#: The place of the exchange disk among the drives of its interface; the one before is where QEMU has a -cdrom.
EXCHANGE_INDEX = 3


class Module(Model):
    """A multiboot module, loaded after the kernel (QEMU manual, "-initrd file1 arg=foo,file2")."""

    file: FileName
    args: str = ""


class Ssh(Model):
    """How to reach the guest's shell. Without `key`, the harness's own key; without `host_key`, the image's."""

    user: str = "root"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    key: FileName | None = None
    host_key: Annotated[str, AfterValidator(_host_key)] | None = None


class Ready(Model):
    """How to know that the guest is up: the console's sign if there is one, then a command's answer over SSH."""

    console: Regex | None = None
    command: str = "uname -s"
    expect: Regex = "."
    timeout: Seconds = 180.0


class Halt(Model):
    """How to end the guest: a command, and what the console says when the machine may be switched off.

    What is not given is as the guest's operating system has it.
    """

    command: str | None = None
    console: Regex | None = None
    timeout: Seconds = 20.0


class Record(Model):
    """What differs in the machine of a guest that is recorded, where QEMU cannot record the one that is described."""

    nic: str | None = None
    interface: Literal["virtio", "ide", "scsi"] | None = None


class Guest(Model):
    """A machine that can be booted.

    `gdbserver` is the Debian package, NAME:ARCHITECTURE, of a gdbserver that runs in the guest, if there is one.
    `memory` is in MiB. `signals` are names by number, or a system's by its name; `system` names the operating system
    whose ways the guest has (harness/conf/system.py), by default the one that `signals` names. `channel` is the
    device that the second serial port is in the guest, by which the agent is reached; empty where there is to be none,
    and by default the operating system's.
    """

    image: str | None = None
    toolchain: str
    qemu: str = "qemu-system-i386"
    machine: str = "pc"
    cpu: str | None = None
    memory: Annotated[int, Field(ge=16, le=1 << 20)] = 512
    cpus: Annotated[int, Field(ge=1, le=255)] = 1
    disk: Disk | None = None
    data_disk: DataDisk = DataDisk()
    nic: str = "virtio-net-pci"
    kernel: FileName | None = None
    append: str = ""
    initrd: FileName | None = None
    modules: list[Module] = []
    qemu_args: list[str] = []
    channel: Annotated[str, AfterValidator(_device)] | None = None
    ssh: Ssh = Ssh()
    ready: Ready = Ready()
    halt: Halt = Halt()
    system: str | None = None
    signals: Annotated[str | dict[int, str] | None, BeforeValidator(_numbered)] = None
    env: Environment = {}
    folder: Annotated[str, AfterValidator(_absolute)] = "/tmp/harness"
    set_clock: Annotated[str, AfterValidator(_clock)] = "date -s @{seconds} >/dev/null"
    provides: list[str] = []
    record: Record = Record()
    gdbserver: Annotated[str, Field(pattern=r"^([a-z0-9.+-]+:[a-z0-9]+)?$")] = ""

    @property
    def os_name(self) -> str:
        """The operating system's name; `posix` if the description names none that is known."""
        named = self.system or (self.signals if isinstance(self.signals, str) else None)
        return named if named in SYSTEMS else "posix"

    @property
    def os(self) -> OperatingSystem:
        """The operating system's ways; those of POSIX alone if the description names none that is known."""
        return SYSTEMS[self.os_name]

    @property
    def data_interface(self) -> str | None:
        """QEMU's interface of the data disk; None for a guest that has none."""
        interface = self.data_disk.interface or (self.disk.interface if self.disk else None)
        return interface if interface and self.mounts("") else None

    def mounts(self, folder: str) -> list[str]:
        """The shell commands that may mount the data disk, the likeliest first.

        Args:
            folder: where it is to be seen.
        """
        devices = self.os.second_disks if "{device}" in self._mount else {self._disk_interface: ("",)}
        return self._mounts(devices, folder)

    def exchange_mounts(self, folder: str) -> list[str]:
        """The same for the exchange disk."""
        return self._mounts(self.os.exchange_disks, folder) if "{device}" in self._mount else []

    def exchange_unmount(self, folder: str) -> str:
        """The shell command that unmounts the exchange disk; empty where none is known."""
        command = self.os.unmount if self.data_disk.unmount is None else self.data_disk.unmount
        return command.format(folder=folder)

    @property
    def exchange_interface(self) -> str | None:
        """QEMU's interface of the exchange disk; None for a guest that has none."""
        place_taken = any(f"index={EXCHANGE_INDEX}" in word for word in self.qemu_args)
        usable = self.exchange_mounts("") and self.exchange_unmount("") and not place_taken
        return self._disk_interface if usable else None

    @property
    def channels(self) -> tuple[str, ...]:
        """The devices that the serial port by which the agent is reached may have in the guest."""
        if self.channel is not None:
            return (self.channel,) if self.channel else ()
        return self.os.channels if re.match("pc|q35", self.machine) else ()

    @property
    def _disk_interface(self) -> str:
        return self.data_disk.interface or (self.disk.interface if self.disk else "")

    @property
    def _mount(self) -> str:
        return self.os.mount if self.data_disk.mount is None else self.data_disk.mount

    def _mounts(self, devices: Mapping[str, tuple[str, ...]], folder: str) -> list[str]:
        """The commands that mount one of the devices that a disk of this interface may be."""
        names = devices.get(self._disk_interface, ()) if self._mount else ()
        return [self._mount.format(device=name, folder=folder) for name in names]


class Build(Model):
    """How a toolchain is built from Debian's gcc-N-source.

    `configure` are options of GCC's configure; `patches` are Debian's, by their names in that package; `multiarch` is
    what Debian calls the folder of the target's libraries; `sysroot` are files that must be among the sysroot's headers
    or libraries, each with the package that brings it.
    """

    configure: list[str] = []
    patches: list[str] = []
    multiarch: str
    sysroot: dict[str, str] = {}


class Toolchain(Model):
    """The compilers for a target triple.

    `prefix` comes before each tool's name (`i686-linux-gnu-`, `/opt/hurd/bin/i686-gnu-`), else the triple and a dash;
    `gcc` picks a major version, else the newest that is installed; `source` is GCC's source as a folder or an archive,
    else Debian's gcc-N-source; `build` says how the compilers are made if Debian has none, and
    `unavailable` why they cannot be made.
    """

    triple: str
    prefix: str | None = None
    gcc: Annotated[int, Field(ge=12)] | None = None
    sysroot: FileName | None = None
    flags: list[str] = []
    configure: list[str] = []
    source: FileName | None = None
    build: Build | None = None
    unavailable: str = ""


class Variant(Model):
    """A libgo: pristine, or with patches, compiler flags, configure options, or environment of the programs.

    `tree` is a work tree made by `harness variant new`: what was edited there is one more patch. `prebuilt` is the
    libgo that came with the toolchain. `trace` adds the life-cycle trace. `only` names the triples that it is for,
    `lacks` what its programs cannot rely on though the guest provides it. `preload` are C files that are compiled as
    shared libraries and preloaded, in their order. The programs of a `seeded` one find their trial's seed in SEED.
    """

    about: str = ""
    patches: list[FileName] = []
    tree: FileName | None = None
    flags: list[str] = []
    configure: list[str] = []
    prebuilt: bool = False
    trace: bool = False
    env: Environment = {}
    only: list[str] = []
    lacks: list[str] = []
    preload: Annotated[list[FileName], BeforeValidator(_listed)] = []
    seeded: bool = False

    @model_validator(mode="after")
    def _prebuilt_is_as_it_is(self) -> Variant:
        if self.prebuilt and (self.patches or self.tree or self.flags or self.configure or self.trace):
            raise ValueError("a prebuilt libgo cannot be patched, traced or configured")
        return self

    def fits(self, triple: str) -> bool:
        """Whether it is for programs of a target triple."""
        return not self.only or triple in self.only


class Special(Model):
    """What is said of a program beside what its source says.

    `skip` is why it is not run; in `env`, `{goarch}` stands for what Go calls the target's processor.
    """

    skip: str = ""
    args: list[str] = []
    env: Environment = {}
    expect: str = ""
    flags: list[str] = []
    needs: list[str] = []
    timeout: Seconds | None = None


class Suite(Model):
    """A suite in GCC's source.

    Attributes:
        kind: go.test (programs that say in their first lines what to do), torture (each program with each of the
            options), testprog (one binary, which takes a program's name) or packages (the tests of libgo's packages).
        source: its folder, or the list of its packages, below GCC's top folder.
        options: named lists of compiler flags.
        programs: what is said of single programs; in a name `*` stands for any text.
    """

    about: str
    kind: Literal["go.test", "torture", "testprog", "packages"]
    source: str
    timeout: Seconds
    options: dict[str, list[str]] = {}
    programs: dict[str, Special] = {}


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Expected(Model):
    """A known failure: the cells that it is about, how they end, why, and until when that counts.

    In `guest`, `variant` and `program`, `*` stands for any text. `signature` is found in a crash's or hang's signature.
    `expires` is the last day on which it counts; `flaky` says that the cells may pass too.
    """

    guest: str = "*"
    variant: str = "*"
    program: Annotated[str, Field(min_length=1)]
    verdict: Annotated[list[Literal["fail", "crash", "hang", "kills guest"]], BeforeValidator(_listed)] = []
    signature: Regex = ""
    reason: Annotated[str, Field(min_length=1)]
    expires: date
    flaky: bool = False

    @model_validator(mode="after")
    def _says_how_it_ends(self) -> Expected:
        if not self.verdict and not self.signature:
            raise ValueError("has neither verdict nor signature")
        return self
