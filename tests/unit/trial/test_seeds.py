"""Seeds: what a program finds in its environment, and what the command says that makes its trial again."""

import shlex

import pytest

from harness import conf
from harness.build.artifacts import Artifacts
from harness.programs.header import read_program
from harness.programs.model import TrialSpec
from harness.trial.execute import Execution, GuestSetup, RunningTrial, TrialOptions, program_environment

VARIANTS = {
    "plain": conf.Variant(),
    "seeded": conf.Variant(seeded=True, env={"GOMAXPROCS": "4"}),
    "fixed": conf.Variant(seeded=True, env={"HARNESS_SEED": "99"}),
}


@pytest.fixture
def spec_of(write):
    """A trial numbered 5."""

    def make(variant, seed=None, env=""):
        source = write("demo/p.c", f"// run\n{env and '// env: ' + env}\n")
        return TrialSpec("linux-i386", variant, read_program(source), 5, seed, VARIANTS[variant].seeded)

    return make


@pytest.fixture
def setup(tmp_path):
    """The control guest, on which nothing compiles: its trials end before they reach it."""
    broken = {(variant, "demo/p"): "p.c does not compile:\np.c:1: error: none" for variant in VARIANTS}
    artifacts = Artifacts(tmp_path / "agent", {}, {}, broken, lambda *arguments: tmp_path)
    return GuestSetup("linux-i386", conf.load().guest("linux-i386"), "i686-linux-gnu", {}, artifacts)


@pytest.mark.parametrize(
    ("variant", "seed", "env", "expected"),
    [
        ("plain", None, "", None),
        ("plain", 7, "", None),
        ("seeded", None, "", "5"),
        ("seeded", 7, "", "7"),
        ("seeded", 0, "", "0"),
        ("seeded", 7, "HARNESS_SEED=1", "7"),
        ("plain", 7, "HARNESS_SEED=1", "1"),
        ("fixed", 7, "", "99"),
    ],
)
def test_the_programs_of_a_seeded_variant_find_their_seed(setup, spec_of, variant, seed, env, expected):
    spec = spec_of(variant, seed, env)
    environment = program_environment(setup, spec, VARIANTS[variant], with_cores=False)
    assert environment.get(conf.SEED) == expected
    assert environment.get("GOMAXPROCS") == ("4" if variant == "seeded" else None)


@pytest.mark.parametrize(
    ("variant", "seed", "words"),
    [
        ("plain", 7, []),
        ("seeded", None, ["--seed", "5"]),
        ("seeded", 7, ["--seed", "7"]),
        ("seeded", 0, ["--seed", "0"]),
    ],
)
def test_the_command_that_makes_a_trial_again_names_its_seed(setup, spec_of, variant, seed, words):
    spec = spec_of(variant, seed)
    options = TrialOptions(command=("--conf", "mine.yaml"))
    execution = Execution(setup, None, None, VARIANTS, options, lambda text: None)  # it needs no guest
    outcome = execution.run(RunningTrial(spec, "2026-01-01T00:00:00+00:00", 0))
    cell = ["--guest", "linux-i386", "--variant", variant, "--conf", "mine.yaml"]
    assert shlex.split(outcome.trial.command) == ["harness", "run", spec.program.word, *cell, *words]
    assert outcome.trial.number == 5


def test_the_variants_that_draw_lots_are_seeded():
    seeded = {name for name, variant in conf.load().variants.items() if variant.seeded}
    assert {"perturb", "random-scheduler"} <= seeded and "pristine" not in seeded
