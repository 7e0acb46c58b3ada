"""Which Go files are for a target, by the rules for build constraints of libgo's match.sh and testsuite/gotest.

Pure functions of names and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

#: The endings of a file's name that restrict it to one system or processor (libgo/match.sh).
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
#: Go's name for the system of a triple that contains the key; the first match counts (libgo/configure.ac:180-206).
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
#: Go's name for the processor of a triple whose first part matches the key (libgo/configure.ac; without -mx32).
_GOARCH = {"i[3-7]86": "386", "x86_64": "amd64"}
#: Tags that hold for every target.
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
        """Whether a tag holds. The tag of a release always does: no file of libgo asks for a newer one."""
        return tag in (self.goos, self.goarch) or tag in more or bool(_RELEASE.fullmatch(tag))


def files(folder: Path, target: Target, more: Collection[str] = (), *, tests: bool = False) -> list[Path]:
    """The Go files of a folder that are for a target, sorted by name.

    Args:
        more: tags that hold besides the usual ones.
        tests: list the `_test.go` files; without it the others.
    """
    tags = ALWAYS | set(more)
    return [
        file
        for file in sorted(folder.glob("*.go"))
        if file.name.endswith("_test.go") == tests and _matches(file, target, tags)
    ]


def _matches(file: Path, target: Target, tags: Collection[str]) -> bool:
    if not name_matches(file.name, target):
        return False
    header = file.read_text(encoding="utf-8", errors="replace").partition("\npackage ")[0]
    return header_matches(header, lambda tag: target.has(tag, tags))


def name_matches(name: str, target: Target) -> bool:
    """Whether a file's name, such as `x_linux_386_test.go`, is for a target."""
    *before, last = ["", *name.removesuffix(".go").removesuffix("_test").split("_")[1:]]
    for part in (last, *before[-1:]):
        if part in _SYSTEMS | _PROCESSORS:
            if part not in (target.goos, target.goarch):
                return False
        elif part == last:
            break  # x_amd64_random.go is for all targets
    return True


def header_matches(header: str, has: Callable[[str], bool]) -> bool:
    """Whether the constraints in a file's header hold: its `//go:build` line, else all of its `// +build` lines."""
    lines = header.splitlines()
    if build := next((line for line in lines if line.startswith("//go:build ")), None):
        return expression(build.removeprefix("//go:build "), has)
    constraints = (match[1].split() for line in lines if (match := re.match(r"// *\+build +(.*)", line)))
    return all(any_of(options, has) for options in constraints)


def any_of(options: Iterable[str], has: Callable[[str], bool]) -> bool:
    """Whether one of a `+build` line's options holds: all its terms between commas.

    Args:
        options: the options, such as `linux,!cgo`.
        has: whether a tag holds.
    """

    def holds(term: str) -> bool:
        return not term.startswith("!!") and (not has(term[1:]) if term.startswith("!") else has(term))

    return any(all(map(holds, option.split(","))) for option in options)


def expression(text: str, has: Callable[[str], bool]) -> bool:
    """The value of a `//go:build` expression: tags with `!`, `&&`, `||` and parentheses.

    Raises:
        ValueError: the text is not such an expression.
    """
    tokens = _TOKEN.findall(text)

    def disjunction() -> bool:
        value = conjunction()
        while tokens[:1] == ["||"]:
            del tokens[0]
            value |= conjunction()
        return value

    def conjunction() -> bool:
        value = operand()
        while tokens[:1] == ["&&"]:
            del tokens[0]
            value &= operand()
        return value

    def operand() -> bool:
        token = tokens.pop(0) if tokens else ""
        if token == "!":
            return not operand()
        if token == "(":
            value = disjunction()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"not a build constraint: {text!r}")
            return value
        if not re.fullmatch(r"[\w.]+", token):
            raise ValueError(f"not a build constraint: {text!r}")
        return has(token)

    value = disjunction()
    if tokens or _TOKEN.sub("", text).strip():
        raise ValueError(f"not a build constraint: {text!r}")
    return value
