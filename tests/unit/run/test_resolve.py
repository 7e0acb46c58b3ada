"""A request is resolved once: what was read then is what is built, stored and shown, whatever is edited meanwhile."""

from pathlib import Path

import pytest

from harness import conf
from harness.bisect.request import BisectRequest
from harness.build import worktree
from harness.build.variants import build_variants, new_variant
from harness.conf.load import BASELINE
from harness.errors import StoreError
from harness.progress import Reporter
from harness.results.store import Store
from harness.run.manifest import check_repeated, describe, input_texts
from harness.run.request import Request
from harness.run.resolve import repeat_request, resolve
from tests.runs import trials

#: A function of the runtime's that gccgo compiles, and a text in it that lands in the library.
FILE, TEXT = "libgo/go/runtime/proc.go", "all goroutines are asleep - deadlock!"


class Editor(Reporter):
    """Edits a work tree as soon as libgo is being compiled."""

    def __init__(self, edit):
        super().__init__(lambda line: None)
        self._edit, self.edited = edit, False

    def step(self, what, text):
        if "compiling" in text and not self.edited:
            self._edit()
            self.edited = True
        super().step(what, text)


@pytest.fixture
def mine(tools, tmp_path):
    """A variant `mine` with a work tree, and what writes a text into it."""
    folder = new_variant("mine", BASELINE, "linux-i386", conf.load(), tmp_path / "work")
    file = folder / FILE
    source = file.read_text()
    assert source.count(TEXT) == 1

    def write(text):
        file.write_text(source.replace(TEXT, text))

    return folder, write


def test_a_work_tree_that_is_edited_during_its_build_changes_neither_libgo_nor_plan(
    tools, libgo_cache, mine, tmp_path, write
):
    tree, write_text = mine
    write_text("the text before the build")
    write("demo/ok.go", "// run\n\npackage main\n\nfunc main() {}\n")
    request = Request((str(tmp_path / "demo"),), ("linux-i386",), ("mine",), 1, None, (), tmp_path / "work")
    resolved = resolve(request)
    before = worktree.difference(tree)
    report = Editor(lambda: write_text("the text of an edit during the build"))
    libgos = build_variants(resolved.variants.values(), tools, libgo_cache, report)
    library = libgos["mine"].library.read_bytes()
    assert report.edited and worktree.difference(tree).key != before.key
    assert b"the text before the build" in library and b"an edit during the build" not in library
    inputs = input_texts(resolved)
    assert b"the text before the build" in inputs["variant mine"].text
    plan = describe(resolved, {}, {}, {}, inputs, boot_here=False)
    assert plan.inputs == {part: each.key for part, each in inputs.items()}
    assert plan.facts["patches"] == {"mine": [f"{before.path.name} {before.key}"]}
    assert resolve(request).variants["mine"].recipe != resolved.variants["mine"].recipe, "the next run has the edit"


def test_each_work_tree_is_read_once_for_all_variants_that_it_is_in(mine, tmp_path, monkeypatch, write):
    tree, write_text = mine
    write_text("another text")
    reads = []
    difference = worktree.difference
    monkeypatch.setattr(worktree, "difference", lambda folder: reads.append(folder) or difference(folder))
    program = str(write("demo/ok.go", "package main\n\nfunc main() {}\n"))
    request = Request((program,), ("linux-i386",), ("mine",), 1, None, (), tmp_path / "work", traced=(program,))
    assert list(resolve(request).variants) == ["mine", "mine+trace"]
    assert reads == [tree]


OK = "// run\n\npackage main\n\nfunc main() {}\n"


def test_selected_programs_that_are_in_no_cell_are_named(tmp_path, write):
    write("mine/a.go", OK)
    write("mine/b.go", "// +build ignore\n\n" + OK)
    write("mine/c.go", OK.replace("// run\n", "// run\n// needs: wings\n"))
    resolved = resolve(
        Request((str(tmp_path / "mine"),), ("linux-i386",), ("pristine",), 1, None, (), tmp_path / "work")
    )
    assert resolved.describe_left_out(resolved.cells()) == (
        "for another system or compiler, by the header: mine/b; for want of what they need of guest and libgo: mine/c"
    )


def test_a_stored_request_is_understood_in_any_folder(tmp_path, write, monkeypatch):
    write("mine/a.go", OK)
    monkeypatch.chdir(tmp_path)
    conf_file = write("x/mine.yaml", "{}")
    request = Request(
        ("mine",),
        ("linux-i386",),
        ("pristine",),
        1,
        None,
        (Path("x/../x/mine.yaml"),),
        Path("work"),
        traced=("mine/a.go",),
    )
    resolved = resolve(request)
    stored = describe(resolved, {}, {}, {}, input_texts(resolved), boot_here=False).request
    folder = str(tmp_path / "mine")
    assert (stored.selection, stored.traced, stored.conf_files) == ([folder], [f"{folder}/a.go"], [str(conf_file)])
    bisect = BisectRequest("mine/a.go", "linux-i386", Path("work"), files=(Path("x/mine.patch"),)).to_json()
    assert (bisect["program"], bisect["files"]) == (f"{folder}/a.go", [str(tmp_path / "x/mine.patch")])


def test_programs_told_apart_by_their_paths_are_traced_and_repeated(tmp_path, write):
    """Beside others of its name a program has a longer one than alone."""
    chosen = [str(write(f"{place}/s/a.go", OK)) for place in ("x", "y")]

    def request(*selection, **more):
        return Request(selection, ("linux-i386",), ("pristine",), 1, None, (), tmp_path / "work", **more)

    resolved = resolve(request(*chosen, traced=(chosen[1],)))
    assert [program.name for program in resolved.programs] == ["x/s/a", "y/s/a"]
    assert [program.name for program in resolved.traced] == ["y/s/a"]

    def plan(resolved):
        return describe(resolved, {}, {}, {}, input_texts(resolved), boot_here=False)

    store = Store(tmp_path / "work/results.sqlite")
    run = store.begin(plan(resolved))
    trial = store.add(run, next(trials(["y/s/a"], ["linux-i386"], ["pristine"], 1)))
    again = repeat_request(store, trial, tmp_path / "work")
    assert [program.name for program in resolve(again).programs] == ["y/s/a"]
    check_repeated(again, plan(resolve(again)), store)
    write("y/s/a.go", OK + "// edited\n")
    with pytest.raises(StoreError, match=r"cannot be made again: source of y/s/a has changed since the run was made"):
        check_repeated(again, plan(resolve(again)), store)
