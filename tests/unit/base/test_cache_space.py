"""What the cache holds and what of it goes: never what a living process uses, and never what is made by hand."""

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness import cache_space, doctor
from harness.cache import Cache
from harness.cache_space import Entry, entries, parse_size, removable, remove, render_size
from harness.cli.app import main
from harness.errors import ConfigError
from harness.locks import lock

#: A process that uses entries of a cache until its standard input ends.
USER = """
import sys
from pathlib import Path
from harness.cache import Cache
cache = Cache(Path(sys.argv[1]))
for name in sys.argv[2:]:
    kind, key = name.split("/")
    cache.make(kind, key, lambda out: (out / "data").write_bytes(bytes(100_000)))
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty cache, which commands take for the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "harness"


def put(root, name, size=100_000, age=0.0):
    """An entry that no process uses, last used so many seconds ago."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(os.urandom(size))
    os.utime(folder, (time.time() - age,) * 2)


def names(root):
    return {f"{entry.kind}/{entry.name}" for entry in entries(root)}


def user(root, *used):
    """A process that uses entries."""
    command = [sys.executable, "-c", USER, str(root), *used]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def prune(*words, status=0):
    result = CliRunner().invoke(main, ["cache", "prune", *words])
    assert result.exit_code == status, result.output
    return result.output


def test_what_another_process_uses_stays_until_it_is_killed(root):
    put(root, "libgo/old", age=1000)
    put(root, "libgo/used", age=2000)
    process = user(root, "libgo/used", "programs/new")
    try:
        (used,) = [entry for entry in entries(root) if entry.name == "used"]
        assert used.users == (process.pid,) and used.used > time.time() - 900
        assert "2 entries in use, and left" in prune("--size", "0")
        assert names(root) == {"libgo/used", "programs/new"}
    finally:
        process.kill()
        process.wait()
    assert "2 entries removed" in prune("--size", "0")
    assert names(root) == set()
    assert not list((root / "locks" / "cache-users").iterdir()), "nothing stays of a process that has ended"


def test_what_this_process_was_given_stays(root):
    put(root, "libgo/a")
    put(root, "libgo/b")
    Cache(root).find("libgo", "a")
    assert [entry.name for entry in remove(root, entries(root))] == ["b"]
    assert names(root) == {"libgo/a"}


def test_what_is_chosen_and_used_a_moment_later_stays(root):
    put(root, "libgo/a")
    doomed = entries(root)
    process = user(root, "libgo/a")
    assert remove(root, doomed) == []
    process.kill()
    process.wait()


def test_a_process_that_cannot_note_what_it_uses_keeps_everything(root):
    put(root, "libgo/a")
    put(root, "libgo/b")
    (root / "locks").mkdir()
    (root / "locks" / "cache-users").write_text("no folder, as little as a full disk has room for one")
    process = user(root, "libgo/a")
    assert "could not note what it uses" in prune("--size", "0", status=2)
    assert names(root) == {"libgo/a", "libgo/b"}
    process.kill()
    process.wait()
    assert "2 entries removed" in prune("--size", "0")


def test_what_cannot_be_removed_is_told(root):
    for name in "abc":
        put(root, f"libgo/{name}")
    (root / "locks" / "libgo-b.lock").mkdir(parents=True)  # as little to be written as on a disk that is read-only
    assert "libgo/b cannot be removed" in prune("--size", "0", status=2)
    assert names(root) == {"libgo/b"}


def test_what_is_being_made_and_what_a_killed_one_left(root):
    put(root, "libgo/again")
    put(root, "libgo/.half.new")
    put(root, "libgo/.gone.old")
    put(root, "libgo/.made.new")
    with lock(root / "locks" / "libgo-made.lock"), lock(root / "locks" / "libgo-again.lock"):
        assert remove(root, entries(root)) == []
        assert {path.name for path in (root / "libgo").iterdir()} == {"again", ".made.new"}


def test_logs_of_a_running_build_and_downloads_of_a_running_fetch_stay(root):
    for name in (
        "logs/libgo-1.log",
        "logs/libgo-1.libffi.log",
        "logs/libgo-2.log",
        "downloads/d.img",
        "downloads/x.lock.json",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    with lock(root / "locks" / "libgo-1.lock"), lock(root / "locks" / "images-1.lock"):
        remove(root, entries(root))
        assert names(root) == {"logs/libgo-1.log", "logs/libgo-1.libffi.log", "downloads/d.img"}
    remove(root, entries(root))
    assert [path.name for path in (root / "downloads").iterdir()] == ["x.lock.json"], "what fetches are held to stays"


@pytest.mark.parametrize(
    ("words", "names_left"),
    [
        ((), {"libgo/old", "programs/new", "images/i", "toolchains/t", "odd/o"}),
        (("--older-than", "2h"), {"programs/new", "images/i", "toolchains/t", "odd/o"}),
        (("--size", "150K"), {"programs/new", "images/i", "toolchains/t", "odd/o"}),
        (("--size", "0"), {"images/i", "toolchains/t", "odd/o"}),
        (("--size", "0", "--older-than", "30d"), {"libgo/old", "programs/new", "images/i", "toolchains/t", "odd/o"}),
        (("--kind", "images", "--kind", "odd"), {"libgo/old", "programs/new", "toolchains/t"}),
        (("--kind", "libgo", "--older-than", "1w"), {"libgo/old", "programs/new", "images/i", "toolchains/t", "odd/o"}),
    ],
)
def test_prune(root, words, names_left):
    put(root, "libgo/old", age=3 * 3600)
    put(root, "programs/new", age=3600)
    for name in ("images/i", "toolchains/t", "odd/o"):
        put(root, name, age=99 * 86400)
    there = names(root)
    dry = prune(*words, "--dry-run")
    assert names(root) == there
    assert dry.replace("would be removed", "removed") == prune(*words)
    assert names(root) == names_left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "libgoo"), "no kind named libgoo; did you mean libgo?"),
        (("--kind", "locks"), "no kind named locks"),
        (("--kind", "ssh"), "no kind named ssh"),
        (("--kind", ".."), "no kind named .."),
        (("--size", "many"), "'many' is not a size such as 5G or 500M"),
        (("--older-than", "soon"), "'soon' is not a time such as 12h, 30d or 4w"),
    ],
)
def test_bad_input(root, words, message):
    put(root, "ssh/key")
    assert message in prune(*words, status=2)
    assert (root / "ssh" / "key").is_dir()


def test_what_the_recorded_toolchains_need_stays(root):
    put(root, "toolchains/mine")
    put(root, "toolchains/other")
    file = root.parent / "config" / "harness" / "toolchains.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"toolchains:\n  hurd-i386: {{prefix: {root}/toolchains/mine/bin/}}\n")
    prune("--kind", "toolchains")
    assert names(root) == {"toolchains/mine"}


def test_the_bound_is_kept_by_whoever_made_something(root, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", "400K")
    for age in range(1, 4):
        put(root, f"programs/{age}", age=age * 100)
    put(root, "images/huge", size=900_000, age=9999)
    oldest = user(root, "programs/3")
    maker = user(root, "libgo/new")
    assert len(names(root)) == 5, "what it made last may be what it needs next: nothing goes while it makes more"
    maker.communicate()
    oldest.kill()
    oldest.wait()
    assert names(root) == {"programs/1", "programs/3", "libgo/new", "images/huge"}
    user(root, "libgo/new").communicate()
    assert len(names(root)) == 4, "who makes nothing removes nothing"


def test_a_run_keeps_what_it_needs_and_the_bound(root, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", "250K")
    put(root, "libgo/needed", age=300)
    put(root, "libgo/other", age=200)
    cache = Cache(root)
    cache.make("qemu", "new", lambda out: (out / "data").write_bytes(bytes(100_000)))
    cache.find("libgo", "needed")
    cache_space.keep_bound(root)
    assert names(root) == {"qemu/new", "libgo/needed"}


def test_no_bound(root, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", "0")
    put(root, "programs/old", size=3_000_000, age=9999)
    Cache(root).make("libgo", "new", lambda out: None)
    cache_space.keep_bound(root)
    assert names(root) == {"programs/old", "libgo/new"}
    assert "there is no bound; give --size, --older-than or --kind" in prune(status=2)
    assert "no bound" in CliRunner().invoke(main, ["cache", "list"]).output


def test_a_bound_that_is_no_size_is_told_before_anything_is_built(root, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", "5 gigs")
    with pytest.raises(ConfigError, match="HARNESS_CACHE_SIZE: '5 gigs' is not a size such as 5G"):
        Cache(root).make("libgo", "new", lambda out: pytest.fail("built"))
    check = doctor.check_cache_size()
    assert check.fatal and "'5 gigs'" in check.text


def test_a_bound_that_cannot_be_kept_ends_nothing(root, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", "1K")
    put(root, "programs/old", age=9999)
    (root / "locks").mkdir()
    (root / "locks" / "cache-removal.lock").mkdir()  # as little to be written as on a full disk
    assert Cache(root).make("libgo", "new", lambda out: None).is_dir()
    cache_space.keep_bound(root)
    assert names(root) == {"programs/old", "libgo/new"}


def test_list(root):
    put(root, "libgo/big", size=3_000_000)
    (root / "libgo" / "big" / ".about").write_text("unpatched for linux-i386\x1b[2J\n")
    for key in range(12):
        put(root, f"programs/{key}", size=1000)
    put(root, "ssh/key")
    process = user(root, "programs/5")
    listed = CliRunner().invoke(main, ["cache", "list"]).output
    data = json.loads(CliRunner().invoke(main, ["cache", "list", "--format", "json"]).output)
    process.kill()
    process.wait()
    lines = listed.splitlines()
    assert "libgo" in lines[1] and "unpatched for linux-i386\\x1b[2J" in lines[1] and lines[1].startswith(" 3 MiB")
    assert (
        "programs" in lines[2] and f"by {process.pid}" in lines[2] and "12 of less than 1 MiB: a compiled" in lines[2]
    )
    assert "ssh" not in listed and "is kept below 5.0 GiB (HARNESS_CACHE_SIZE)" in lines[-1]
    (used,) = [entry for entry in data["entries"] if entry["in_use"]]
    assert used["processes"] == [process.pid] and used["kind"] == "programs"
    assert data["bound"] == 5 << 30 and len(data["entries"]) == 13
    assert len(CliRunner().invoke(main, ["cache", "list", "--all"]).output.splitlines()) == 16


def test_what_is_linked_twice_counts_once(root):
    put(root, "gcc-source/a", size=1_000_000)
    (root / "libgo-tree" / "b").mkdir(parents=True)
    os.link(root / "gcc-source" / "a" / "data", root / "libgo-tree" / "b" / "data")
    assert 1_000_000 <= sum(entry.size for entry in entries(root)) < 1_100_000


def test_a_link_to_another_cache_is_left_alone(root, tmp_path):
    put(tmp_path, "elsewhere/x")
    (root / "libgo").mkdir(parents=True)
    (root / "libgo" / "linked").symlink_to(tmp_path / "elsewhere" / "x")
    assert names(root) == set()


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100), st.booleans())),
    st.none() | st.floats(0, 100),
    st.none() | st.integers(0, 500),
)
def test_what_goes_was_not_used_for_longest_and_is_not_in_use(cells, older, size):
    have = [Entry("k", str(i), None, "", s, t, (1,) if busy else ()) for i, (s, t, busy) in enumerate(cells)]
    doomed = removable(have, older, size)
    remaining = [entry for entry in have if entry not in doomed]
    assert not any(entry.users for entry in doomed)
    assert older is None or all(entry.used < older for entry in doomed)
    may_go = [entry for entry in remaining if not entry.users and (older is None or entry.used < older)]
    if size is None:
        assert not may_go
    else:
        assert not may_go or sum(entry.size for entry in remaining) <= size
        if doomed:  # without the last of them it was too much
            assert sum(entry.size for entry in remaining) + doomed[-1].size > size
    assert all(gone.used <= stays.used for gone in doomed for stays in may_go)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5G", 5 << 30), ("500m", 500 << 20), ("1.5 GiB", 3 << 29), ("10kb", 10240), ("0", 0), ("7", 7), ("2T", 2 << 40)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "5X", "1e9", "nan", "٣G", "5 G 1", "9" * 40])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="is not a size such as 5G or 500M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 KiB"),
        (4096, "4 KiB"),
        (999 << 10, "999 KiB"),
        (1 << 20, "1 MiB"),
        (1 << 30, "1.0 GiB"),
        (5000 << 30, "5000.0 GiB"),
    ],
)
def test_sizes_in_words(size, text):
    assert render_size(size) == text
