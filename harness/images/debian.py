"""Images of kind `debian`: a kernel, an initial RAM disk and a root file system made of Debian's packages.

All work is left to the host's tools (apt, dpkg-deb, cpio, fakeroot, mke2fs, dropbearkey) and none of it needs root.
Packages come from the archive the host itself is configured with, and apt checks their signatures as it does for the
host. Knows nothing of where images are kept.
"""

from __future__ import annotations

import email
import gzip
import lzma
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from harness import cache, packages
from harness.errors import ImageError
from harness.host import run, which
from harness.images import recipe as recipes

#: The programs of the host that a build runs, missing ones told before anything is downloaded.
_TOOLS = ("apt-cache", "apt-get", "cpio", "dpkg-deb", "dropbearkey", "fakeroot", "mke2fs")

#: What a source's options say about trust and age; taken over from the host's file (sources.list(5)).
_KEPT = ("signed-by", "check-valid-until", "check-date")

#: What no program of the guest reads.
_UNREAD = ("usr/share/bug", "usr/share/doc", "usr/share/lintian", "usr/share/locale", "usr/share/man")

#: Packages that a kernel's package is split into. Its other dependencies make initial RAM disks, which is done here.
_KERNEL_PARTS = re.compile(r"linux-(?:base|binary|image|modules)-\S+")

#: apt's settings besides those of packages.write_apt_conf: one architecture, and sources and package lists of its own.
_APT_CONF = """\
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ {architectures} }};
APT::Default-Release "";
APT::Update::Error-Mode "any";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{work}/preferences";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{work}/sources";
Dir::Log "{work}/log";
Dir::State "{work}/state";
Dir::State::lists "{work}/state/lists";
Dir::State::status "{work}/status";
"""


class Recipe(recipes.Recipe):
    """What recipe.yaml says; recipe.yaml of linux-i386 explains each key."""

    kind: Literal["debian"]
    architecture: str = Field(pattern=r"^[a-z0-9]+$")
    kernel: list[str] = Field(min_length=1)
    modules: list[str]
    optional_modules: list[str] = Field(default=[])
    packages: list[str]
    root_mib: int = Field(ge=16)


@dataclass(frozen=True)
class Source:
    """A component of a suite that the host's apt has an index of, as `apt-get indextargets` tells it."""

    uri: str
    suite: str
    codename: str
    origin: str
    component: str
    entry: str

    #: The fields as indextargets names them (apt-get(8), and the list it prints without --format).
    FORMAT = "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)|$(SOURCESENTRY)"


def codename() -> str:
    """The VERSION_CODENAME of the host's os-release(5), such as `bookworm`.

    Raises:
        ImageError: the host has none.
    """
    return codenames()[0]


def codenames() -> list[str]:
    """What the archive may call the host's release. Testing and unstable have one os-release(5) file: its
    VERSION_CODENAME is testing's, and its PRETTY_NAME ends in `/sid` (Debian's package base-files).

    Raises:
        ImageError: the host has no VERSION_CODENAME.
    """
    try:
        release = platform.freedesktop_os_release()
        names = [release["VERSION_CODENAME"]]
    except (OSError, KeyError) as error:
        raise ImageError("this system's os-release file gives no VERSION_CODENAME; images need Debian") from error
    return [*names, "sid"] if release.get("PRETTY_NAME", "").endswith("/sid") else names


def build(
    recipe: dict[str, Any],
    folder: Path,
    out: Path,
    *,
    public_key: str,
    progress: Callable[[str], None],
    bases: Sequence[Path] = (),
) -> dict[str, Any]:
    """Make vmlinuz, initrd.gz and root.img.

    Args:
        recipe: what recipe.yaml says.
        folder: the recipe's folder, with init, initramfs-init and etc/.
        bases: the folders of the recipes that it is based on, the nearest first. Files that it lacks are theirs.
        out: the folder to fill.
        public_key: the OpenSSH public key that may log in as root.
        progress: is told what is being done.

    Returns:
        The manifest's part on codename, packages, kernel, modules, host key and tools.

    Raises:
        ImageError: the recipe is wrong, apt cannot get a package, or a tool failed.
        ToolMissing: a program that is needed is not installed.
    """
    folders = [folder, *bases]
    wanted = check_package_index(recipe, folders)
    for name in _TOOLS:
        which(name)
    work = out / "work"
    progress(f"reading the package lists of Debian {codename()}")
    apt = Apt(work, wanted.architecture)
    progress("downloading packages")
    debs = apt.install(wanted.packages)
    kernel_debs = apt.kernel(wanted.kernel)

    progress("making the initial RAM disk")
    root, kernel = work / "root", work / "kernel"
    for deb in kernel_debs:
        run("dpkg-deb", "-x", deb, kernel, what=f"unpacking {deb.name}")
    version, vmlinuz, modules = kernel_parts(kernel, wanted)
    for deb in debs:
        run("dpkg-deb", "-x", deb, root, what=f"unpacking {deb.name}")
    merge_usr(root)
    shutil.copy(vmlinuz, out / "vmlinuz")
    _initrd(out / "initrd.gz", work / "initrd", _find(folders, "initramfs-init"), root / "bin/busybox", modules)

    progress("making the root file system")
    host_key = _furnish(root, folders, public_key)
    _file_system(root, out / "root.img", wanted.root_mib)
    result = {
        "codename": codename(),
        "packages": [_package(deb) for deb in sorted([*debs, *kernel_debs])],
        "kernel": version,
        "modules": [name for name, _ in modules],
        "host_key": host_key,
        "tools": {"mke2fs": _version("mke2fs", "-V"), "apt": _version("apt-get", "--version")},
    }
    shutil.rmtree(work)
    return result


def package_file(package: str, path: str) -> bytes:
    """A file of a package of the host's own archive, whose signatures apt checks; nothing is installed.

    Args:
        package: a package for all architectures.
        path: the file's path in it, without a slash at its beginning.

    Raises:
        ImageError: the host is no Debian, its archive has no such package, or that has no such file.
        ToolMissing: apt or dpkg is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        apt = Apt(work / "apt", "amd64")
        for deb in apt.install([package]):
            run("dpkg-deb", "-x", deb, work / "files", what=f"unpacking {deb.name}")
        try:
            return (work / "files" / path).read_bytes()
        except OSError as error:
            raise ImageError(f"Debian {codename()}'s package {package} has no file {path}") from error


def check_package_index(recipe: dict[str, Any], folders: Sequence[Path]) -> Recipe:
    """A recipe of this kind as a model, with its files looked for in the folders. Raises ImageError."""
    wanted = recipes.check(Recipe, recipe, folders[0])
    for name in ("init", "initramfs-init", "etc/passwd"):
        _find(folders, name)
    return wanted


def _find(folders: Sequence[Path], name: str) -> Path:
    """A recipe's file: its own, or that of the nearest base that has it. Raises ImageError."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ImageError(f"{folders[0]}: the recipe's file {name} is missing")


# apt


class Apt:
    """apt with a state of its own below a folder, filled from the archive's main suite.

    Attributes:
        conf_file: its configuration, for `apt-get -c`.

    Raises:
        ImageError: the host has no such suite, or apt cannot read it.
    """

    def __init__(self, work: Path, architecture: str) -> None:
        self._work = work
        for name in ("preferences", "sources", "kernel-debs"):
            (work / name).mkdir(parents=True)
        architectures = " ".join(f'"{name}";' for name in _architectures(architecture))
        settings = _APT_CONF.format(work=work, architecture=architecture, architectures=architectures)
        self.conf_file = packages.write_apt_conf(work, settings)
        targets = run(
            "apt-get", "indextargets", "--format", Source.FORMAT, "Created-By: Packages", what="the host's apt sources"
        )
        sources = main_suite(read_targets(targets), codenames())
        stanzas = [stanza(source, _options(source), architecture) for source in sources]
        (work / "sources/main.sources").write_text("\n".join(stanzas))
        self._run("update", what="reading the package lists")

    def _run(self, *arguments: str, what: str, folder: Path | None = None) -> str:
        return run("apt-get", "-c", self.conf_file, *arguments, what=what, folder=folder)

    def install(self, names: Iterable[str]) -> list[Path]:
        """The .deb files of packages and of all that they depend on."""
        self._run("install", "-y", "--download-only", "--no-install-recommends", *names, what="downloading packages")
        return sorted((self._work / "cache/archives").glob("*.deb"))

    def kernel(self, candidates: Sequence[str]) -> list[Path]:
        """The .deb files that make up the first kernel there is, without what it depends on otherwise.
        Raises ImageError if Debian has none of them."""
        for candidate in candidates:
            if self._show(candidate):
                break
        else:
            raise ImageError(f"Debian {codename()} has no package {' or '.join(candidates)}")
        _, colon, architecture = candidate.partition(":")
        names = [candidate]
        for name in names:  # grows on the way
            fields = self._show(name)
            parts = _KERNEL_PARTS.findall(fields.get("Depends", "") if fields else "")
            more = dict.fromkeys(f"{part}{colon}{architecture}" for part in parts)
            names += [part for part in more if part not in names]
        folder = self._work / "kernel-debs"
        self._run("download", *names, what="downloading the kernel", folder=folder)
        return sorted(folder.glob("*.deb"))

    def _show(self, name: str) -> Message | None:
        try:
            text = run("apt-cache", "-c", self.conf_file, "show", "--no-all-versions", name, what=name)
        except ImageError:  # apt-cache fails when there is no such package
            return None
        return email.message_from_string(text)


def read_targets(text: str) -> list[Source]:
    """The sources that `apt-get indextargets` printed in Source.FORMAT."""
    rows = (line.split("|") for line in text.splitlines())
    return [Source(*row) for row in rows if len(row) == 6]


def main_suite(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """The sources that are Debian's main suite of the first codename that there are any of, each once.

    Updates and security are left out on purpose: for architectures that few use, their indexes are now and then out of
    step with the main suite's, and a package's dependencies can then not be met.

    Raises:
        ImageError: there is none.
    """
    for name in names:
        chosen = {
            (source.uri, source.suite): source
            for source in sources
            if (source.origin, source.codename, source.component) == ("Debian", name, "main")
        }
        if chosen:
            return list(chosen.values())
    raise ImageError(
        f"this system's apt has no index of Debian {' or '.join(names)} main: it is not among its sources "
        "(sources.list(5)), or `apt-get update` was never run"
    )


def _options(source: Source) -> dict[str, str]:
    """The options in _KEPT of the host's file that a source comes from; indextargets does not tell them."""
    path = Path(source.entry.rpartition(":")[0])
    try:
        return options(path.read_text(), path.suffix, source)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error


def options(text: str, suffix: str, source: Source) -> dict[str, str]:
    """The options of a source, in either of the formats of sources.list(5).

    Args:
        text: the file.
        suffix: `.sources` for stanzas; everything else has one source a line.
        source: what to look for.

    Returns:
        The options in _KEPT that are set. Without `signed-by`, apt takes the keys that the host trusts for all sources.
    """
    for entry in _stanzas(text) if suffix == ".sources" else _lines(text):
        if _plain(source.uri) in map(_plain, entry.uris) and source.suite in entry.suites:
            return {key: value for key, value in entry.options.items() if key in _KEPT}
    return {}


def _plain(uri: str) -> str:
    return re.sub(r"/+", "/", uri).rstrip("/")  # indextargets adds a slash at the end, and takes two from file:///


class _Entry(NamedTuple):
    """An entry of apt's sources (sources.list(5))."""

    uris: list[str]
    suites: list[str]
    options: dict[str, str]


def _stanzas(text: str) -> Iterable[_Entry]:
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = dict(re.findall(r"^([^\s:]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE))
        fields = {key.lower(): value.rstrip() for key, value in fields.items()}
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            yield _Entry(fields.get("uris", "").split(), fields.get("suites", "").split(), fields)


def _lines(text: str) -> Iterable[_Entry]:
    for apt_options, uri, suite in re.findall(r"^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)", text, re.MULTILINE):
        pairs = (word.partition("=") for word in apt_options.split())
        yield _Entry([uri], [suite], {key.lower(): value for key, _, value in pairs})


def stanza(source: Source, kept: Mapping[str, str], architecture: str) -> str:
    """A source as a stanza of sources.list(5). Only package lists are read, not what other tools add to them."""
    fields = {
        "Types": "deb",
        "URIs": source.uri,
        "Suites": source.suite,
        "Components": "main",
        "Architectures": " ".join(_architectures(architecture)),
        "Targets": "Packages",
        **{key.title(): value for key, value in kept.items()},
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def _architectures(architecture: str) -> list[str]:
    """The architectures that an image's packages may be of: its own, and amd64, which its kernel may have."""
    return list(dict.fromkeys([architecture, "amd64"]))


def _package(deb: Path) -> dict[str, str]:
    fields = email.message_from_string(run("dpkg-deb", "-f", deb, what=f"reading {deb.name}"))
    record = {key.lower(): str(fields[key]) for key in ("Package", "Version", "Architecture")}
    return {"name": record.pop("package"), **record, "sha256": cache.file_digest(deb), "filename": deb.name}


def _version(*command: str) -> str:
    process = subprocess.run([which(command[0]), *command[1:]], capture_output=True, text=True, check=True)
    return (process.stdout or process.stderr).splitlines()[0]  # mke2fs prints it on standard error


# The kernel and its initial RAM disk


def depends(module: bytes) -> list[str]:
    """The modules that a kernel module needs, from the `depends=` of its .modinfo section (strings that end in NUL)."""
    match = re.search(rb"\0depends=([\w,-]*)\0", module)
    return [_canonical(name) for name in match[1].decode().split(",") if name] if match else []


def load_order(wanted: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str]:
    """Names of modules so that each comes after all it needs, each once.

    Args:
        wanted: the modules to load.
        needs: what a module depends on. The kernel allows no cycles.
    """
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            for need in needs(name):
                visit(need)
            order[name] = None

    for name in wanted:
        visit(_canonical(name))
    return list(order)


def _canonical(name: str) -> str:
    return name.replace("-", "_")  # the kernel takes both for the same, and file names have both


def kernel_parts(kernel: Path, wanted: Recipe) -> tuple[str, Path, list[tuple[str, bytes]]]:
    """The version of an unpacked kernel, its file vmlinuz, and the modules to load in their order, uncompressed.

    Debian 12 has boot/vmlinuz-VERSION and lib/modules/VERSION; Debian 13 has the modules in usr/lib; sid (Linux 7.2)
    has the kernel beside its modules.

    Raises:
        ImageError: there is not exactly one kernel, or it lacks a module.
    """
    folders = [*kernel.glob("lib/modules/*"), *kernel.glob("usr/lib/modules/*")]
    if len(folders) != 1:
        raise ImageError(f"the kernel's packages hold modules of {len(folders)} kernels, not of one")
    (folder,) = folders
    version = folder.name
    vmlinuz = next((file for file in (kernel / f"boot/vmlinuz-{version}", folder / "vmlinuz") if file.is_file()), None)
    if vmlinuz is None:
        raise ImageError(f"the kernel's packages hold no vmlinuz of {version}")
    files = {_canonical(path.name.partition(".ko")[0]): path for path in folder.rglob("*.ko*")}
    built_in = {_canonical(Path(line).stem) for line in (folder / "modules.builtin").read_text().splitlines()}

    def read(name: str) -> bytes:
        if name not in files:
            raise ImageError(f"the kernel {version} has no module {name}")
        data = files[name].read_bytes()
        return lzma.decompress(data) if files[name].suffix == ".xz" else data

    def needs(name: str) -> list[str]:
        return [] if name in built_in else depends(read(name))

    optional = [name for name in wanted.optional_modules if _canonical(name) in files]
    order = load_order([*optional, *wanted.modules], needs)
    return version, vmlinuz, [(name, read(name)) for name in order if name not in built_in]


def _initrd(target: Path, tree: Path, init: Path, busybox: Path, modules: list[tuple[str, bytes]]) -> None:
    for name in ("bin", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin")
    shutil.copy(init, tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "modules/order").write_text("".join(f"{name}.ko\n" for name, _ in modules))
    for name, data in modules:
        (tree / "modules" / f"{name}.ko").write_bytes(data)
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    archive = tree.parent / "initrd.cpio"
    run("cpio", "-o", "-H", "newc", "-R", "0:0", "-F", archive, what="the initial RAM disk", folder=tree, stdin=names)
    target.write_bytes(gzip.compress(archive.read_bytes(), mtime=0))


# The root file system


def merge_usr(root: Path) -> None:
    """Put bin, sbin, lib and, where there is one, lib64 below usr, with links in their old places. Debian 12's packages
    still use the old places, Debian 13's the new ones.
    """
    lib64 = ["lib64"] if (root / "lib64").is_dir() or (root / "usr/lib64").is_dir() else []
    for name in ("bin", "sbin", "lib", *lib64):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
        (root / name).symlink_to(f"usr/{name}")


def _furnish(root: Path, folders: Sequence[Path], public_key: str) -> str:
    """Add what no package brings. Returns the public line of the SSH host key."""
    for name in _UNREAD:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("dev", "proc", "run", "sys", "tmp", "var/log", "root/.ssh", "etc/dropbear"):
        (root / name).mkdir(parents=True, exist_ok=True)
    if not (root / "var/run").exists():
        (root / "var/run").symlink_to("/run")
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("root/.ssh", 0o700), ("etc/dropbear", 0o700)):
        (root / name).chmod(mode)
    for folder in reversed(folders):
        if (folder / "etc").is_dir():
            shutil.copytree(folder / "etc", root / "etc", dirs_exist_ok=True)
    init = root / "sbin/init"
    shutil.copy(_find(folders, "init"), init)
    init.chmod(0o755)
    authorized = root / "root/.ssh/authorized_keys"
    authorized.write_text(public_key.strip() + "\n")
    authorized.chmod(0o600)
    output = run("dropbearkey", "-t", "ed25519", "-f", root / "etc/dropbear/host_key", what="the SSH host key")
    match = re.search(r"^ssh-ed25519 \S+", output, re.MULTILINE)
    if not match:
        raise ImageError("the SSH host key: dropbearkey printed no public key")
    return match[0]


#: $0: the tree, $1: the image file, $2: its size, $3: mke2fs. fakeroot closes every possible file descriptor first,
#: which takes minutes where containers allow a thousand million of them.
_MKE2FS = """\
ulimit -n 1024 && exec fakeroot -- sh -c '
    chown -R 0:0 "$0" && exec "$3" -q -t ext2 -m 0 -L root -d "$0" "$1" "$2"' "$@"
"""


def _file_system(root: Path, target: Path, mib: int) -> None:
    run("sh", "-c", _MKE2FS, "sh", root, target, f"{mib}M", which("mke2fs"), what="the root file system")
