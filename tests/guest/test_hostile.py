"""The most telling of what a hostile guest does (tests/hostile.py), in one boot, for real. `pytest --hostile` runs all
guest tests on such a guest."""

import os
import zlib

import pytest
import yaml

import harness.trial.observe
from harness import clock, conf, paths
from harness.build import program, toolchain
from harness.build.artifacts import AGENT_SOURCE
from harness.cache import Cache
from harness.guest import boot, ciphers
from harness.guest.openssh import CIPHER
from harness.guest.pool import Pool
from harness.images.bootfiles import find_boot_files
from harness.trial.observe import observe
from tests import hostile

LARGE, AGENT = "/tmp/harness/large", "/tmp/harness/agent"


@pytest.fixture
def configuration(write, calm):
    """The configuration with the hostile guest, which is there already under --hostile."""
    if not calm:
        return conf.load()
    return conf.load([write("hostile.yaml", yaml.safe_dump({"guests": {hostile.NAME: hostile.description()}}))])


def test_a_hostile_guest_is_saved_restored_given_files_and_runs_programs(
    configuration, write, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(harness.trial.observe, "GRACE", 20.0)
    tools = toolchain.find("linux-i386", configuration)
    large = os.urandom(6 << 20)
    contents = {
        LARGE: write("large", large),
        AGENT: program.build_agent(AGENT_SOURCE, tools, Cache(paths.cache_dir())),
    }
    files = find_boot_files(hostile.NAME, configuration, lambda text: None)
    cache, messages, trouble = Cache(tmp_path / "cache"), [], []
    pool = Pool(hostile.NAME, configuration.guest(hostile.NAME), files, {}, cache, trouble.append)
    (tmp_path / "first").mkdir()
    pool.prepare(tmp_path / "first", messages.append, lambda: False)
    pool.hold(contents)
    monkeypatch.setattr(clock, "QUIET", 20.0)  # the large file takes longer than that
    guest = pool.fresh(tmp_path / "guest", messages.append)
    try:
        steps = [text.partition(",")[0] for text in messages if not text.startswith("SSH by ")]
        assert not trouble and steps == [
            "booting", "saving", "restoring", "measuring ciphers", "receiving large", "receiving agent", "saving",
            "restoring",
        ]  # fmt: skip
        _, ignored, _ = guest.shell.run("grep SigIgn /proc/self/status")
        assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0x7FFAFEFF, "or nothing hostile was tried"

        def check(path, data):
            """That a file is whole, by the tools of another program."""
            _, out, _ = guest.shell.run(f"crc32 {path} 2>/dev/null || busybox crc32 {path}")
            assert out.split()[0].decode() == f"{zlib.crc32(data):08x}"

        check(LARGE, large)
        choice = ciphers.known(guest.machine, cache)
        assert CIPHER in choice.rates and str(choice.pair) in choice.rates
        for client in (None, boot.client(guest.machine)):
            guest.shell.client = client
            data = os.urandom(3 << 20)
            guest.shell.put(data, "/tmp/one more/it's")
            check('"/tmp/one more/it\'s"', data)
            assert guest.shell.client == client, "it was not sent again the other way"
        guest.agent_path = AGENT
        agent = guest.attach()
        assert observe(agent, ["/bin/sh", "-c", "kill -USR1 $$"], {}, "/", 60.0).signal == 10
        agent.put(large[: 1 << 20], "/tmp/programs/one")
        check("/tmp/programs/one", large[: 1 << 20])
        hangs = "trap 'echo asked' QUIT; while :; do sleep 0.1; done"
        observation = observe(agent, ["/bin/sh", "-c", hangs], {}, "/", 3.0)
        assert (observation.timed_out, observation.stdout[:6], observation.signal) == (True, b"asked\n", 9)
    finally:
        guest.machine.stop()
    (file,) = (tmp_path / "cache" / "ciphers").glob("*/choice.json")
    file.write_text("{")
    assert ciphers.known(guest.machine, cache) is None and "is measured again" in caplog.text and not file.exists()
