"""Patches to libgo: read from what people have, checked, and applied without fuzz.

A file holds one patch, or a series: what `git diff`, `git show` and `git format-patch --stdout` print, mails as they
were saved, an mbox, quilt's `series`, a folder of patches. Only what was parsed and checked reaches the source. Knows
nothing of how libgo is built.
"""

from __future__ import annotations

import codecs
import email
import email.header
import email.policy
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build import command, diffs
from harness.build.diffs import Change
from harness.cache import digest
from harness.errors import PatchError

_log = logging.getLogger(__name__)

#: How a mail begins in an mbox, as git and mail programs write it.
_MAIL = re.compile(rb"^From \S+(?: at \S+)? +\w{3} \w{3} +\d+ [\d:]{5,8} .*\d{4}.*\n", re.MULTILINE)
#: How a commit begins in what `git log -p` prints.
_COMMIT = re.compile(r"^commit [0-9a-f]{7,40}(?: .*)?\n", re.MULTILINE)
_SUBJECT = re.compile(r"^Subject: (?P<subject>.*(?:\n[ \t].*)*)", re.MULTILINE)
#: What git puts before a subject, such as [PATCH v2 1/3].
_TAG = re.compile(r"^(?:Re: )?(?:\[[^\]]*\] *)+")
#: What may stand before `libgo/`: nothing, what diff and git put before names, or the name of a source tree.
_TO_LIBGO = re.compile(r"(?:(?:[abciow]|src|gcc[\w.+~-]*|gofrontend)/){0,2}libgo(?:\.orig|\.new)?/(?P<name>.+)")
#: Go's own tests of cgo, which libgo has where Go's repository has them.
_CGO = re.compile(r"(?:[abciow]/)?(?P<name>misc/cgo/.+)")
#: Go's own repository has in src/, and src/vendor/, what libgo has in libgo/go/. In libgo, `git diff --relative` leaves
#: out libgo/.
_GO = re.compile(r"(?:[abciow]/)?(?:src|go)/(?P<name>[\w.-]+/(?:.+\.go|(?:.+/)?testdata/.+))")
#: A name that a patch may have: no way out of the tree, and nothing that a program could take for more than a name.
_NAME = re.compile(r"(?!/)(?!.*(?:^|/)\.\.?(?:/|$))[\w.+@~/-]+(?<!/)")
_SUFFIXES = (".patch", ".diff")
#: Options by which a patch may apply that does not, and what that says of it.
_HINTS = {
    "--fuzz=2": ", except with fuzz: the lines around the change differ there; make the patch again",
    "--ignore-whitespace": ", except with other white space, which a mail program may have changed",
}
#: What is no unified diff, and what it is instead.
_OTHERS = tuple(
    (re.compile(sign, re.MULTILINE | re.IGNORECASE), why)
    for sign, why in (
        (rb"\A(?:\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd)", "is compressed; unpack it"),
        (rb"\A(?:\xff\xfe|\xfe\xff)", "is UTF-16 text; make it UTF-8"),
        (rb"\A\s*<(?:!doctype|html)", "is a web page; save the patch itself, which is often called raw or plain"),
        (rb"^\*\*\* .*\n--- .*\n\*{15}", "is a context diff; make a unified one, by diff -u or git diff"),
        (rb"^diff --(?:cc|combined) ", "is the combined diff of a merge; make one against a single parent"),
        (rb"\x1b\[[\d;]*m", "has a terminal's colours in it; make it with git diff --no-color"),
        (rb"^[ \t>]+(?:diff --git |--- .*\n[ \t>]+\+\+\+ )", "changes nothing: its lines are indented or quoted"),
    )
)


@dataclass(frozen=True)
class Patch:
    """A patch to libgo.

    Attributes:
        path: the file it was read from.
        changes: what it does, with names below GCC's top folder, such as `libgo/go/runtime/proc.go`.
        subject: the first line of its message, or ''.
        place: which one of its file's series it is, such as "2 of 3", or ''.
        form: what the file is, if that may be why it does not apply, or ''.
        own_names: pairs of a name and the one that the patch itself has for it, where that is another one.
    """

    path: Path
    changes: tuple[Change, ...]
    subject: str = ""
    place: str = ""
    form: str = ""
    own_names: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        about = ", ".join(filter(None, [self.place, f"“{self.subject}”" if self.place and self.subject else ""]))
        return f"patch {self.path}" + (f" ({about})" if about else "")

    @property
    def label(self) -> str:
        """A short name: the file's, and which one of its series it is."""
        return self.path.name + (f" {self.place}" if self.place else "")

    @property
    def text(self) -> bytes:
        """The patch as git writes it, without anything around it."""
        return "".join(change.to_git() for change in self.changes).encode(errors="surrogateescape")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it reads, makes or removes, below GCC's top folder."""
        return tuple(dict.fromkeys(name for change in self.changes for name in change.names))

    @property
    def removes(self) -> bool:
        """Whether a file is gone afterwards."""
        return any(not change.new or change.renamed for change in self.changes)

    @property
    def go_files(self) -> list[str]:
        """Those of the files that belong to Go packages."""
        return [name for name in self.files if name.startswith("libgo/go/")]

    @property
    def key(self) -> str:
        """The hash of its changes."""
        return digest(self.text.decode("latin-1"))

    def named(self, name: str) -> str:
        """A file's name, with the one that the patch has for it if that is another one."""
        return f"{name} ({original} in the patch)" if (original := dict(self.own_names).get(name)) else name


def read(path: Path) -> tuple[Patch, ...]:
    """Read a patch, or a series: a file, a folder, or quilt's `series`.

    Raises:
        PatchError: as `parse` does, or a file cannot be read.
    """
    try:
        if path.is_dir():
            return _folder(path)
        data = path.read_bytes()
    except OSError as error:
        raise PatchError(f"patch {path}: cannot be read: {error.strerror}") from error
    if path.name == "series" and not diffs.start(_decoded(data)) < len(_decoded(data)):
        return _quilt(path, data)
    return parse(data, path)


def _folder(path: Path) -> tuple[Patch, ...]:
    """The patches of a folder: those that its `series` names, else all files with a patch's suffix, by name."""
    for series in (path / "series", path / "patches" / "series"):
        if series.is_file():
            return _quilt(series, series.read_bytes())
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not files:
        raise PatchError(f"patch {path}: the folder has no file named series, *.patch or *.diff")
    letters = [file for file in files if "cover-letter" in file.name]
    return tuple(patch for file in files if file not in letters for patch in read(file))


def _quilt(path: Path, data: bytes) -> tuple[Patch, ...]:
    """The patches that quilt's series file names, in its order (quilt(1)). Its -pN is not needed."""
    names = [line.split("#")[0].split() for line in _decoded(data).splitlines()]
    files = [path.parent / words[0] for words in names if words]
    if not files:
        raise PatchError(f"patch {path}: the series names no patch")
    if backwards := [words[0] for words in names if "-R" in words[1:]]:
        raise PatchError(f"patch {path}: the series reverses {backwards[0]} (-R); make the reverse patch, by interdiff")
    if other := [file for file in files if file.is_dir() or file.name == path.name]:
        raise PatchError(f"patch {path}: the series names {other[0].name}, which is no patch")
    return tuple(patch for file in files for patch in read(file))


def parse(data: bytes, path: Path) -> tuple[Patch, ...]:
    """Parse a patch, or a series of them, as git and diff make them.

    Names may be those of GCC, of gofrontend's repository, or of Go's, whose src/ is libgo's go/.

    Args:
        data: the content of the file.
        path: the file or folder that it comes from.

    Raises:
        PatchError: it changes nothing, has CR LF line ends in some lines, is damaged, or touches files outside libgo.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.count(b"\r\n") == data.count(b"\n"):  # as mail programs save it: no file of libgo has such lines
        data = data.replace(b"\r\n", b"\n")
    if b"\r\n" in data:
        raise PatchError(f"patch {path} has CR LF line ends in some lines; convert it with dos2unix")
    parts: list[_Part] = []
    for part in _parts(data):
        try:
            changes = diffs.parse(part.text)
        except PatchError as error:
            raise PatchError(f"patch {path} is not a unified diff: {error}") from error
        # A file that is changed twice is changed one after the other.
        groups: list[list[Change]] = [[]]
        for change in changes:
            if set(change.names) & {name for earlier in groups[-1] for name in earlier.names}:
                groups.append([])
            groups[-1].append(change)
        parts += [_Part(part.text, part.subject, part.form, tuple(group)) for group in groups if group]
    if not parts:
        raise PatchError(f"patch {path} {next((why for sign, why in _OTHERS if sign.search(data)), 'changes nothing')}")
    of = len(parts)
    return tuple(
        _checked(part, path, f"{number} of {of}" if of > 1 else "") for number, part in enumerate(parts, start=1)
    )


@dataclass(frozen=True)
class _Part:
    """One patch in a file: its text, its subject, and in which form it came."""

    text: str
    subject: str = ""
    form: str = ""
    changes: tuple[Change, ...] = ()


def _parts(data: bytes) -> Iterator[_Part]:
    """The mails of an mbox, the commits of a log, or all of it."""
    starts = [match.start() for match in _MAIL.finditer(data)]
    ends = [*starts[1:], len(data)]
    mails = [data[begin:end] for begin, end in zip(starts, ends, strict=True)] if starts[:1] == [0] else [data]
    for mail in mails:
        text, form = _mail_text(mail)
        subject = _SUBJECT.search(text[: diffs.start(text)])
        commits = [match.start() for match in _COMMIT.finditer(text)]
        if commits and not subject:
            for begin, end in zip(commits, [*commits[1:], len(text)], strict=True):
                message = [line.strip() for line in text[begin:end].splitlines() if line.startswith("    ")]
                yield _Part(text[begin:end], message[0] if message else "", form)
            continue
        title = " ".join(subject["subject"].split()) if subject else ""
        yield _Part(text, _TAG.sub("", _header(title)), form)


def _mail_text(data: bytes) -> tuple[str, str]:
    """The text of a mail, decoded as its headers say; and what it was, if it had to be decoded."""
    head = re.split(rb"\n\n", data, maxsplit=1)[0]
    encoding = re.search(rb"^Content-Transfer-Encoding: *(quoted-printable|base64)", head, re.IGNORECASE | re.MULTILINE)
    multipart = re.search(rb"^Content-Type: *multipart/", head, re.IGNORECASE | re.MULTILINE)
    if not (encoding or multipart):
        return _decoded(data), ""
    message = email.message_from_bytes(_MAIL.sub(b"", data, count=1), policy=email.policy.compat32)
    # A part of HTML says again what one of plain text says.
    parts = [part for part in message.walk() if not part.is_multipart() and part.get_content_type() != "text/html"]
    bodies = [part.get_payload(decode=True) for part in parts]
    text = "\n".join(_decoded(body) for body in bodies if isinstance(body, bytes))
    form = f"a {encoding[1].decode().lower()} mail" if encoding else "a mail of several parts"
    return f"Subject: {message.get('Subject', '')}\n\n{text.replace(chr(13) + chr(10), chr(10))}", form


def _decoded(data: bytes) -> str:
    """Bytes as text that encodes to the same bytes again: what stands around a change is of no concern, and lines of a
    change must come out as they came."""
    return data.decode("utf-8", "surrogateescape")


def _header(text: str) -> str:
    """A mail's header as people read it."""
    try:
        decoded_header = str(email.header.make_header(email.header.decode_header(text)))
    except (ValueError, LookupError) as error:
        _log.info("a subject cannot be decoded: %s", error)
        decoded_header = text
    return decoded_header.encode("utf-8", "replace").decode()


def _checked(part: _Part, path: Path, place: str) -> Patch:
    """A patch with names below GCC's top folder. Raises PatchError if a file lies outside libgo."""
    patch = Patch(path, (), part.subject, place, part.form)
    changes, own_names = [], {}
    for change in part.changes:
        names = {}
        for name in change.names:
            inside = _place(name, patch)
            names[name] = inside
            plain = re.sub(r"^[abciow]/", "", name)
            if plain != inside:
                own_names[inside] = plain
        mapped = Change(
            names.get(change.old, ""), names.get(change.new, ""), change.hunks, change.copied, change.mode, change.line
        )
        if not (mapped.hunks or mapped.renamed or mapped.copied or mapped.mode):
            continue
        changes.append(mapped)
    if not changes:
        raise PatchError(f"{patch} changes nothing")
    return Patch(path, tuple(changes), part.subject, place, part.form, tuple(own_names.items()))


def _place(name: str, patch: Patch) -> str:
    """Where a file that a patch names lies below GCC's top folder. Raises PatchError if not in libgo."""
    if not _NAME.fullmatch(name):
        raise PatchError(f"{patch} touches {name}, which is outside libgo or has a name that no file of libgo has")
    if match := _TO_LIBGO.fullmatch(name) or _CGO.fullmatch(name):
        return f"libgo/{match['name']}"
    if match := _GO.fullmatch(name):
        return f"libgo/go/{match['name'].removeprefix('vendor/')}"
    plain = re.sub(r"^[abciow]/", "", name)
    what = ""
    if re.fullmatch(r"go/[^/]+\.(?:cc|h|c)", plain):
        what = " (it is gofrontend's compiler, gcc/go/gofrontend in GCC)"
    elif re.match(r"(?:src|test|doc|misc|api)/", plain):
        what = " (it is of Go's own repository, and libgo has no such file)"
    raise PatchError(f"{patch} touches {plain}{what}, which is outside libgo")


def check(series: Sequence[Patch], tree: Path) -> None:
    """Raise PatchError if a series does not apply to GCC's source, which is left as it is."""
    with _copied(series, tree) as copy:
        for patch in series:
            apply(patch, copy)


def apply(patch: Patch, tree: Path) -> None:
    """Apply a patch to GCC's source, without fuzz: the whole patch or nothing of it.

    Args:
        tree: GCC's top folder. Files are replaced, never written in place, so that hard links to them do not change.

    Raises:
        PatchError: it does not apply; the text names the first file and hunk.
    """
    with _copied([patch], tree) as copy:
        if failure := _apply(patch, copy, "--fuzz=0"):
            failure += next((hint for option, hint in _HINTS.items() if _would_apply(patch, tree, option)), "")
            form = f", {patch.form}," if patch.form else ""
            raise PatchError(f"{patch}{form} does not apply to {_source_name(tree)}: {failure}")
        for name in patch.files:
            _take(copy / name, tree / name)


def _would_apply(patch: Patch, tree: Path, option: str) -> bool:
    with _copied([patch], tree) as copy:
        return not _apply(patch, copy, option)


def _take(file: Path, target: Path) -> None:
    """Put a file in the place of another one, or remove that if there is no file."""
    if not file.exists():
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.patched")
    shutil.copyfile(file, new)
    new.chmod(stat.S_IMODE(file.stat().st_mode))
    os.replace(new, target)


class _copied:
    """A folder for the time of a block, with copies of the files that some patches touch."""

    def __init__(self, series: Sequence[Patch], tree: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        names = {name for patch in series for name in patch.files}
        self._files = {name: tree / name for name in sorted({"gcc/BASE-VER", *names})}

    def __enter__(self) -> Path:
        folder = Path(self._folder.__enter__())
        for name, file in self._files.items():
            if file.is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder / name)
        return folder

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()


def _apply(patch: Patch, tree: Path, option: str) -> str:
    """Apply a patch in a folder that is thrown away if it fails. Returns why it fails, or ''.

    Args:
        option: one of GNU patch's.
    """
    for change in patch.changes:
        old, new = tree / change.old, tree / change.new
        if change.old and not old.is_file():
            return f"it patches {patch.named(change.old)}, which does not exist"
        if change.new and change.old != change.new and new.exists():
            return f"it makes {patch.named(change.new)}, which exists"
        if change.new:
            new.parent.mkdir(parents=True, exist_ok=True)
        if change.copied:
            shutil.copy(old, new)
        elif change.renamed:
            os.replace(old, new)
        elif not change.old and not change.hunks:
            new.touch()
        elif not change.new and not change.hunks:
            if old.stat().st_size:
                return f"it removes {patch.named(change.old)} as an empty file, and it is not empty"
            old.unlink()
        if change.hunks:
            same = Change(change.old and change.name, change.new and change.name, change.hunks)
            process = _run_patch(same, tree, option)
            if process.returncode:
                return _failure(process.stdout.decode(errors="replace"), patch)
        if change.mode and change.new:
            new.chmod(0o755 if change.mode.endswith("755") else 0o644)
    return ""


def _run_patch(change: Change, tree: Path, option: str) -> subprocess.CompletedProcess[bytes]:
    options = ["-p1", "-u", "--batch", "--forward", "--no-backup-if-mismatch", "-r", "-", option]
    text = change.to_unified().encode(errors="surrogateescape")
    return command.capture(["patch", *options], folder=tree, stdin=text)


def _source_name(tree: Path) -> str:
    """The name of GCC's source in a folder: with its version, or else the folder itself."""
    try:
        return f"GCC {(tree / 'gcc' / 'BASE-VER').read_text().strip()}"
    except OSError as error:
        _log.info("GCC's version is unknown: %s", error)
        return str(tree)


def _failure(output: str, patch: Patch) -> str:
    """The file and hunk that failed, by GNU patch's output."""
    file = "?"
    for line in output.splitlines():
        if match := re.match(r"(?:checking|patching) file '?([^']*)'?$", line):
            file = patch.named(match[1])
        elif match := re.match(r"Hunk #(\d+) (?:FAILED|ignored) at (\d+)", line):
            return f"hunk {match[1]} of {file} fails at line {match[2]}"
        elif "Reversed (or previously applied)" in line:
            return f"{file}: it has been applied already"
    return " ".join(output.split()) or "patch printed nothing"
