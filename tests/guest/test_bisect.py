"""A bisect for real: libgos are built, and a guest runs them."""

import re

from click.testing import CliRunner

from harness import paths
from harness.cli.app import main
from harness.results.store import Store
from harness.run.resolve import repeat_request, resolve

DATA = paths.DATA / "tests" / "data" / "bisect"


def test_the_hunk_that_crashes_a_thread_that_ends(write, tmp_path):
    """The coin is taken out, and of the hunks only those of C files are left that need no other: that is short."""
    text = (DATA / "one-hunk.patch").read_text().replace("runtime_nanotime1() / 1000 % 3 == 0", "mp != nil")
    files = text.partition("diff --git a/libgo/runtime/proc.c")[2]
    hunks = re.split(r"^(?=@@|diff)", files, flags=re.MULTILINE)
    kept = [hunk for hunk in hunks if "threads_started" not in hunk and "procyield" not in hunk]
    mine = write("mine.patch", "diff --git a/libgo/runtime/proc.c" + "".join(kept))
    work = str(tmp_path / "work")
    words = ["bisect", "patch", str(mine), "--program", "threads/lock-exit-once", "--work", work]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert re.search(r"^runtime/proc.c:605, with a probability of (more than )?9", result.output, re.MULTILINE), (
        result.output
    )
    assert b"bad time" in (tmp_path / "work/runs/1/culprit.patch").read_bytes()
    store = Store(tmp_path / "work/results.sqlite")
    crash = next(trial for trial in store.trials(1) if trial.verdict == "crash")
    assert crash.signature.startswith("fatal error: a thread ends at a bad time")
    opened = CliRunner().invoke(main, ["open", str(crash.id), "--work", work])
    assert opened.exit_code == 0 and crash.signature in opened.output
    again = resolve(repeat_request(store, crash.id, tmp_path / "work"))
    assert again.configuration.patches(crash.variant) and again.cells()[0].variant == crash.variant, (
        "it can be made again"
    )
