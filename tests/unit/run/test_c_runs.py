"""Runs of C programs, with preloads and seeds: how they are resolved, described, made again and packed."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import harness.cli.run
from harness.build.artifacts import Artifacts
from harness.build.libgo import Libgo
from harness.cli.app import main
from harness.errors import ConfigError, HarnessError
from harness.guest.bootfiles import BootFiles
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import capsule
from harness.run.manifest import check_same, describe, input_texts
from harness.run.prepare import PreparedRun, run_context
from harness.run.request import Request, request_of_run
from harness.run.resolve import repeat_request, resolve
from harness.trial.record import Trial

C = "// run\n\nint\nmain (void)\n{\n}\n"
GO = "// run\n// twin: demo/c\n\npackage main\n\nfunc main() {}\n"
TRIAL = Trial(0, "linux-i386", "perturb", "demo/c", 3, 1, "crash", "", "", 2, "", 0.5, b"o", b"", 1, 0, "", "again")


@pytest.fixture
def demo(write, tmp_path):
    """A folder with a C program and a Go program whose twin it is."""
    write("demo/c.c", C)
    write("demo/go.go", GO)
    return tmp_path / "demo"


@pytest.fixture
def ask(tmp_path):
    """A request of a run on the control guest."""

    def make(*selection, variants=(), trials=2, conf_files=(), **more):
        words = tuple(map(str, selection))
        return Request(words, ("linux-i386",), variants, trials, None, conf_files, tmp_path / "work", **more)

    return make


def test_c_programs_alone_are_run_with_one_libgo_unless_more_are_named(demo, ask):
    assert resolve(ask(demo / "c.c")).request.variants == ("pristine",)
    assert resolve(ask(demo)).request.variants == ("pristine", "no-thread-destruction")
    assert resolve(ask(demo / "go.go")).request.variants == ("pristine", "no-thread-destruction")
    named = ("no-sysmon", "pristine")
    assert resolve(ask(demo / "c.c", variants=named)).request.variants == named


def test_a_c_program_has_no_threads_of_go_s_to_trace(demo, ask):
    with pytest.raises(ConfigError, match="--trace demo/c: is a C program, and has no libgo whose threads are counted"):
        resolve(ask(demo, traced=(str(demo / "c.c"),)))
    assert [program.name for program in resolve(ask(demo, traced=(str(demo / "go.go"),))).traced] == ["demo/go"]


@pytest.mark.parametrize(("seed", "seeds"), [(None, [1, 1, 2, 2]), (9, [9, 9, 9, 9]), (0, [0, 0, 0, 0])])
def test_the_seed_of_a_run_is_that_of_its_trials(demo, ask, seed, seeds):
    resolved = resolve(ask(demo, variants=("perturb",), seed=seed))
    assert [spec.own_seed for spec in resolved.trials("linux-i386")] == seeds


@pytest.mark.parametrize("full", [False, True])
def test_whether_limits_are_waited_for_is_kept_and_told(demo, ask, tmp_path, full):
    resolved = resolve(ask(demo / "c.c", full_timeout=full))
    prepared = PreparedRun({}, {"linux-i386": artifacts_of(tmp_path, {})}, {}, plan_of(resolved), {})
    options = run_context(resolved, prepared, None).options
    assert (options.full_timeout, "--full-timeout" in options.command) == (full, full)
    store = Store(tmp_path / "work/results.sqlite")
    run = store.run(store.begin(plan_of(resolved)))
    assert request_of_run(run, tmp_path / "work").full_timeout == full
    store.add(run.id, replace(TRIAL, command="harness run demo/c.c"), {})
    assert repeat_request(store, 1, tmp_path / "work").full_timeout == full
    old = run.plan.to_json()
    del old["request"]["full_timeout"]
    assert not request_of_run(replace(run, plan=RunPlan.model_validate(old)), tmp_path / "work").full_timeout


def artifacts_of(tmp_path, preloads):
    libgo = Libgo("key", tmp_path / "libgo/key")
    (libgo.folder / "lib").mkdir(parents=True, exist_ok=True)
    (libgo.folder / "lib/libgo.so.21").write_text("libgo")
    return Artifacts(tmp_path / "agent", {"pristine": libgo}, {}, {}, lambda *arguments: tmp_path, preloads)


def plan_of(resolved, artifacts=None, tools=()):
    compilers = {tool.name: tool for tool in tools}
    return describe(resolved, artifacts or {}, {}, compilers, input_texts(resolved), boot_here=False)


def test_a_plan_has_the_experiment(demo, ask):
    variants = ("pristine", "perturb", "no-sysmon+slow-exit+refuse-threads")
    plan = plan_of(resolve(ask(demo, variants=variants, seed=4)))
    assert (plan.twins, plan.c_programs) == ({"demo/go": "demo/c"}, ["demo/c"])
    names = {variant: [change.split()[0] for change in changes] for variant, changes in plan.besides_libgo.items()}
    assert names == {"perturb": ["perturb", "seeded"], variants[2]: ["slow-exit", "refuse-threads"]}
    assert plan.request.seed == 4


def test_a_run_is_made_of_its_preloads(demo, ask, tools, tmp_path):
    resolved = resolve(ask(demo / "c.c", variants=("pristine", "slow-exit+perturb")))
    libraries = [Path(f"/cache/preload/{key}/lib{key}.so") for key in ("1a", "2b", "3c")]
    parts = [
        plan_of(resolved, {"linux-i386": artifacts_of(tmp_path, {"slow-exit+perturb": preloads})}, [tools]).made_of
        for preloads in ((libraries[0], libraries[1]), (libraries[0], libraries[2]))
    ]
    name = "preloaded by slow-exit+perturb for linux-i386"
    assert [part[name] for part in parts] == ["1a 2b", "1a 3c"]
    assert not any("preloaded by pristine" in key for key in parts[0])


def test_a_run_whose_preload_has_changed_does_not_go_on(demo, ask, tools, tmp_path):
    resolved = resolve(ask(demo / "c.c", variants=("slow-exit",)))
    before, after = (
        plan_of(resolved, {"linux-i386": artifacts_of(tmp_path, {"slow-exit": (Path(f"/p/{key}/a.so"),)})}, [tools])
        for key in ("1a", "2b")
    )
    store = Store(tmp_path / "results.sqlite")
    run = store.run(store.begin(before))
    check_same(run, before, "no")
    with pytest.raises(HarnessError, match="preloaded by slow-exit for linux-i386 has changed since the run began"):
        check_same(run, after, "no")


def test_what_a_user_wrote_of_a_variant_has_its_preloads_and_whether_it_is_seeded(demo, ask, write):
    file = write("mine.c", "int mine;\n")
    texts = {}
    for text in ("{preload: mine.c}", "{preload: mine.c, seeded: true}"):
        mine = write("mine.yaml", f"variants:\n  mine: {text}\n")
        resolved = resolve(ask(demo / "c.c", variants=("mine", "pristine"), conf_files=(mine,)))
        file.write_text("edited after it was read\n")
        texts[text] = input_texts(resolved)["variant mine"]
        assert b"int mine;" in texts[text].text and b"edited" not in texts[text].text
        assert b"seeded" not in input_texts(resolved)["variant pristine"].text, "keys of old runs stay"
        file.write_text("int mine;\n")
    plain, seeded = texts.values()
    assert b"seeded: true" in seeded.text and plain.key != seeded.key


@pytest.mark.parametrize(("seed", "expected"), [(None, 3), (8, 8), (0, 0), (None, 1)])
def test_a_trial_that_is_made_again_has_its_seed(demo, ask, tmp_path, seed, expected):
    request = ask(demo, variants=("perturb",), trials=5, seed=seed)
    store = Store(tmp_path / "work/results.sqlite")
    trial = replace(TRIAL, command=f"harness run demo/c.c --variant perturb --seed {expected}")
    store.add(store.begin(plan_of(resolve(request))), trial, {})
    again = repeat_request(store, 1, tmp_path / "work", trials=2)
    assert again.seed == expected and [spec.own_seed for spec in resolve(again).trials("linux-i386")] == [expected] * 2


@pytest.mark.parametrize("seed", [None, 0, 2**31 - 1])
def test_a_run_that_goes_on_has_its_seed(demo, ask, tmp_path, seed):
    request = ask(demo, variants=("perturb",), seed=seed)
    store = Store(tmp_path / "work/results.sqlite")
    run = store.run(store.begin(plan_of(resolve(request))))
    assert request_of_run(run, tmp_path / "work").seed == seed
    old = run.plan.to_json()
    del old["request"]["seed"]
    assert request_of_run(replace(run, plan=RunPlan.model_validate(old)), tmp_path / "work").seed is None


@pytest.mark.parametrize(("words", "seed"), [((), None), (("--seed", "0"), 0), (("--seed", "2147483647"), 2**31 - 1)])
def test_the_command_line_s_seed_is_the_request_s(monkeypatch, tmp_path, words, seed):
    class Asked(Exception):
        pass

    def take(request, *arguments, **more):
        raise Asked(request)

    monkeypatch.setattr(harness.cli.run, "run_request", take)
    result = CliRunner().invoke(main, ["run", "threads", *words, "--work", str(tmp_path)])
    assert isinstance(result.exception, Asked) and result.exception.args[0].seed == seed


@pytest.mark.parametrize("number", ["-1", "2147483648", "x", "1.5", ""])
def test_what_is_no_seed(tmp_path, number):
    result = CliRunner().invoke(main, ["run", "threads", f"--seed={number}", "--work", str(tmp_path)])
    assert result.exit_code == 2 and "Invalid value for '--seed'" in result.output


def test_a_run_that_goes_on_gets_no_other_seed(tmp_path):
    result = CliRunner().invoke(main, ["run", "--resume", "--seed", "3", "--work", str(tmp_path)])
    assert result.exit_code == 2 and "--resume goes on with what the run was asked for; seed cannot be" in result.output


#: Stand in for QEMU, which is ready at once where a capsule starts it, and for SSH, which runs a command here.
STANDING_IN = {
    "qemu-stand-in": "#!/bin/sh\n[ -d image ] || { echo QEMU emulator version 7.2; exit; }\n"
    "echo ready >console.log\nexec sleep 60\n",
    "ssh": '#!/bin/sh\nfor word; do :; done\nexec sh -c "$word"\n',
}
#: Stands in for a program: it prints its environment and the files beside it.
SHOW = "#!/bin/sh\nenv | grep -E '^(LD_|HARNESS_)' | sort\nls ..\nls\n"


@pytest.mark.parametrize(
    ("program", "libraries", "variables"),
    [
        ("c.c", ["libperturb.so", "libslow.so"], {"LD_PRELOAD": "{}/libslow.so:{}/libperturb.so"}),
        (
            "go.go",
            ["libgo.so.21", "libperturb.so", "libslow.so"],
            {"LD_LIBRARY_PATH": "{}", "LD_PRELOAD": "{}/libslow.so:{}/libperturb.so"},
        ),
    ],
)
def test_a_capsule_brings_its_preloads_and_runs_with_them(
    demo, ask, write, tmp_path, monkeypatch, program, libraries, variables
):
    """On a guest that is this host, by stand-ins of QEMU and SSH."""
    mine = write(
        "mine.yaml",
        f"guests:\n  here: {{toolchain: linux-i386, system: posix, kernel: /k, folder: {tmp_path}/guest,\n"
        f"         qemu: {tmp_path}/bin/qemu-stand-in, ready: {{console: ready, command: echo up, expect: up}}}}\n"
        "variants:\n  mine: {preload: [slow.c, perturb.c], seeded: true}\n",
    )
    for name, text in [*STANDING_IN.items(), ("program", SHOW)]:
        write(f"bin/{name}", text).chmod(0o755)
    for name in ("slow.c", "perturb.c", "kernel", "key", "capsule/none", "lib/libslow.so", "lib/libperturb.so"):
        write(name, name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    request = replace(ask(demo / program, variants=("mine",), conf_files=(mine,)), guests=("here",), seed=6)
    resolved = resolve(request)
    (spec,) = resolved.cells()
    preloads = {"mine": (tmp_path / "lib/libslow.so", tmp_path / "lib/libperturb.so")}
    artifacts = artifacts_of(tmp_path, preloads)
    artifacts.libgos["mine"] = artifacts.libgos["pristine"]
    artifacts.programs["mine", spec.program.name] = tmp_path / "bin/program"
    plan = plan_of(resolved)
    files = BootFiles(None, tmp_path / "kernel", "", None, (), tmp_path / "key", None)
    prepared = PreparedRun({"here": files}, {"linux-i386": artifacts}, {}, plan, {})
    trial = replace(TRIAL, guest="here", variant="mine", program=spec.program.name)
    folder = tmp_path / "capsule"
    boot = capsule._named("here", resolved, prepared)
    capsule._fill(folder, spec, trial, resolved, prepared, boot, {}, with_image=False)

    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {"program", f"source/{program}", *libraries}
    target = f"{tmp_path}/guest/capsule"
    expected = {**{name: text.replace("{}", target) for name, text in variables.items()}, "HARNESS_SEED": "6"}
    assert {name: text for name, text in manifest["environment"].items() if name in expected} == expected
    readme = (folder / "README.txt").read_text()
    assert all(f", {name}" in readme for name in libraries)
    process = subprocess.run(
        [folder / "run.sh", tmp_path, tmp_path / "key"], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    words = process.stdout.split()
    assert dict(line.split("=", 1) for line in words if "=" in line) == expected
    assert sorted(line for line in words if "=" not in line) == sorted(
        [*libraries, "pid", "program", Path(program).stem]
    )
