"""What a user asks of a bisect, and the request of a stored one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import paths
from harness.conf.load import BASELINE
from harness.errors import StoreError
from harness.programs.select import from_anywhere
from harness.results.store import Store
from harness.results.text import render_count


@dataclass(frozen=True)
class BisectRequest:
    """What a user asks for.

    Attributes:
        files: the patches, in their order; or else `repository` and `commits`, a range GOOD..BAD of it, or the bad one
            alone.
        steps_back: how many commits were gone back to find a good one; 0 if it was given.
        outcome: a verdict or a text of the title that is looked for; "" means what differs most.
        confidence: how probable the answer must be.
        trials: of each end at most, until they are seen to differ.
        full_timeout: give a program that hangs all of its time, even if it is certain that it hangs.
    """

    program: str
    guest: str
    work: Path
    baseline: str = BASELINE
    files: tuple[Path, ...] = ()
    repository: Path | None = None
    commits: str = ""
    steps_back: int = 0
    blocks: bool = False
    outcome: str = ""
    confidence: float = 0.95
    trials: int = 40
    jobs: int | None = None
    conf_files: tuple[Path, ...] = ()
    full_timeout: bool = False

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; the work directory is where it is stored."""
        fields = {name: value for name, value in asdict(self).items() if name != "work"}
        for name in ("files", "conf_files"):
            fields[name] = [str(paths.absolute(Path(file))) for file in fields[name]]
        repository = self.repository and str(paths.absolute(self.repository))
        return {**fields, "program": from_anywhere(self.program), "repository": repository}

    @classmethod
    def from_json(cls, stored: dict[str, Any], work: Path) -> BisectRequest:
        """A request that was stored."""
        files = {name: tuple(map(Path, stored[name])) for name in ("files", "conf_files")}
        return cls(
            **{**stored, **files, "repository": stored["repository"] and Path(stored["repository"]), "work": work}
        )


class BisectInterrupted(Exception):
    """The user stopped a bisect. What has finished is stored.

    Attributes:
        number: the bisect's, which is its run's.
    """

    def __init__(self, number: int, trials: int) -> None:
        verb = "is" if trials == 1 else "are"
        super().__init__(f"interrupted: {render_count(trials, 'trial')} of bisect {number} {verb} stored")
        self.number = number


def stored_bisect(work: Path, number: int | None) -> tuple[BisectRequest, int]:
    """The request of a bisect that did not finish, and the number of its run.

    Args:
        number: the run; None is the newest that has not finished.

    Raises:
        StoreError: there is none.
    """
    path = work / "results.sqlite"
    if not path.is_file():
        raise StoreError(f"{work}: no bisect has been made here")
    store = Store(path)
    if number is None:
        unfinished = [run for run in store.runs() if run.finished is None and run.plan.bisect]
        if not unfinished:
            raise StoreError(f"{work}: all bisects have finished; there is nothing to resume")
        number = unfinished[-1].id
    run = store.run(number)
    if run.plan.bisect is None:
        raise StoreError(f"run {number} is no bisect")
    if run.finished is not None:
        raise StoreError(f"bisect {number} has finished; there is nothing to resume")
    return BisectRequest.from_json(run.plan.bisect.request, work), number
