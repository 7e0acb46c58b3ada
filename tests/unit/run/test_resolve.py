"""A request is resolved once: what was read then is what is built, stored and shown, whatever is edited meanwhile."""

import pytest

from harness import conf
from harness.build import worktree
from harness.build.variants import build_variants, new_variant
from harness.conf.load import BASELINE
from harness.progress import Reporter
from harness.run.manifest import describe, input_texts
from harness.run.request import Request
from harness.run.resolve import resolve

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
