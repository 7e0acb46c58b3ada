"""A bisect of commits of which only a bad one is known: goes back in time until a commit differs from it.

Each commit that is tried is the beginning of a range, and costs a libgo of its own. If it does as the bad one does, it
is the bad end of the next range. The steps grow, as in a search without an upper bound (J. L. Bentley and A. C. Yao,
"An almost optimal algorithm for unbounded searching", Information Processing Letters 5 (1976)).
"""

from __future__ import annotations

from dataclasses import replace

from harness.bisect.commits import earlier
from harness.bisect.driver import Finished, run_bisect
from harness.bisect.request import BisectRequest
from harness.errors import ConfigError
from harness.progress import Reporter
from harness.results.text import render_count

#: The commits that the first step goes back, and how many times as far each other one goes.
_FIRST, _FACTOR = 16, 4


def run_backwards(request: BisectRequest, report: Reporter, resume: int | None = None) -> Finished:
    """Make a bisect of the commits before a bad one, whose good end is unknown.

    Args:
        request: its `commits` are the bad one alone; of a bisect that is resumed, the range that it had come to.
        resume: the number of the run that is continued.

    Raises:
        HarnessError: as `run_bisect`; or there is no commit before the bad one.
        Interrupted: the user's doing; all finished trials are stored.
    """
    assert request.repository is not None
    steps, bad = _FIRST, request.commits
    if resume is not None:
        good, _, bad = request.commits.partition("..")
        finished = run_bisect(request, report, resume)
        steps, bad = request.steps_back * _FACTOR, good
        if _differ(finished):
            return finished
    else:
        finished = None
    while candidates := earlier(request.repository, bad, steps):
        good = candidates[-1]
        distance = render_count(len(candidates), "commit")
        report.note("bisect", f"looking for a good commit: {good[:12]}, {distance} before {bad[:12]}")
        attempt = replace(request, commits=f"{good}..{bad}", steps_back=steps)
        finished = run_bisect(attempt, report)
        if _differ(finished) or len(candidates) < steps:
            return finished
        steps, bad = steps * _FACTOR, good
    if finished is None:
        raise ConfigError(f"{request.repository}: no commit before {bad} changes libgo")
    return finished


def _differ(finished: Finished) -> bool:
    """Whether the ends of a bisect differ: they may have seemed to, until the search refuted it."""
    return finished.course.result is not None and finished.course.result.answer is not None
