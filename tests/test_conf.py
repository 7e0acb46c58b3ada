"""Configuration: what users write wrong is named with file, line and key; what they add or change takes effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import conf
from harness.conf.units import seconds
from harness.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guests:\n  linux-i386:\n    memry: 3\n", ":3: guests.linux-i386.memry: unknown key; did you mean memory?"),
        ("guests: [\n", "not valid YAML"),
        ("- a\n", "must be a mapping"),
        ("variants:\n  x: {}\n  x: {}\n", ":3: x is given twice"),
        ("guests:\n  linux-i386:\n    memory: lots\n", ":3: guests.linux-i386.memory: "),
        (
            "guests:\n  linux-i386:\n    toolchain: linux-i368\n",
            "no toolchain named linux-i368; did you mean linux-i386?",
        ),
        ("guests:\n  new: {toolchain: linux-i386, signals: linux}\n", ":2: guests.new: has neither kernel nor disk"),
        ("guests:\n  new: {signals: linux, kernel: /k}\n", ":2: guests.new.toolchain: is missing"),
        ("guests:\n  linux-i386:\n    ready:\n      console: '('\n", "is not a regular expression"),
        ("guests:\n  linux-i386:\n    ready: {timeout: soon}\n", "'soon' is not a time such as 30s"),
        ("variant: {}\n", ":1: variant: unknown key; did you mean variants?"),
        (
            "toolchains:\n  hurd-i386:\n    build: {patch: []}\n",
            ":3: toolchains.hurd-i386.build.patch: unknown key; did you mean patches?",
        ),
    ],
)
def test_wrong_yaml_is_named(write, text, said):
    with pytest.raises(ConfigError) as caught:
        conf.load([write("mine.yaml", text)])
    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00"])
def test_a_file_that_is_no_text(write, data):
    with pytest.raises(ConfigError):
        conf.load([write("mine.yaml", data)])


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        conf.load([tmp_path / "none.yaml"])


def test_own_yaml_adds_and_changes_single_fields(write):
    mine = write(
        "mine.yaml",
        "guests:\n"
        "  linux-i386: {memory: 768}\n"
        "  hurd: {toolchain: linux-i386, kernel: ./gnumach, signals: hurd,\n"
        "         modules: [{file: ext2fs.static, args: a}], env: {CRASHSERVER: /servers/crash-kill, N: 3}}\n"
        "variants:\n  four: {env: {GOMAXPROCS: 4}}\n",
    )
    got = conf.load([mine])
    assert got.guest("linux-i386").memory == 768
    assert got.guest("linux-i386").kernel == "vmlinuz"
    assert got.guest("hurd").env == {"CRASHSERVER": "/servers/crash-kill", "N": "3"}
    assert got.file("./gnumach", "guests", "hurd", "kernel") == mine.parent / "./gnumach"
    assert got.variant("four").env == {"GOMAXPROCS": "4"}
    assert "pristine" in got.variants


def test_unknown_names_get_the_nearest():
    got = conf.load()
    with pytest.raises(ConfigError, match="did you mean linux-i386"):
        got.guest("linux-i368")
    with pytest.raises(ConfigError, match="did you mean pristine"):
        got.variant("pristin")


def test_signals_go_by_the_guest_s_own_numbers(write):
    got = conf.load([write("h.yaml", "guests:\n  h: {toolchain: linux-i386, kernel: /k, signals: hurd}\n")])
    assert got.signal_names("linux-i386")[10] == "SIGUSR1"
    assert got.signal_names("h")[10] == "SIGBUS"
    assert got.signal_names("h")[30] == "SIGUSR1"


@given(st.floats(0.001, 1e6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)]))
def test_times(number, unit):
    text, factor = f"{number:.4f}{unit[0]}", unit[1]
    assert seconds(text) == pytest.approx(float(f"{number:.4f}") * factor)


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "1 2", "1x", True, None])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is not a time"):
        seconds(text)
