"""The golden files of signatures: how one is read, and how all are made again by running their programs in the guest.

A file of tests/data/signatures is a header, an empty line, and what the program wrote:

    title: the title that it must get, or `none`
    ended: `exit N` or `signal NAME`, after `time limit, ` for what was stopped at its limit
    from: where the streams are from; `src/NAME.go, GUEST` are those that can be made again
    -- stderr --
    ...
    -- stdout --
    ...

`python tests/golden.py [NAME]...` runs the programs and writes the streams. It leaves titles as they are and says where
the code gives another one; a new file gets the title that the code gives, which then is to be looked at.
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.progress import Reporter
from harness.run.conductor import run_request
from harness.run.request import Request
from harness.trial.record import Trial
from harness.trial.signature import of_crash, of_hang

FOLDER = paths.DATA / "tests" / "data" / "signatures"
#: Bytes of stdout that are kept: what a program prints for ever is of no use here.
KEEP = 200


@dataclass(frozen=True)
class Golden:
    """A golden file: `name` is the file's, without suffix; `ended` and `origin` are as in the header."""

    name: str
    title: str
    ended: str
    origin: str
    stderr: str
    stdout: str = ""

    def given(self) -> str:
        """The title that the code gives."""
        _, _, signal = self.ended.partition("signal ")
        status = int(self.ended.removeprefix("exit ")) if self.ended.startswith("exit ") else None
        return of_hang(self.stderr, signal) if self.hung else of_crash(self.stderr, signal, self.stdout, status)

    @property
    def hung(self) -> bool:
        """It was stopped at its limit."""
        return self.ended.startswith("time limit")


def read(file: Path) -> Golden:
    """Read a golden file."""
    head, _, streams = file.read_text().partition("-- stderr --\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    stderr, _, stdout = streams.partition("-- stdout --\n")
    title = "" if fields["title"] == "none" else fields["title"]
    return Golden(file.stem, title, fields["ended"], fields["from"], stderr, stdout)


def write(golden: Golden) -> None:
    """Write a golden file."""
    head = f"title: {golden.title or 'none'}\nended: {golden.ended}\nfrom: {golden.origin}\n"
    stdout = f"-- stdout --\n{golden.stdout}" if golden.stdout else ""
    (FOLDER / f"{golden.name}.txt").write_text(f"{head}-- stderr --\n{golden.stderr}{stdout}")


def made(trial: Trial) -> Golden:
    """The golden file that a trial gives, without this machine's folders in it."""
    name = trial.program.split("/")[1]
    end = f"signal {trial.signal}" if trial.signal else f"exit {trial.exit_status}"
    if trial.verdict == "hang":
        end = f"time limit, {end}"
    stderr = re.sub(rf"{re.escape(str(Path.cwd()))}|{re.escape(str(paths.DATA))}", ".", trial.stderr.decode())
    golden = Golden(name, "", end, f"src/{name}.go, {trial.guest}", stderr, trial.stdout[:KEEP].decode())
    file = FOLDER / f"{name}.txt"
    title = read(file).title if file.exists() else golden.given()
    return Golden(**{**golden.__dict__, "title": title})


def main(names: list[str]) -> None:
    """Run the programs, all or those that are named, and write their golden files."""
    chosen = tuple(str(FOLDER / "src" / f"{name}.go") for name in names) or (str(FOLDER / "src"),)
    with tempfile.TemporaryDirectory() as work, Reporter() as report:
        request = Request(chosen, ("linux-i386",), ("pristine",), 1, 1, (), Path(work))
        store, run = run_request(request, report)
        for trial in store.trials(run.id):
            if trial.verdict == "error":
                continue
            golden = made(trial)
            write(golden)
            if golden.given() != golden.title:
                print(f"{golden.name}: expected {golden.title!r}, got {golden.given()!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
