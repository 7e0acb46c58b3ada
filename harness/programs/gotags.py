"""Which Go files are for a target: the rules of build constraints as libgo's match.sh and testsuite/gotest apply them.

Pure functions of names and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

#: libgo/match.sh: what a file's name may end in to be for one system or processor only.
_SYSTEMS = frozenset(
    re.findall(
        r"\w+",
        "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos",
    )
)
_PROCESSORS = frozenset(
    re.findall(
        r"\w+",
        "386 amd64 amd64p32 arm armbe arm64 arm64be alpha ia64 m68k mips mipsle mips64 mips64le mips64p32 mips64p32le"
        " nios2 ppc ppc64 ppc64le riscv riscv64 s390 s390x sh shbe sparc sparc64 wasm",
    )
)
#: What Go calls the system of a triple with this in it; the first counts (libgo/configure.ac:180-206).
_GOOS = {
    "-darwin": "darwin",
    "-freebsd": "freebsd",
    "-linux": "linux",
    "-netbsd": "netbsd",
    "-openbsd": "openbsd",
    "-dragonfly": "dragonfly",
    "-solaris2": "solaris",
    "-gnu": "hurd",
}
#: What Go calls the processor of a triple whose first word matches this (libgo/configure.ac; -mx32 is not looked at).
_GOARCH = {"i[3-7]86": "386", "x86_64": "amd64"}
#: Tags that hold whatever the target is.
ALWAYS = frozenset({"cgo", "gccgo", "goexperiment.fieldtrack"})
_RELEASE = re.compile(r"go1\.\d+")
_TOKEN = re.compile(r"\s*(&&|\|\||[!()]|[\w.]+)")


@dataclass(frozen=True)
class Target:
    """A target by Go's names, such as linux and 386."""

    goos: str
    goarch: str

    @classmethod
    def of(cls, triple: str) -> Target:
        """The target of a GNU triple."""
        processor = triple.partition("-")[0]
        goarch = next((goarch for pattern, goarch in _GOARCH.items() if re.fullmatch(pattern, processor)), "unknown")
        return cls(next((goos for part, goos in _GOOS.items() if part in triple), "unknown"), goarch)

    def has(self, tag: str, more: Collection[str] = ALWAYS) -> bool:
        """Whether a tag holds. That of a release does: no file of libgo's asks for a newer one."""
        return tag in (self.goos, self.goarch) or tag in more or bool(_RELEASE.fullmatch(tag))


def files(folder: Path, target: Target, more: Collection[str] = (), *, tests: bool = False) -> list[Path]:
    """The Go files of a folder that are for a target, sorted by name.

    Args:
        more: tags that hold besides the usual ones.
        tests: the `_test.go` files, else those that are none.
    """
    known = ALWAYS | set(more)
    return [
        file
        for file in sorted(folder.glob("*.go"))
        if file.name.endswith("_test.go") == tests and _matches(file, target, known)
    ]


def _matches(file: Path, target: Target, known: Collection[str]) -> bool:
    if not name_matches(file.name, target):
        return False
    header = file.read_text(encoding="utf-8", errors="replace").partition("\npackage ")[0]
    return header_matches(header, lambda tag: target.has(tag, known))


def name_matches(name: str, target: Target) -> bool:
    """Whether a file's name, such as `x_linux_386_test.go`, is for a target."""
    *before, last = ["", *name.removesuffix(".go").removesuffix("_test").split("_")[1:]]
    for word in (last, *before[-1:]):
        if word in _SYSTEMS | _PROCESSORS:
            if word not in (target.goos, target.goarch):
                return False
        elif word == last:
            break  # x_amd64_random.go is for all
    return True


def header_matches(header: str, has: Callable[[str], bool]) -> bool:
    """Whether the constraints in a file's header hold: its `//go:build` line, else all of its `// +build` lines."""
    lines = header.splitlines()
    if build := next((line for line in lines if line.startswith("//go:build ")), None):
        return expression(build.removeprefix("//go:build "), has)
    options = (match[1].split() for line in lines if (match := re.match(r"// *\+build +(.*)", line)))
    return all(any_of(option, has) for option in options)


def any_of(words: Iterable[str], has: Callable[[str], bool]) -> bool:
    """A `+build` line's words: one must hold, all parts of it between commas."""

    def holds(part: str) -> bool:
        return not part.startswith("!!") and (not has(part[1:]) if part.startswith("!") else has(part))

    return any(all(map(holds, word.split(","))) for word in words)


def expression(text: str, has: Callable[[str], bool]) -> bool:
    """The value of a `//go:build` expression: tags with `!`, `&&`, `||` and parentheses.

    Raises:
        ValueError: it is none.
    """
    tokens = _TOKEN.findall(text)

    def either() -> bool:
        value = both()
        while tokens[:1] == ["||"]:
            del tokens[0]
            value |= both()
        return value

    def both() -> bool:
        value = one()
        while tokens[:1] == ["&&"]:
            del tokens[0]
            value &= one()
        return value

    def one() -> bool:
        token = tokens.pop(0) if tokens else ""
        if token == "!":
            return not one()
        if token == "(":
            value = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"not a build constraint: {text!r}")
            return value
        if not re.fullmatch(r"[\w.]+", token):
            raise ValueError(f"not a build constraint: {text!r}")
        return has(token)

    value = either()
    if tokens or _TOKEN.sub("", text).strip():
        raise ValueError(f"not a build constraint: {text!r}")
    return value
