"""Patches to libgo: read, checked, and applied without fuzz.

Knows nothing of how libgo is built.
"""

from __future__ import annotations

import logging
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from harness.build import command
from harness.cache import digest
from harness.errors import PatchError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patch:
    """A patch to libgo.

    Attributes:
        path: the file it was read from.
        text: the file's content.
        files: the files that it touches, below GCC's top folder, such as `libgo/go/runtime/proc.go`.
        removes: whether it removes a file.
    """

    path: Path
    text: bytes
    files: tuple[str, ...]
    removes: bool = False

    @property
    def go_files(self) -> list[str]:
        """Those of the files that belong to Go packages."""
        return [name for name in self.files if name.startswith("libgo/go/")]

    @property
    def key(self) -> str:
        """The hash of its changes, without its header."""
        start = re.search(rb"^--- ", self.text, re.MULTILINE)
        return digest(self.text[start.start() if start else 0 :].decode("utf-8", "replace"))


def read(path: Path) -> Patch:
    """Read a patch from a file. Raises PatchError as `parse` does, or if it cannot be read."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise PatchError(f"patch {path}: cannot be read: {error.strerror}") from error


def parse(text: bytes, path: Path) -> Patch:
    """Parse a patch in unified format with one folder before `libgo/`, as git makes them: `a/libgo/...`.

    Args:
        text: the patch.
        path: the file or folder that it comes from.

    Raises:
        PatchError: it changes nothing, has CR LF line ends, is not at that strip level, or touches files outside libgo.
    """
    if b"\r\n" in text:
        raise PatchError(f"patch {path} has CR LF line ends; convert it with dos2unix")
    if re.search(rb"^(GIT binary patch|Binary files .* differ)", text, re.MULTILINE):
        raise PatchError(f"patch {path} changes a binary file; only text files can be patched")
    try:
        changes = PatchSet(text.decode("utf-8"))
    except (UnidiffParseError, UnicodeDecodeError) as error:
        raise PatchError(f"patch {path} is not a unified diff: {error}") from error
    if not any(len(file) for file in changes):
        raise PatchError(f"patch {path} changes nothing")
    files = []
    for file in changes:
        for side in (file.source_file, file.target_file):
            if side == "/dev/null":
                continue
            name = side.split("\t")[0]
            folders = name.split("/")
            level = folders.index("libgo") if "libgo" in folders[:-1] else -1
            if level > 1 or level == 0 or folders[0] == "go" or folders[1:2] == ["go"]:
                raise PatchError(f"patch {path} names {name}; it must be made as `git diff` does: a/libgo/...")
            if level < 0 or ".." in folders:
                raise PatchError(f"patch {path} touches {name.partition('/')[2] or name}, which is outside libgo")
            inside = "/".join(folders[1:])
            if inside not in files:
                files.append(inside)
    return Patch(path, text, tuple(files), any(file.is_removed_file for file in changes))


def apply(patch: Patch, tree: Path) -> None:
    """Apply a patch to GCC's source, at strip level 1 and without fuzz: the whole patch or nothing of it.

    Args:
        tree: GCC's top folder. Files are replaced, never written in place, so that hard links to them do not change.

    Raises:
        PatchError: it does not apply; the text names the first file and hunk.
    """
    dry_run = _run_patch(patch, tree, "--dry-run", "--fuzz=0")
    if dry_run.returncode:
        reason = _failure(dry_run.stdout.decode(errors="replace"))
        if _run_patch(patch, tree, "--dry-run", "--fuzz=2").returncode == 0:
            reason += ", except with fuzz: the lines around the change differ there; make the patch again"
        raise PatchError(f"patch {patch.path} does not apply to {_source_name(tree)}: {reason}")
    process = _run_patch(patch, tree, "--fuzz=0")
    if process.returncode:
        raise PatchError(f"patch {patch.path} cannot be applied: {_failure(process.stdout.decode(errors='replace'))}")


def _run_patch(patch: Patch, tree: Path, *mode: str) -> subprocess.CompletedProcess[bytes]:
    gnu_patch = ["patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-r", "-", *mode]
    return command.capture(gnu_patch, folder=tree, stdin=patch.text)


def _source_name(tree: Path) -> str:
    """The name of GCC's source in a folder: with its version, or else the folder itself."""
    try:
        return f"GCC {(tree / 'gcc' / 'BASE-VER').read_text().strip()}"
    except OSError as error:
        _log.info("GCC's version is unknown: %s", error)
        return str(tree)


def _failure(output: str) -> str:
    """The file and hunk that failed, by GNU patch's output."""
    file = "?"
    for line in output.splitlines():
        if match := re.match(r"(?:checking|patching) file '?([^']*)'?$", line):
            file = match[1]
        elif match := re.match(r"Hunk #(\d+) (?:FAILED|ignored) at (\d+)", line):
            return f"hunk {match[1]} of {file} fails at line {match[2]}"
        elif "can't find file to patch" in line:
            return "it patches a file that does not exist"
        elif "Reversed (or previously applied)" in line:
            return f"{file}: it has been applied already"
    return " ".join(output.split()) or "patch printed nothing"
