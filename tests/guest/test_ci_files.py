"""The workflow files: they are what GitHub and GitLab take, and what their steps say really makes a matrix."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from harness import paths
from harness.cli.app import main
from harness.results.store import Store
from harness.run.request import request_of_run
from harness.run.resolve import resolve

GITHUB = paths.DATA / ".github" / "workflows" / "harness.yml"
FRESH = [paths.DATA / name for name in (".github/workflows/fresh.yml", ".gitlab/fresh.yml")]
GITLAB = [paths.DATA / name for name in (".gitlab-ci.yml", ".gitlab/harness.yml", ".gitlab/merge.yml")]


def check(schema, *files):
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def plan(*words):
    result = CliRunner().invoke(main, ["ci", "plan", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_they_are_of_their_published_schemas(tmp_path):
    planned = tmp_path / "shards.yml"
    planned.write_text(plan("threads", "--jobs", "3", "--format", "gitlab"))
    for process in (check("github-workflows", GITHUB, FRESH[0]), check("gitlab-ci", *GITLAB, FRESH[1], planned)):
        assert process.returncode == 0, process.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(GITHUB.read_text().replace("runs-on:", "run-on:"))
    assert check("github-workflows", wrong).returncode


def test_the_jobs_of_gitlab_extend_what_there_is():
    jobs = yaml.safe_load(plan("threads", "--jobs", "2", "--format", "gitlab"))
    child = {name: job for file in GITLAB[1:] for name, job in yaml.safe_load(file.read_text()).items()}
    assert {job["extends"] for job in [*jobs.values(), child["merge"]]} <= child.keys()
    assert child[".harness-shard"]["stage"] in child["stages"] and child["merge"]["stage"] == child["stages"][-1]
    parent = yaml.safe_load(GITLAB[0].read_text())
    assert [paths.DATA / entry["local"] for entry in parent["include"]] == [GITLAB[1], FRESH[1]]
    assert yaml.safe_load(FRESH[1].read_text())["fresh"]["stage"] in parent["stages"]


class Runner:
    """Does the steps of the workflow's jobs here; those of `uses` are GitHub's, and here files are moved instead."""

    def __init__(self, folder, env):
        self.jobs = yaml.safe_load(GITHUB.read_text())["jobs"]
        self.folder, self.env = folder, env

    def job(self, name, matrix=None, status=0):
        """Returns what the job's steps told GitHub."""
        env = {**os.environ, **self.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        files = {word: self.folder / word for word in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for step in self.jobs[name]["steps"]:
            if "run" not in step or step.get("name") == "Install":
                continue
            text = re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: matrix[match[1]], step["run"])
            assert "${{" not in text
            process = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", text],
                cwd=self.folder, env={**env, **{word: str(file) for word, file in files.items()}},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert process.returncode in (0, status), process.stderr
        return {word: file.read_text() if file.exists() else "" for word, file in files.items()}


@pytest.fixture
def github(tmp_path):
    env = {"SELECTION": "threads/lock-r* threads/lock-n*", "TRIALS": "1", "JOBS": "2", "GUEST": "linux-i386"}
    return Runner(tmp_path, env | {"VARIANTS": "pristine no-thread-destruction", "HARNESS_WORK": "work"})


def assert_it_goes_on_as_the_same_shard(work, shard):
    """What `--resume` would make: the trials that the run has, and no others."""
    store = Store(work / "results.sqlite")
    resolved = resolve(request_of_run(store.run(1), work))
    assert f"{resolved.request.shard[0]}/{resolved.request.shard[1]}" == shard
    trials = {(trial.program, trial.variant, trial.number) for trial in store.trials(1)}
    assert trials == {
        (spec.program.name, spec.variant, spec.number) for spec in resolved.matrix_trials(resolved.guests, 1)
    }


def test_the_steps_make_a_matrix(github, tmp_path):
    output = github.job("plan")["GITHUB_OUTPUT"]
    rows = json.loads(output.removeprefix("matrix="))["include"]
    assert len(rows) == 2
    for row in rows:
        github.job("shard", row)
        assert_it_goes_on_as_the_same_shard(tmp_path / "work", row["shard"])
        place = tmp_path / "shards" / f"shard-{row['shard'][0]}-1"
        place.mkdir(parents=True)
        shutil.move(tmp_path / "work", place / "work")
    summary = github.job("merge")["GITHUB_STEP_SUMMARY"]
    assert "lock-ring" in summary and "lock-nested" in summary
    merged = json.loads(
        CliRunner().invoke(main, ["show", "--format", "json", "--work", str(tmp_path / "merged")]).output
    )
    cells = [(cell["program"], cell["variant"], cell["passed"], cell["trials"]) for cell in merged["cells"]]
    assert sorted(cells) == sorted(
        (f"threads/{program}", variant, 1, 1)
        for program in ("lock-nested", "lock-ring")
        for variant in merged["variants"]
    )
    assert (tmp_path / "junit.xml").read_text().startswith("<?xml")
    assert (
        github.job("plan")["GITHUB_OUTPUT"].count("--times times/times.json") == 2
    )  # it is known by now how long they take
