"""The driver and the commands of a bisect. Builds and guests are stand-ins; the rest is real: patches, GCC's source,
the store, files and output. A real bisect in a guest is in test_bisect_guest.py."""

import random
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness import paths
from harness.bisect import backwards, driver
from harness.bisect.driver import check_built
from harness.build import patches
from harness.cli.app import main
from harness.errors import BuildError, PatchError
from harness.results.store import Store
from harness.run.manifest import describe, input_texts
from harness.run.prepare import PreparedRun
from harness.run.workers import WorkerPool
from harness.trial.execute import infra_error
from harness.trial.record import Verdict
from harness.trial.verdict import Judgement

DATA = paths.DATA / "tests" / "data" / "bisect"
ONE, TWO = DATA / "one-hunk.patch", DATA / "two-hunks.patch"
PROGRAM = "threads/lock-exit-once"
NOTHING = {"exit_status": 0, "signal": "", "seconds": 0.5, "stdout": b"", "stderr": b"", "stdout_total": 0}
NOTHING |= {"stderr_total": 0, "started": "2026-01-01T00:00:00+00:00", "command": "harness run x"}


def patch_text(variant):
    """The text of a variant's patches."""
    return b"".join(patch.text for patch in variant.recipe.patches).decode()


class World:
    """Stands in for compilers and guests.

    Attributes:
        harm: texts; with a patch that has them all, the program crashes with probability p1, with others with p0.
        needs: pairs of texts: a patch with the first and without the second does not compile.
        grades: by a text, the probability that a program crashes with a patch that has it, and no text of a later one.
        killed_at: the number of the trial at which the harness is killed, once.
        trouble: the error of the next build.
        deadly: a text; with a patch that has it no guest lives to the end of a trial, for the reason `death`.
    """

    def __init__(
        self,
        harm=(),
        p1=1.0,
        p0=0.0,
        needs=(),
        killed_at=0,
        trouble="",
        deadly="none",
        death="the guest died",
        grades=None,
    ):
        self.deadly, self.death, self.grades = deadly, death, grades or {}
        self.harm, self.p1, self.p0, self.needs, self.killed_at, self.trouble = harm, p1, p0, needs, killed_at, trouble
        self.random, self.trials, self.built, self.held = random.Random(1), 0, [], []
        self.texts = {}

    def build(self, variant):
        text = patch_text(variant)
        if self.trouble:
            raise BuildError(f"libgo: make failed: {self.trouble} (whole log: x)")
        for part, needed in self.needs:
            if part in text and needed not in text:
                raise BuildError("libgo: make failed: proc.c:1:1: error: it is not declared (whole log: x)")
        self.built.append(variant.name)

    def prepare_run(self, resolved, report):
        source = resolved.configuration.toolchain("linux-i386").source
        self.base = (Path(source) / "libgo/go/p/p.go").read_text() if source else ""
        for variant in resolved.variants.values():
            self.build(variant)
            self.texts[variant.name] = self.base + patch_text(variant)
        libgos = {name: SimpleNamespace(key=name, library=None) for name in resolved.variants}
        plan = describe(resolved, {}, {}, {}, input_texts(resolved), boot_here=False)
        return PreparedRun({}, {"x": SimpleNamespace(libgos=libgos, broken={})}, {}, plan, {})

    def add_variant(self, variant, resolved, prepared, report, stopped=None):
        self.build(variant)
        self.texts[variant.name] = self.base + patch_text(variant)
        prepared.artifacts["x"].libgos[variant.name] = SimpleNamespace(key=variant.name)

    def conduct(self, resolved, prepared, store, number, report, make_batches, resume=False, hooks=None):
        pool = Holding.__new__(Holding)
        pool.hold = self.held.append
        for batch in make_batches(pool, lambda: False):
            for spec in batch.trials["linux-i386"]():
                self.trials += 1
                if self.trials == self.killed_at:
                    raise KeyboardInterrupt
                assert spec.variant in prepared.artifacts["x"].libgos, "only what is built is run"
                text = self.texts[spec.variant]
                rate = self.p1 if all(part in text for part in self.harm) else self.p0
                rate = next((graded for part, graded in reversed(self.grades.items()) if part in text), rate)
                crash = self.random.random() < rate
                judgement = Judgement(Verdict.PASS, "as expected")
                if crash:
                    judgement = Judgement(Verdict.CRASH, "status 2", "fatal error: bad\x1b[2J time")
                if self.deadly in text:
                    judgement = Judgement(Verdict.ERROR, self.death)
                attempt = 3 if judgement.verdict is Verdict.ERROR else 1
                trial = replace(infra_error(spec, "", "", ()), attempt=attempt, **asdict(judgement))
                store.add(number, trial)
                hooks.finished(trial)


class Holding(WorkerPool):
    """A worker pool without guests, which records the libgos that they should hold."""


@pytest.fixture
def bisect(gcc, tmp_path, monkeypatch):
    """Run a command of a bisect in a stand-in world."""
    monkeypatch.setattr(driver, "check_built", lambda *arguments: None)

    def make(world, *arguments):
        for name in ("prepare_run", "add_variant", "conduct"):
            monkeypatch.setattr(driver, name, getattr(world, name))
        return CliRunner().invoke(main, ["bisect", *map(str, arguments), "--work", str(tmp_path / "work")])

    return make


BAD = "a thread ends at a bad time"


def test_one_hunk_of_nine(bisect, gcc, tmp_path):
    world = World([BAD])
    result = bisect(world, "patch", ONE, "--program", PROGRAM)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^runtime/proc.c:605, with a probability of (more than )?9\d\.\d%\.$", result.output, re.MULTILINE
    )
    assert "\x1b" not in result.output and r"bad\x1b[2J time" in result.output
    text = (tmp_path / "work/runs/1/culprit.patch").read_bytes()
    (_hunk,) = re.findall(rb"^@@", text, re.MULTILINE)
    assert BAD.encode() in text and b"bad time, with" not in text
    patches.apply(*patches.parse(text, Path("culprit.patch")), copy_source(gcc, tmp_path))
    page = (tmp_path / "work/runs/1/bisect.html").read_text()
    assert "runtime/proc.c:605" in page and "\x1b" not in page and "none (pristine)" in page
    store = Store(tmp_path / "work/results.sqlite")
    links = re.findall(r'href="report.html#trial-(\d+)" title="trial \1: (\w+)"', page)
    assert sorted((int(number), verdict) for number, verdict in links) == [
        (trial.id, trial.verdict) for trial in store.trials(1)
    ]
    index = (tmp_path / "work/index.html").read_text()
    assert 'href="runs/1/bisect.html"' in index and "<td>bisect</td>" in index and "<td>done</td>" in index
    assert 'href="bisect.html"' in (tmp_path / "work/runs/1/report.html").read_text()
    assert store.run(1).finished and f"It took {len(list(store.trials(1)))} trials" in result.output
    assert all(len(libgos) in (2, 3) for libgos in world.held), "guests are given few libgos at a time"


def copy_source(gcc, folder):
    for file in ("libgo/runtime/proc.c", "gcc/BASE-VER"):
        (folder / "tree" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / file).write_bytes((gcc / file).read_bytes())
    return folder / "tree"


def test_two_hunks_together_one_of_which_needs_a_third(bisect, tmp_path):
    # threads_started is declared by one hunk and used by another.
    world = World(["mp->ncgocall = 1;", "a marked thread"], needs=[("__atomic_add_fetch", "static uint32 thr")])
    target = tmp_path / "found.patch"
    result = bisect(world, "patch", TWO, "--program", PROGRAM, "-o", target)
    assert result.exit_code == 0, result.output
    assert "runtime/proc.c:250 and runtime/proc.c:607 together, with a probability" in result.output
    assert len(re.findall(r"^@@", target.read_text(), re.MULTILINE)) == 2
    again = [name for name in world.built if world.built.count(name) > 1]
    assert not again, "nothing is built twice"


def test_killed_and_resumed(bisect, tmp_path):
    whole = bisect(World([BAD]), "patch", ONE, "--program", PROGRAM)
    assert whole.exit_code == 0
    stopped = bisect(World([BAD], killed_at=9), "patch", ONE, "--program", PROGRAM)
    assert stopped.exit_code == 130
    assert "8 trials of bisect 2 are stored\n`harness bisect resume 2 --work /" in stopped.output
    refused = CliRunner().invoke(main, ["run", "--resume", "2", "--work", str(tmp_path / "work")])
    assert refused.exit_code == 2 and "`harness bisect resume 2 --work /" in refused.output
    world = World([BAD])
    result = bisect(world, "resume")
    assert result.exit_code == 0 and "runtime/proc.c:605, with a probability" in result.output, result.output
    store = Store(tmp_path / "work/results.sqlite")
    trials = [(trial.variant, trial.number) for trial in store.trials(2)]
    assert len(set(trials)) == len(trials) == 8 + world.trials
    over = bisect(World(), "resume")
    assert over.exit_code == 2 and "all bisects have finished" in over.output


def test_a_full_disk_is_no_constraint(bisect, tmp_path):
    class Full(World):
        def add_variant(self, *arguments):
            self.trouble = "fatal error: error writing to /tmp/x.s: No space left on device"
            super().add_variant(*arguments)

    result = bisect(Full([BAD]), "patch", ONE, "--program", PROGRAM)
    assert result.exit_code == 2 and "No space left on device" in result.output
    assert Store(tmp_path / "work/results.sqlite").run(1).plan.bisect.failed == []
    assert bisect(World([BAD]), "resume").exit_code == 0


def test_the_patch_is_not_what_it_was(bisect, write):
    mine = write("mine.patch", ONE.read_text())
    assert bisect(World([BAD], killed_at=5), "patch", mine, "--program", PROGRAM).exit_code == 130
    mine.write_text(TWO.read_text())
    result = bisect(World(), "resume")
    assert result.exit_code == 2 and "the patch has changed since it began" in result.output


@pytest.mark.parametrize("outcome", ["kills guest", "thread_terminate"])
def test_a_hunk_that_kills_guests(bisect, tmp_path, outcome):
    world = World(deadly=BAD, death="panic in thread_terminate (../kern/thread.c:614): thread 0xc12 has no stack")
    result = bisect(world, "patch", ONE, "--program", PROGRAM, "--outcome", outcome)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^runtime/proc.c:605, with a probability of (more than )?9\d\.\d%\.$", result.output, re.MULTILINE
    )
    assert len((tmp_path / "work/runs/1/culprit.patch").read_bytes().split(b"\n@@")) == 2


def test_a_bisect_of_guests_that_die_goes_on_as_it_would_have(bisect, tmp_path):
    death = "panic in thread_terminate (../kern/thread.c:614): no stack"
    words = ("patch", ONE, "--program", PROGRAM, "--outcome", "kills guest")
    assert bisect(World(deadly=BAD, death=death, killed_at=7), *words).exit_code == 130
    result = bisect(World(deadly=BAD, death=death), "resume")
    assert result.exit_code == 0 and "runtime/proc.c:605, with a probability" in result.output


def test_no_difference(bisect):
    result = bisect(World(p1=0.0), "patch", ONE, "--program", PROGRAM, "--trials", "12")
    assert result.exit_code == 1
    assert "No difference found with 24 trials." in result.output
    assert re.search(r"A difference of \d+% would have shown with a probability of 90%\.", result.output)


def test_a_program_that_fails_with_every_build(bisect):
    result = bisect(World(), "patch", ONE, "--program", PROGRAM, "--trials", "12")
    assert result.exit_code == 1
    assert f"{PROGRAM} already does so in every trial with pristine." in result.output


def test_a_libgo_that_no_guest_survives(bisect):
    result = bisect(World(deadly=BAD), "patch", ONE, "--program", PROGRAM)
    assert result.exit_code == 3
    assert re.search(
        "every trial with bisect-[0-9a-f]{8} ends in trouble with its guest; the last time: the guest died",
        result.output,
    )


GOOD = ONE.read_text()
HEADER = "diff --git a/libgo/runtime/yield.c b/libgo/runtime/yield.c\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "changes nothing"),
        (GOOD + "GIT binary patch\n", "binary"),
        (GOOD.replace(HEADER, f"{HEADER}rename from libgo/a.c\nrename to libgo/b.c\n"), "names other files"),
        (
            f"{HEADER}rename from libgo/a.c\nrename to libgo/runtime/yield.c\n",
            "renames libgo/a.c, which cannot be split",
        ),
        (
            GOOD.replace(HEADER, f"{HEADER}old mode 100644\nnew mode 100755\n"),
            "changes the mode of libgo/runtime/yield.c",
        ),
        (GOOD.replace("tries < 20", "tries < 21"), "does not apply to GCC VERSION: hunk 2 of libgo/runtime/proc.c"),
        (GOOD[:-30], "is not a unified diff"),
    ],
)
def test_bad_patches(bisect, write, tools, text, message):
    result = bisect(World(), "patch", write("p.patch", text), "--program", PROGRAM)
    assert result.exit_code == 2 and message.replace("VERSION", tools.version) in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONE, "--program", "threads"), "threads matches 11 programs; a bisect needs exactly one"),
        ((ONE, "--program", "threads/none"), "no runnable program none"),
        ((ONE, "--program", "pthreads/churn"), "pthreads/churn is a C program, and has no libgo of which to blame"),
        (("none.patch", "--program", PROGRAM), "cannot be read"),
        ((ONE, "--program", PROGRAM, "--baseline", "distro"), "is prebuilt"),
        ((ONE, "--program", PROGRAM, "--guest", "nowhere"), "no guest named nowhere"),
        ((ONE, "--program", PROGRAM, "--baseline", "none"), "no variant named none"),
    ],
)
def test_bad_requests(bisect, arguments, message):
    result = bisect(World(), "patch", *arguments)
    assert result.exit_code == 2 and message in result.output and len(result.output.splitlines()) == 1


def test_what_changes_nothing_that_is_built(write):
    same = SimpleNamespace(library=write("libgo.so", "same"))
    built = SimpleNamespace(broken={}, libgos={"pristine": same, "bisect-x": same})
    with pytest.raises(PatchError, match="changes nothing in the libgo that is built"):
        check_built(PreparedRun({}, {"x": built}, {}, {}, {}), "pristine", "bisect-x")


# Commits.


@pytest.fixture
def repository(gcc, tmp_path):
    """A repository with what a bisect of commits reads of GCC's, and a commit for each hunk of a patch."""
    folder = tmp_path / "gcc"
    for file in ("gcc/BASE-VER", "libgo/configure", "config.guess"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes((gcc / file).read_bytes())
    source = folder / "libgo/go/p/p.go"
    source.parent.mkdir(parents=True)
    source.write_text("package p\n")
    git(folder, "init", "-q", "-b", "master")
    commit(folder, "the beginning")
    git(folder, "tag", "good")
    for number in range(8):
        source.write_text(source.read_text() + f"\n// Change {number}.\n")
        commit(folder, f"libgo: change {number}")
        (folder / "ChangeLog").write_text(f"{number}\n")
        commit(folder, f"another part of GCC, {number}")
    return folder


def git(folder, *arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder, message):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def test_the_first_bad_commit(bisect, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = bisect(
        World(["// Change 5."]), "git", repository, "good..master", "--program", PROGRAM, "--outcome", "crash"
    )
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^[0-9a-f]{12} \(libgo: change 5\), with a probability of (more than )?9", result.output, re.MULTILINE
    )
    text = (tmp_path / "work/runs/1/culprit.patch").read_text()
    assert "+// Change 5." in text and "+// Change 4." not in text
    (unpacked,) = (tmp_path / "cache/harness/gcc-source").glob("*/libgo/go/p/p.go")
    assert unpacked.read_text() == "package p\n", "libgo is that of the first commit"


def test_a_graded_effect_is_told_step_by_step(bisect, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    costs = driver.Driver._costs  # by how long builds take here, which the machine's load decides
    monkeypatch.setattr(driver.Driver, "_costs", lambda self: replace(costs(self), build=2.0))
    world = World(["nothing"], grades={"// Change 2.": 0.3, "// Change 6.": 0.95})
    result = bisect(world, "git", repository, "good..master", "--program", PROGRAM, "--outcome", "crash")
    assert result.exit_code == 0, result.output
    first, *steps = result.output.partition("The effect is graded")[2].splitlines()[:3]
    assert first.startswith(": 2 steps make it up, with a probability of ")
    second, sixth = r"[0-9a-f]{12} \(libgo: change 2\)", r"[0-9a-f]{12} \(libgo: change 6\)"
    assert re.match(rf"{second} takes it from 0 of \d+ \(pristine\) to \d+ of \d+ \(up to \w+\)\.", steps[0])
    assert re.match(rf"{sixth} takes it from \d+ of \d+ \(up to \w+\) to \d+ of \d+ \(all 8\)\.", steps[1])
    assert "effects are graded; " in result.output and re.search(r"about \d+ trials tell a build", result.output)


def test_a_good_commit_is_looked_for(bisect, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backwards, "_FIRST", 1)
    world = World(["// Change 1."], p1=0.9)
    result = bisect(world, "git", repository, "master", "--program", PROGRAM)
    assert result.exit_code == 0, result.output
    assert re.search(r"^[0-9a-f]{12} \(libgo: change 1\), with a probab", result.output, re.MULTILINE)
    looked = re.findall(r"looking for a good commit: \w{12}, (\d+) commits? before (\w+)", result.output)
    assert [number for number, _ in looked] == ["1", "4", "3"], "what was found bad is the end of the next range"
    assert len({bad for _, bad in looked}) == 3
    store = Store(tmp_path / "work/results.sqlite")
    few = [len(list(store.trials(number))) for number in (1, 2)]
    assert max(few) <= 20, "as many trials as tell that it is bad as well"
    world = World(p1=0.9)
    none = bisect(world, "git", repository, "master", "--program", PROGRAM)
    assert none.exit_code == 1 and "No difference found" in none.output, "not even the first commit is good"


def test_a_search_for_a_good_commit_goes_on_where_it_was_interrupted(bisect, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backwards, "_FIRST", 1)
    stopped = bisect(World(["// Change 1."], killed_at=5), "git", repository, "master", "--program", PROGRAM)
    assert stopped.exit_code == 130 and "`harness bisect resume 1 --work /" in stopped.output
    result = bisect(World(["// Change 1."]), "resume")
    assert result.exit_code == 0, result.output
    assert re.search(r"^[0-9a-f]{12} \(libgo: change 1\), with a probab", result.output, re.MULTILINE)


def test_commits_that_do_not_build_are_left_out(bisect, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world = World(["// Change 5."], needs=[("// Change 4.", "// Change 6.")])
    result = bisect(world, "git", repository, "good..master", "--program", PROGRAM)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^One of .*change 4\), .*change 5\), .*change 6\), with a probability", result.output, re.MULTILINE
    )


def test_bad_repositories(bisect, repository, tools, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def error(folder=repository, commits="good..master"):
        result = bisect(World(), "git", folder, commits, "--program", PROGRAM)
        assert result.exit_code == 2 and len(result.output.splitlines()) == 1, result.output
        return result.output

    assert "is not a folder" in error(tmp_path / "none")
    assert "is not a git repository" in error(Path("/"))
    assert "is not a range of commits" in error(commits="good..")
    assert "has no commit nothing" in error(commits="nothing")
    assert "no commit before good changes libgo" in error(commits="good")
    assert "has no commit better" in error(commits="better..master")
    assert "master is not an ancestor of good" in error(commits="master..good")
    assert "no commit of good..good changes libgo" in error(commits="good..good")
    later = f"{tools.major + 1}.1.0"
    (repository / "gcc/BASE-VER").write_text(f"{later}\n")
    assert "has uncommitted changes" in error()
    commit(repository, "a later GCC")
    (repository / "libgo/go/p/p.go").write_text("package p // again\n")
    commit(repository, "libgo: one more")
    assert f"is GCC {later}, and toolchain linux-i386 is GCC {tools.major}" in error(commits="master~1..master")
