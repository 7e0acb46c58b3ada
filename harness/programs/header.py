"""Reads a program's header: its kind, directives and expectation."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

from harness import paths
from harness.conf import naming
from harness.conf.naming import nearest
from harness.conf.system import SIGNALS
from harness.conf.units import seconds
from harness.errors import ProgramError
from harness.programs import gotags
from harness.programs.model import BuildSpec, Expectation, Program
from harness.programs.sources import RUN, header_lines, is_constraint, kind_in

_DIRECTIVES = ("args", "env", "timeout", "expect", "needs", "twin")
_TERM = re.compile(
    r"""\s*(?:exit\s+(?P<exit>\d+)|signal\s+(?P<signal>[A-Z0-9]+)
    |(?P<stream>stdout|stderr|output)\s*~\s*(?P<pattern>"(?:[^"\\]|\\.)*"))\s*(?:,|$)""",
    re.VERBOSE,
)


def read_program(source: Path) -> Program:
    """Read a program's header and its `.out` file.

    Raises:
        ProgramError: it is missing or not a regular file, its name is not UTF-8, or a directive is invalid; the text
            names file and line.
    """
    try:
        lines = paths.content(source).decode("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise ProgramError(f"{source}: cannot be read: {error.strerror}") from error
    try:
        str(source.absolute()).encode()
    except UnicodeEncodeError as error:  # neither a guest's shell nor a report could have it
        name = os.fsencode(source).decode(errors="backslashreplace")
        raise ProgramError(f"{name}: the file's name is not UTF-8") from error
    place = paths.absolute(source)
    program = Program(f"{place.parent.name}/{place.stem}", place)
    first = True
    for number, text in header_lines(lines):
        try:
            if is_constraint(text):
                program = _constrained(program, text)
                continue
            if first and text:
                first = False
                if kind := kind_in(text):
                    program = replace(program, kind=kind)
                    program = _with_words(program, shlex.split(text)[1:]) if kind == RUN else program
                    continue
            program = _directive(program, text)
        except ValueError as error:
            raise ProgramError(f"{source}:{number}: {error}") from error
    out = source.with_suffix(".out")
    if out.is_file():
        program = replace(program, expected=replace(program.expected, stdout=out.read_bytes()))
    return program


def _constrained(program: Program, text: str) -> Program:
    """A program with one more build constraint. Raises ValueError."""
    word, _, terms = text.partition(" ")
    if word == "+build":
        return replace(program, constraints=(*program.constraints, tuple(terms.split())))
    gotags.expression(terms, lambda tag: True)
    return replace(program, go_build=terms)


def _with_words(program: Program, words: list[str]) -> Program:
    """A program with the words after its `run`: further files of its package, and arguments. Raises ValueError."""
    if words and words[0].startswith("-"):  # `run -gcflags=...` has flags for another compiler
        return program
    names = [] if program.is_c else [word for word in words if word.endswith(".go")]
    files = [program.source.parent / name for name in names]
    for file in files:
        if not file.is_file():
            raise ValueError(f"run: there is no file {file.name} beside it")
    build = BuildSpec(packages=((program.source, *files),)) if files else program.build
    return replace(program, args=tuple(word for word in words if word not in names), build=build)


def _directive(program: Program, text: str) -> Program:
    match = re.match(r"([A-Za-z]+):(?:\s+|$)(.*)", text)
    if not match:
        return replace(program, about=f"{program.about} {text}".strip())
    word, value = match[1], match[2].strip()
    if word not in _DIRECTIVES:
        if word.islower() and "did you mean" in nearest(word, _DIRECTIVES):
            raise ValueError(f"unknown directive {word}:; {nearest(word, _DIRECTIVES)}")
        return replace(program, about=f"{program.about} {text}".strip())
    if not value:
        raise ValueError(f"{word}: has no value")
    match word:
        case "args":
            return replace(program, args=tuple(shlex.split(value)))
        case "env":
            pairs = [pair.partition("=") for pair in shlex.split(value)]
            if not all(name and equals for name, equals, _ in pairs):
                raise ValueError(f"env: {value!r} is not NAME=VALUE")
            variables = naming.environment({name: text for name, _, text in pairs})
            return replace(program, env={**program.env, **variables})
        case "timeout":
            return replace(program, timeout=seconds(value))
        case "twin":
            if not re.fullmatch(r"[^/\s]+/[^/\s]+", value):
                raise ValueError(f"twin: {value!r} is not SUITE/PROGRAM")
            return replace(program, twin=value)
        case "needs":
            return replace(program, needs=(*program.needs, *value.replace(",", " ").split()))
    return replace(program, expected=parse_expectation(program.expected, value))


def parse_expectation(expected: Expectation, text: str) -> Expectation:
    """Add the terms of an `expect` directive to an expectation. Raises ValueError."""
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if not match:
            raise ValueError(
                f"expect: cannot understand {text[position:].strip()!r}; "
                'known: exit N, signal SIGNAME, stdout ~ "regex", stderr ~ "regex", output ~ "regex" (both streams)'
            )
        if match["exit"]:
            if len(match["exit"]) > 3 or int(match["exit"]) > 255:
                raise ValueError(f"expect: exit {match['exit']}: an exit status is 0 to 255")
            expected = replace(expected, exit_status=int(match["exit"]))
        elif match["signal"]:
            name = match["signal"].removeprefix("SIG")
            if name not in SIGNALS:
                raise ValueError(f"expect: no signal named {name}; {nearest(name, SIGNALS)}")
            expected = replace(expected, signal=f"SIG{name}")
        else:
            try:
                pattern = json.loads(match["pattern"])
                re.compile(pattern)
            except (ValueError, re.error) as error:
                raise ValueError(f"expect: {match['pattern']} is not a regular expression: {error}") from error
            expected = replace(expected, **{f"{match['stream']}_pattern": pattern})
        position = match.end()
    return expected
