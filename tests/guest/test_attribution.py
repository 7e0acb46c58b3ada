"""The question of 2013, for real: libgos are built, libpthread is that of 2013, and a guest runs Go and C programs."""

import json

from click.testing import CliRunner

from harness.cli.app import main
from harness.results.store import Store
from harness.run.resolve import repeat_request

PLAIN = ("pthreads/create-join", "pthreads/hand-over")


def test_what_the_failures_of_2013_follow(tmp_path):
    work = str(tmp_path / "work")
    words = ["attribute", "seed-2013", *PLAIN, "--libpthread", "threadvars-2013", "--work", work]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    matrix = json.loads((tmp_path / "work/runs/1/matrix.json").read_bytes())
    effects = {(effect["program"], effect["factor"]): effect for effect in matrix["effects"]}
    go = [program for program in matrix["programs"] if program.startswith("seed-2013/")]
    twins = sorted(set(matrix["experiment"]["twins"].values()))
    assert len(go) == 7 and len(twins) >= 5, "their twins were not named"
    for program in (*go, *twins):
        effect = effects[program, "libpthread"]
        assert effect["claimed"] and effect["everywhere"], f"{program} dies with that libpthread, whatever the libgo"
    for program in go:
        effect = effects[program, "libgo"]
        assert effect["failed"] == effect["base_failed"], f"{program}: thread destruction makes no difference"
    for program in PLAIN:
        assert effects[program, "libpthread"]["failed"] == 0, f"{program} switches no contexts"
    answer = " ".join(result.output.split())
    assert (
        "The libpthread threadvars-2013: 7 Go programs and" in answer and "fail with it, whatever the libgo" in answer
    )
    assert "The libgo no-thread-destruction: 7 Go programs came out the same with it as with pristine" in answer
    assert "Below Go (libpthread, libc, kernel): seed-2013/hello" in answer
    page = (tmp_path / "work/runs/1/attribution.html").read_text()
    assert "What the failures follow" in page and "pristine+threadvars-2013" in page
    titles = {finding["title"] for cell in matrix["cells"] for finding in cell["findings"]}
    assert any(
        title.startswith("pt-create.c: __pthread_create_internal: Assertion `({ mach_port_t") for title in titles
    )
    store = Store(tmp_path / "work/results.sqlite")
    trial = next(trial for trial in store.trials(1) if trial.variant == "pristine+threadvars-2013")
    request = repeat_request(store, trial.id, tmp_path / "work")
    assert request.variants == ("pristine+threadvars-2013",) and request.design is None, "it can be made again"


def test_c_programs_and_seeds(tmp_path):
    """C programs run without a libgo, and what perturbs them finds the trial's seed."""
    work = str(tmp_path / "work")
    words = ["run", "pthreads/create-join", "--variant", "pristine", "--variant", "perturb+slow-exit", "--work", work]
    result = CliRunner().invoke(main, [*words, "--trials", "2"])
    assert result.exit_code == 0 and "libgo" not in result.output.partition("Negative control")[0].partition("Cells")[0]
    store = Store(tmp_path / "work/results.sqlite")
    commands = {(trial.variant, trial.number): trial.command for trial in store.trials(1)}
    assert commands["perturb+slow-exit", 2].endswith("--seed 2") and "--seed" not in commands["pristine", 2]
    seeded = next(trial for trial in store.trials(1) if trial.variant != "pristine" and trial.number == 2)
    again = CliRunner().invoke(main, ["rerun", str(seeded.id), "--work", work])
    assert again.exit_code == 0, again.output
    (repeated,) = store.trials(2)
    assert repeated.command.endswith("--seed 2")
