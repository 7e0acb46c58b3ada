"""Bad input on the command line: one clear sentence, exit status 2, and nothing boots."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.results.matrix import Trial
from harness.results.store import Store


def call(*words, **env):
    return CliRunner().invoke(main, words, env=env)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--guest", "linux-i368"), "no guest named linux-i368; did you mean linux-i386?"),
        (("run", "--variant", "pristin"), "no variant named pristin; did you mean pristine?"),
        (("run", "goroutine"), "no suite, folder or .go file named goroutine; did you mean goroutines?"),
        (("run", "none.go"), "none.go: cannot be read: No such file or directory"),
        (("run", "--conf", "none.yaml"), "none.yaml: cannot be read"),
        (("shell", "hurd"), "no guest named hurd"),
        (("image", "show", "linux-i368"), "did you mean linux-i386?"),
        (("build", "no-thread-destructio"), "did you mean no-thread-destruction?"),
        (("build", "--toolchain", "x"), "no toolchain named x"),
        (("show",), "no run has been made here"),
        (("list",), "no run has been made here"),
    ],
)
def test_bad_input(words, said, tmp_path):
    got = call(*words, HARNESS_WORK=str(tmp_path / "work"))
    assert got.exit_code == 2
    assert said in got.output
    assert len(got.output.strip().splitlines()) == 1


def test_no_qemu_names_it(tmp_path, write):
    mine = write("mine.yaml", "guests:\n  linux-i386: {qemu: qemu-system-none}\n")
    got = call("shell", "linux-i386", "--conf", str(mine), HARNESS_WORK=str(tmp_path / "work"))
    assert got.exit_code == 2
    assert "no qemu-system-none on this machine; `harness doctor` says what to do" in got.output


def test_show_and_list_of_a_stored_run(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    plan = {"guests": ["g"], "variants": ["pristine"], "programs": ["s/p"], "trials": 1, "facts": {}}
    run = store.begin(plan)
    store.add(run, Trial(0, "g", "pristine", "s/p", 1, 1, "pass", "", "", 0, "", 0.1, b"", b"", 0, 0, "t", "c"))
    got = json.loads(call("show", "--format", "json", "--work", str(tmp_path)).output)
    assert got["cells"][0]["passed"] == 1
    assert "s" in call("show", "--work", str(tmp_path)).output
    assert "unfinished  1 cells" in call("list", "--work", str(tmp_path)).output
