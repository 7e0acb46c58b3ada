"""The moments that harness replay takes, and what it refuses."""

import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.run import recordings
from harness.run.recordings import Moment, Output, StoredRecording
from tests import runs


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """Runs harness replay 1 with some words; what it would go to, or what it says."""
    store = Store(tmp_path / "results.sqlite")
    run = store.begin(RunPlan())
    for trial in runs.trials(runs.names(1), each=1):
        store.add(run, trial)
    moments = []
    monkeypatch.setattr(recordings, "find", lambda *_: None)
    monkeypatch.setattr(
        "harness.cli.replay._open", lambda recorded, moment, script, work: moments.append(moment) or exit(0)
    )

    def call(*words):
        result = CliRunner().invoke(main, ["replay", "1", *words, "--work", str(tmp_path)])
        return moments.pop() if moments else result.output

    return call


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ((), Moment()),
        (("--at", "end"), Moment()),
        (("--at", "2,500_000"), Moment(icount=2_500_000)),
        (("--at", "output", "about to"), Moment(text=b"about to")),
        (("--at", "output about to"), Moment(text=b"about to")),
        (("--at", "console", "panic: \u00fc"), Moment(text="panic: \u00fc".encode(), console=True)),
    ],
)
def test_moments(replay, words, moment):
    assert replay(*words, "--gdb") == moment


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--at", "output", "--gdb"), "--at output takes one text"),
        (("--at", "output a", "b", "--gdb"), "--at output takes one text"),
        (("--at", "end", "b", "--gdb"), "'b': a text stands only after --at output or --at console"),
        (("--at", "-5", "--gdb"), "--at '-5' is neither end, output TEXT, console TEXT nor a count"),
        (("--at", "\u0665", "--gdb"), "is neither end"),
        (("--at", "end"), "--at says where --gdb or --script stops, and there is neither"),
        (("--script", "/nowhere"), "'/nowhere' does not exist"),
    ],
)
def test_what_is_no_moment(replay, words, message):
    assert message in replay(*words)


def test_a_text_that_came_in_pieces():
    pieces = [("stdout", "abo", 10), ("stderr", "ut to", 20), ("stdout", "ut to", 30), ("stdout", "x", 40)]
    output = [Output(stream=stream, text=text, packets=packets) for stream, text, packets in pieces]
    stored = StoredRecording.model_construct(output=output)
    assert recordings._output_by(stored, b"about to") == 30
    assert recordings._output_by(stored, b"ut to") == 20
    assert recordings._output_by(stored, b"nothing") is None
