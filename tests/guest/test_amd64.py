"""The control's 64-bit twin, for real: the suite that the workflow runs on it, and the titles of crashes there."""

import json
import shlex

import pytest
import yaml
from click.testing import CliRunner

from harness import conf, paths
from harness.build import program, toolchain
from harness.build.artifacts import AGENT_SOURCE
from harness.cache import Cache
from harness.cli.app import main
from harness.errors import ToolMissing
from harness.programs.gotags import Target
from harness.results.store import Store

NAME = "linux-amd64"
CRASHES = {
    "nil": ("func main() {\n\tvar f func()\n\tf()\n}\n", "nil pointer dereference"),
    "deadlock": (
        "func main() {\n\t<-make(chan int)\n}\n",
        "all goroutines are asleep - deadlock! chan receive in main.main",
    ),
    "index": (
        'import "os"\n\nfunc main() {\n\tprintln(os.Args[len(os.Args)])\n}\n',
        "index out of range [N] with length N",
    ),
}


@pytest.fixture(scope="module")
def tools():
    try:
        return toolchain.find(NAME, conf.load())
    except ToolMissing as error:
        pytest.skip(str(error))


def test_the_workflow_s_suite_passes_and_crashes_have_the_same_titles(tools, write, tmp_path):
    job = yaml.safe_load((paths.DATA / ".github/workflows/harness.yml").read_text())["jobs"]["amd64"]
    (command,) = [step["run"] for step in job["steps"] if step.get("name") == "Run a suite"]
    assert f"- {command}\n" in (paths.DATA / ".gitlab-ci.yml").read_text(), "both workflows run the same"
    name, *words = shlex.split(command)
    assert name == "harness"
    for name, (body, _) in CRASHES.items():
        write(f"demo/{name}.go", f"// run\n\npackage main\n\n{body}")
    result = CliRunner().invoke(main, [*words, str(tmp_path / "demo"), "--work", str(tmp_path / "work")])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    trials = list(Store(tmp_path / "work" / "results.sqlite").trials(1))
    assert {trial.program: trial.verdict for trial in trials if trial.program.startswith("goroutines/")} == {
        f"goroutines/{path.stem}": "pass" for path in (paths.DATA / "suites" / "goroutines").glob("*.go")
    }
    titles = {trial.program: trial.signature for trial in trials}
    for name, (_, title) in CRASHES.items():
        assert title in titles[f"demo/{name}"]
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    steps = [row["step"] for row in matrix["times"] if row["what"] == f"guest {NAME}"]
    assert "restoring" in steps and not any(step.startswith("receiving") for step in steps), "its libgo came by disk"


def test_what_runs_there_is_made_of_64_bits(tools):
    assert Target.of(tools.triple) == Target("linux", "amd64")
    head = program.build_agent(AGENT_SOURCE, tools, Cache(paths.cache_dir())).read_bytes()[:20]
    assert (head[:5], head[18]) == (b"\x7fELF\x02", 62), "ELFCLASS64 and EM_X86_64 (elf(5))"
