"""DejaGnu on a guest of the harness: a board that leads to it over SSH, and GCC's Go tests run there.

What runs is what the harness compiled, or DejaGnu compiles it first with the same words; what a `runoutput` program
prints is compiled here. A test is judged as GCC's go-torture-execute does: by the exit status alone.

`python -m tools.dejagnu [VARIANT...]` runs the whole suite gcc-go both ways on the same kind of guest, and shows the
counts side by side and every program on which the two differ. It takes half an hour a variant.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.build import source
from harness.guest.pool import Guest
from harness.programs import gcc_suites
from harness.programs.gotags import Target
from harness.programs.model import Program
from harness.results.store import Store
from harness.trial.record import JUDGED, Trial
from tools.setting import GUEST, Setting, setting

#: What DejaGnu loads: its way to the guest. The guest has neither scp nor an SFTP server, so that files go through
#: `cat`. What is run is named without the change of folder that remote_exec puts before it: ssh_exec, which removes
#: what it has run, would run it a second time (`rm -f test -d ... && cd ...; PROGRAM`).
_BOARD = """
set_board_info isremote 1
set_board_info protocol ssh
set_board_info hostname 127.0.0.1
set_board_info username {user}
set_board_info port {port}
set_board_info ssh_opts "{options}"
set_board_info ssh_useropts "{options}"
set_board_info scp_prog {scp}
load_generic_config unix
proc guest_exec {{ dest program arguments in out }} {{
    regsub {{^test -d .* && cd .*; }} $program "" program
    return [ssh_exec $dest "env LD_LIBRARY_PATH={library} $::environment $program" $arguments $in $out]
}}
"""
_SCP = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
exec ssh {options} -p {port} "${{2%%:*}}" "cat >${{2#*:}} && chmod 755 ${{2#*:}}" <"$1"
"""
#: A test's line: its name, what to run, the command that compiles it or nothing, its arguments and environment, and
#: for one that prints a program the command that compiles that, the file to write it to, and what comes of it.
_TESTS = """
proc compiles { name command } {
    if { $command ne "" && [lindex [local_exec $command "" "" 600] 0] != 0 } {
        unresolved $name
        return 0
    }
    return 1
}
set list [open $::env(DEJAGNU_PROGRAMS)]
while { [gets $list line] >= 0 } {
    lassign $line name executable compiler arguments environment second printed made
    if { ![compiles $name $compiler] } { continue }
    set result [remote_load target $executable $arguments]
    if { $second ne "" && [lindex $result 0] eq "pass" } {
        set file [open $printed w]
        puts -nonewline $file [lindex $result 1]
        close $file
        if { ![compiles $name $second] } { continue }
        set result [remote_load target $made]
    }
    [lindex $result 0] $name
}
"""


class DejaGnu:
    """DejaGnu with a board for a guest.

    Args:
        said: what there is to work with.
        guest: a guest of it that answers.
        programs: what it runs, and the executables.
    """

    def __init__(self, said: Setting, guest: Guest, programs: Mapping[Program, Path]) -> None:
        folder, files, port = said.folder / "dejagnu", said.files, guest.machine.port
        self._said, self._folder, self._programs = said, folder, programs
        self._source = folder / "testsuite"
        (self._source / "go.test").mkdir(parents=True)
        hosts = self._write("known_hosts", f"[127.0.0.1]:{port} {files.host_key}\n")
        # One connection for all, which is DejaGnu's way too.
        options = f"-F /dev/null -i {files.ssh_key} -o UserKnownHostsFile={hosts} -o LogLevel=ERROR"
        options += f" -o ControlMaster=auto -o ControlPersist=yes -o ControlPath={folder}/link"
        self._link = ["ssh", *options.split(), "-p", str(port), "-O", "exit", "127.0.0.1"]
        words: dict[str, object] = {
            "user": said.guest.ssh.user,
            "port": port,
            "options": options,
            "scp": folder / "scp",
        }
        words["library"] = str(Path(said.built([]).library_target(said.guest, said.variant)).parent)
        self._write("scp", _SCP.format(**words)).chmod(0o755)
        self._write("guest.exp", _BOARD.format(**words))
        self._write("site.exp", f'set boards_dir "{folder}"\n')
        self._write("testsuite/go.test/all.exp", _TESTS)

    def run(self, compile_: bool) -> dict[str, str]:
        """Run the programs; give the results, `PASS` and so on, by the programs' names.

        Args:
            compile_: whether it compiles them, too; then each must be of one file.
        """
        lines = [self._line(one, executable, compile_) for one, executable in self._programs.items()]
        listed = self._write("programs", "\n".join(lines) + "\n")
        environment = {**os.environ, "DEJAGNU_PROGRAMS": str(listed)}
        command = ["runtest", "--tool", "go", "--srcdir", str(self._source), "--target_board", "guest"]
        command += ["--target", self._said.tools.triple]
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        results = dict(
            (name, result)
            for result, name in re.findall(r"^([A-Z]+): (\S+)$", (self._folder / "go.sum").read_text(), re.MULTILINE)
        )
        if missing := {one.name for one in self._programs} - set(results):
            sys.exit(f"DejaGnu did not run {len(missing)} programs:\n{done.stdout}{done.stderr}")
        return results

    def close(self) -> None:
        """End the connection."""
        subprocess.run(self._link, capture_output=True, check=False)

    def _line(self, one: Program, executable: Path, compile_: bool) -> str:
        target, first = executable, ""
        if compile_:
            target = self._folder / "made" / executable.parent.name / one.source.stem
            target.parent.mkdir(parents=True, exist_ok=True)
            first = self._compiler(one.build.flags, target, one.source)
        environment = shlex.join(f"{key}={value}" for key, value in one.env.items())
        words = [one.name, str(target), first, shlex.join(one.args), environment]
        if one.build.output_flags:
            printed = self._folder / "printed" / f"{one.source.stem}.go"
            printed.parent.mkdir(exist_ok=True)
            made = printed.with_suffix(".exe")
            words += [self._compiler(one.build.output_flags, made, printed), str(printed), str(made)]
        return " ".join(f"{{{word}}}" for word in words)

    def _compiler(self, flags: Collection[str], target: Path, source: Path) -> str:
        tools, lib = self._said.tools, self._said.libgo
        words = [tools.gccgo, *tools.compile_flags, *flags, *lib.compile_flags]
        return " ".join(map(str, [*words, "-o", target, source]))

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text)
        return path


def go_tests(said: Setting) -> list[Program]:
    """The programs of suite gcc-go that are for the guest."""
    gcc = source.unpack(said.tools, said.cache)
    found = gcc_suites.contents("gcc-go", gcc_suites.suites()["gcc-go"], gcc).programs
    target, variant = Target.of(said.tools.triple), said.configuration.variant(said.variant)
    return [one for one in found if one.fits(target, variant) and set(one.needs) <= set(said.guest.provides)]


def by_harness(said: Setting, programs: Iterable[Program]) -> dict[str, Trial]:
    """Run programs by the command, once each; give the trials by the programs' names."""
    names = [one.name for one in programs]
    with tempfile.TemporaryDirectory(dir=said.folder) as folder:
        work = Path(folder) / "work"
        command = [str(Path(sys.executable).with_name("harness")), "run", *names, "--guest", GUEST]
        command += ["--variant", said.variant, "--trials", "1", "--work", str(work)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        made = {trial.program: trial for trial in Store(work / "results.sqlite").trials(1) if trial.verdict in JUDGED}
        if missing := set(names) - set(made):
            sys.exit(f"the harness did not run {len(missing)} programs:\n{done.stdout}{done.stderr}")
        return made


def main() -> None:
    """Run the whole suite both ways with the variants that are named, by default those that `harness run` takes."""
    if not shutil.which("runtest"):
        sys.exit("no DejaGnu on this machine; Debian's package is dejagnu: apt-get install dejagnu")
    table = Table("libgo", "programs", "harness", "DejaGnu", "differ", title="suite gcc-go on the same guest")
    differ = Table("libgo", "program", "harness", "DejaGnu", "why", title="where they differ")
    for name in sys.argv[1:] or ["pristine", "no-thread-destruction"]:
        with setting(name) as said:
            chosen = go_tests(said)
            said.report.step("suite gcc-go", f"{len(chosen)} programs by the harness")
            made = by_harness(said, chosen)
            built = said.built(chosen)
            with said.fresh() as guest:
                said.report.step("suite gcc-go", f"{len(chosen)} programs by DejaGnu")
                other = DejaGnu(said, guest, {one: built.programs[name, one.name] for one in chosen})
                try:
                    results = other.run(compile_=False)
                finally:
                    other.close()
        odd = [one.name for one in chosen if (results[one.name] == "PASS") != (made[one.name].verdict == "pass")]
        counts = [Counter(str(trial.verdict) for trial in made.values()), Counter(results.values())]
        words = [", ".join(f"{number} {what}" for what, number in sorted(each.items())) for each in counts]
        table.add_row(name, str(len(chosen)), *words, str(len(odd)))
        for one in odd:
            differ.add_row(name, one, made[one].verdict, results[one], made[one].reason)
    console = Console(width=160)
    console.print(table)
    console.print(differ)


if __name__ == "__main__":
    main()
