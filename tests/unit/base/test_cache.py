"""The cache: a failed build leaves nothing, and two processes that want the same thing make it once."""

import subprocess
import sys

import pytest

from harness.cache import Cache
from harness.errors import StoreError


def test_a_failed_build_leaves_nothing(tmp_path):
    cache = Cache(tmp_path)

    def fail(out):
        (out / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.make("k", "1", fail)
    assert not list((tmp_path / "k").iterdir())
    assert (cache.make("k", "1", lambda out: (out / "whole").write_text("y")) / "whole").read_text() == "y"


def test_what_a_killed_build_left_is_not_taken_for_whole(tmp_path):
    code = "import os, sys; from pathlib import Path; from harness.cache import Cache\n"
    code += "Cache(Path(sys.argv[1])).make('k', '1', lambda out: ((out / 'half').touch(), os._exit(9)))"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    result = Cache(tmp_path).make("k", "1", lambda out: (out / "whole").touch())
    assert [path.name for path in result.iterdir()] == ["whole"]


def test_what_a_killed_build_left_goes_when_another_thing_is_made(tmp_path):
    code = "import os, sys, time; from pathlib import Path; from harness.cache import Cache\n"
    code += "Cache(Path(sys.argv[1])).make('k', sys.argv[2], lambda out: (print(), sys.stdout.flush(), time.sleep(99)))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), key], stdout=subprocess.PIPE) for key in ("1", "2")
    ]
    for process in processes:
        process.stdout.readline()
    processes[0].kill()
    processes[0].wait()
    Cache(tmp_path).make("k", "3", lambda out: None)
    assert {path.name for path in (tmp_path / "k").iterdir()} == {".2.new", "3"}, "what goes on being made stays"
    processes[1].kill()
    processes[1].wait()


def test_two_at_once_build_once(tmp_path):
    code = "import sys, time; from pathlib import Path; from harness.cache import Cache\n"
    code += "def build(out):\n    time.sleep(0.5)\n    print('built')\n"
    code += "Cache(Path(sys.argv[1])).make('k', '1', build)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert "".join(process.communicate()[0] for process in processes) == "built\n"


def test_a_build_without_room_is_not_begun(tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(StoreError, match=r"making libgo takes about \d+ MiB, and only \d+ are free"):
        cache.make("libgo", "key", lambda folder: pytest.fail("begun"), room=1 << 40)
    assert not list((tmp_path / "libgo").iterdir())


def test_what_is_there_goes_when_the_new_one_is_whole(tmp_path):
    cache = Cache(tmp_path)
    cache.make("k", "1", lambda out: (out / "first").touch())

    def fail(out):
        assert (cache.path("k", "1") / "first").exists()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.make("k", "1", fail, again=True)
    assert [path.name for path in cache.path("k", "1").iterdir()] == ["first"]
    cache.make("k", "1", lambda out: (out / "second").touch(), again=True)
    assert [str(path.relative_to(tmp_path / "k")) for path in tmp_path.glob("k/*/*")] == ["1/second"]


def test_what_is_discarded_is_gone_and_what_a_killed_build_left_too(tmp_path):
    cache = Cache(tmp_path)
    cache.make("k", "1", lambda out: None)
    (tmp_path / "k/.1.new").mkdir()
    assert cache.discard("k", "1")
    assert not list((tmp_path / "k").iterdir())
    assert not cache.discard("k", "1")


def test_who_waits_for_another_s_build_can_give_up(tmp_path):
    cache = Cache(tmp_path)
    lines = []

    def waiting():
        lines.append(1)
        if len(lines) == 3:
            raise KeyboardInterrupt

    def build(staging):
        with pytest.raises(KeyboardInterrupt):
            cache.make("kind", "key", lambda _: None, waiting=waiting)

    cache.make("kind", "key", build)
    assert len(lines) == 3
