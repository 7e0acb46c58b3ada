"""Toolchains: how one is built, goes on after a kill and is taken, and how wrong ones are refused.

The compilers themselves are built by tests/unit/build/test_gcc_build.py, on demand, because that takes minutes. Here an
archive of a few lines with the same targets stands in for GCC's source, with real tar, patch and make.
"""

import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import conf, packages
from harness.build import counting, gcc, toolchain
from harness.build.sysroot import Folder
from harness.cache import Cache
from harness.cli.app import main
from harness.errors import BuildError, ToolMissing

CONFIGURE = r"""#!/bin/sh
echo "$@" > options
cat > Makefile <<'END'
PREFIX = $(shell sed 's/.*--prefix=\([^ ]*\).*/\1/' options)
.PHONY: all-gcc all-target-libgcc install-gcc install-target-libgcc
all-gcc: one.o two.o
%.o:
	@echo "$(CC) -c $*.c"; echo $* >> made
	@test $* = one || test ! -e ../../../../block || { \
	until test -e one.o; do sleep 0.01; done; touch ../../../../blocked; sleep 1000; }
	@test ! -e ../../../../wrong || { echo "two.c:3:1: error: no such thing"; exit 1; }
	@touch $@
all-target-libgcc:
	@echo libgcc >> made
install-gcc:
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	ls > listed
	cp made options listed ../src/config.gcc $(DESTDIR)$(PREFIX)/bin
install-target-libgcc:
END
"""
PATCH = "--- a/src/config.gcc\n+++ b/src/config.gcc\n@@ -1 +1 @@\n-old\n+new\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A configuration and a cache of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache/harness")


@pytest.fixture
def archive(tmp_path, write):
    """What stands in for /usr/src/gcc-N: an archive, and a patch beside it."""
    write("gcc-12.9/configure", CONFIGURE).chmod(0o755)
    write("gcc-12.9/config.gcc", "old\n")
    write("patches/hurd-changes.diff", PATCH)
    subprocess.run(["tar", "-C", tmp_path, "-cJf", tmp_path / "gcc-12.9.tar.xz", "gcc-12.9"], check=True)
    return tmp_path / "gcc-12.9.tar.xz"


#: As gcc.build is called by the command line, but with the archive of the test and without looking for GCC's libraries.
BUILD = """
import sys
from pathlib import Path
from harness import conf, packages
from harness.build import gcc
from harness.build.sysroot import Folder
from harness.cache import Cache
archive, cache, root = map(Path, sys.argv[1:])
gcc.find_source = lambda config: archive
config = conf.load().toolchain("hurd-i386")
spec = config.build.model_copy(update={"sysroot": {}})
config = config.model_copy(update={"triple": "i686-linux-gnu", "build": spec})
print(gcc.build("hurd-i386", config, Folder(root), Cache(cache)).folder)
"""


def start(archive: Path, cache: Cache) -> subprocess.Popen:
    (archive.parent / "root").mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, archive, cache.root, archive.parent / "root"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> Path:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return Path(out.strip())


def test_a_build(archive, own):
    folder = finish(start(archive, own))
    assert folder.parent == own.root / "toolchains"
    assert sorted((folder / "bin/made").read_text().split()) == ["libgcc", "one", "two"]
    assert (folder / "bin/config.gcc").read_text() == "new\n"
    options = (folder / "bin/options").read_text().split()
    assert {f"--prefix={folder}", "--target=i686-linux-gnu", "--enable-languages=c,go"} <= set(options)
    assert f"--with-sysroot={own.root}/sysroots" in " ".join(options)
    for tool in (folder / "bin/i686-linux-gnu-strip", folder / "i686-linux-gnu/bin/as"):
        assert "GNU" in subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    assert not list((own.root / "toolchain-builds").iterdir())


def test_a_killed_build_goes_on(archive, own, tmp_path):
    (tmp_path / "cache/block").touch()
    blocked = tmp_path / "cache/blocked"
    first = start(archive, own)
    while not blocked.exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not list((own.root / "toolchains").glob("[!.]*"))
    (work,) = (own.root / "toolchain-builds").iterdir()
    targets = (work / "build/made").read_text().split()
    assert "one" in targets
    (tmp_path / "cache/block").unlink()
    for name, end in (("half", "checking"), ("whole", "checking\n\nconfigure: exit 0\n")):
        (work / "build" / name).mkdir()
        (work / "build" / name / "config.log").write_text(end)
    folder = finish(start(archive, own))
    (log,) = (own.root / "logs").glob("*.unpack.log")
    assert log.read_text().count("+ tar ") == 1
    assert (folder / "bin/made").read_text().split() == [*targets, "two", "libgcc"]
    assert {"half", "whole"} & set((folder / "bin/listed").read_text().split()) == {"whole"}


def test_two_at_once_build_once(archive, own):
    processes = [start(archive, own) for _ in range(2)]
    folder, other = [finish(process) for process in processes]
    assert folder == other
    assert sorted((folder / "bin/made").read_text().split()) == ["libgcc", "one", "two"]


def test_a_failed_build_says_why_and_where_it_continues(archive, own, tmp_path):
    (tmp_path / "cache/wrong").touch()
    process = start(archive, own)
    _, err = process.communicate()
    assert "GCC for i686-linux-gnu: all-gcc failed: two.c:3:1: error: no such thing (whole log: " in err
    assert f"the next build continues in {own.root}/toolchain-builds/" in err
    (tmp_path / "cache/wrong").unlink()
    assert finish(start(archive, own)).is_dir()


def test_a_patch_that_the_source_does_not_have(archive, own, monkeypatch):
    config = conf.load().toolchain("hurd-i386")
    (archive.parent / "patches/hurd-changes.diff").unlink()
    monkeypatch.setattr(gcc, "find_source", lambda config: archive)
    with pytest.raises(BuildError, match=r"toolchain hurd-i386: .*/patches has no patch hurd-changes\.diff"):
        gcc.build("hurd-i386", config, None, own)


def test_missing_packages_are_named_with_the_command_that_installs_them(own, monkeypatch):
    config = conf.load().toolchain("hurd-i386").model_copy(update={"triple": "i000-none"})
    monkeypatch.setattr(packages, "gcc_source", lambda major: None)
    monkeypatch.setattr(gcc, "LIBRARIES", {"no-such-header.h": "libgmp-dev"})
    with pytest.raises(ToolMissing, match=r"sudo apt-get install gcc-12-source binutils-i000-none .*libgmp-dev"):
        gcc.build("hurd-i386", config, Folder(Path("/none")), own)


def test_a_missing_toolchain_says_how_it_is_built(own):
    changed = conf.recorded()
    changed.parent.mkdir(parents=True)
    changed.write_text("toolchains:\n  hurd-i386: {prefix: /gone/i686-gnu-}\n")
    with pytest.raises(
        ToolMissing, match=r"/gone/i686-gnu-gccgo is not installed; `harness toolchain build hurd-i386` builds it"
    ):
        toolchain.find("hurd-i386", conf.load())
    result = CliRunner().invoke(main, ["toolchain", "list"])
    assert "is not there; `harness toolchain build hurd-i386` builds it" in result.output


def write_tools(folder: Path, gcc_does: str) -> Path:
    """A folder with tools that are the control's but for what `gcc` does."""
    (folder / "bin").mkdir(parents=True)
    real = toolchain.find("linux-i386", conf.load())
    for name, text in {"gccgo": f'exec {real.gccgo} "$@"', "gcc": gcc_does.format(gcc=real.gcc)}.items():
        script = folder / "bin" / f"i686-linux-gnu-{name}"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    return folder


def test_a_toolchain_that_exists_is_taken(own, tmp_path):
    for prefix in (write_tools(tmp_path / "mine", 'exec {gcc} "$@"'), tmp_path / "mine/bin/i686-linux-gnu-"):
        result = CliRunner().invoke(main, ["toolchain", "use", "linux-i386", str(prefix)])
        assert result.exit_code == 0, result.output
        assert toolchain.find("linux-i386", conf.load()).gccgo == f"{tmp_path}/mine/bin/i686-linux-gnu-gccgo"
    assert f"{tmp_path}/mine/bin/i686-linux-gnu-" in CliRunner().invoke(main, ["toolchain", "list"]).output
    mine = tmp_path / "mine.yaml"
    mine.write_text("toolchains:\n  linux-i386: {prefix: i686-linux-gnu-}\n")
    assert toolchain.find("linux-i386", conf.load([mine])).prefix == "i686-linux-gnu-"


def test_a_toolchain_of_the_user_s_own_file_is_taken_and_needs_that_file_no_longer(own, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("toolchains:\n  mine: {triple: i686-linux-gnu}\n")
    folder = write_tools(tmp_path / "mine", 'exec {gcc} "$@"')
    result = CliRunner().invoke(main, ["toolchain", "use", "mine", str(folder), "--conf", str(mine)])
    assert result.exit_code == 0, result.output
    for files in ([mine], []):
        assert toolchain.find("mine", conf.load(files)).gccgo == f"{folder}/bin/i686-linux-gnu-gccgo"


@pytest.mark.parametrize(
    ("machine", "triple", "package"),
    [
        ("x86_64", "x86_64-linux-gnu", "gccgo-12"),
        ("aarch64", "x86_64-linux-gnu", "gccgo-12-x86-64-linux-gnu"),
        ("x86_64", "i686-linux-gnu", "gccgo-12-i686-linux-gnu"),
    ],
)
def test_a_missing_compiler_is_named_by_its_debian_package(write, monkeypatch, machine, triple, package):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    mine = write("mine.yaml", f"toolchains:\n  mine: {{triple: {triple}, prefix: /none/x-, gcc: 12}}\n")
    with pytest.raises(ToolMissing, match=f"/none/x-gccgo is not installed; install Debian's package {package}$"):
        toolchain.find("mine", conf.load([mine]))


def test_a_wrong_toolchain_is_refused(own, tmp_path):
    broken = write_tools(tmp_path / "broken", "echo 'fatal error: no input' >&2; exit 1")
    for arguments, message in [
        (("hurd-i386", "i686-linux-gnu-"), "compiles for i686-linux-gnu, not for i686-gnu"),
        (("hurd-i368", "i686-gnu-"), "no toolchain named hurd-i368; did you mean hurd-i386?"),
        (("linux-i386", "/none/x-"), "/none/x-gccgo is not installed"),
        (("linux-i386", "i686-linux-gnu-", "--sysroot", "/none"), "no sysroot at /none"),
        (("linux-i386", str(broken)), "cannot compile an empty program: fatal error: no input"),
    ]:
        result = CliRunner().invoke(main, ["toolchain", "use", *arguments])
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert not list(conf.recorded().parent.glob("*.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hurd-i386",), "give its headers and C library by one of --sysroot, --sysroot-image and --deb"),
        (("hurd-i386", "--deb", "a", "--sysroot", "b"), "by one of"),
        (("hurd-i386", "--sysroot-image", "a?offset=x"), "the offset must be a number of bytes"),
        (("linux-i386", "--compilers-only"), "its description has no `build:`"),
        (("hurd",), "no toolchain named hurd; did you mean hurd-i386?"),
    ],
)
def test_bad_input_to_a_build(own, arguments, message):
    result = CliRunner().invoke(main, ["toolchain", "build", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("count", "before", "seconds", "text"),
    [
        (0, 0, 0.0, "compiled 0 of about 620"),
        (30, 0, 90.0, "compiled 30 of about 620"),
        (310, 0, 240.0, "compiled 310 of about 620, about 4:00 to go"),
        (350, 300, 10.0, "compiled 350 of about 620, about 0:54 to go"),
        (700, 0, 500.0, "compiled 700 of about 700, about 0:00 to go"),
    ],
)
def test_how_far_a_build_is(count, before, seconds, text):
    assert counting.describe(count, before, 620, seconds) == text


def test_a_log_is_counted_from_its_start(tmp_path):
    reports = []
    log = tmp_path / "log"
    log.write_text("gcc -c a.c\n" * 3)
    with counting.CompilationCounter(log, b" -c ", 10, reports.append):
        pass
    assert reports == ["compiled 3 of about 10"]
