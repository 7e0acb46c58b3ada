"""DejaGnu on a guest of the harness: a board that reaches it over SSH, and GCC's Go tests.

The programs are those that the harness compiled, or DejaGnu compiles them with the same command. The output of a
`runoutput` program is compiled here. A test is judged by the exit status alone, as GCC's go-torture-execute does.

`python -m tools.dejagnu [VARIANT...]` runs the whole suite gcc-go both ways on the same kind of guest, and shows the
counts side by side and every program on which the two differ. It takes half an hour for each variant.
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
from harness.guest.fresh import Guest
from harness.programs import gcc_suites
from harness.programs.gotags import Target
from harness.programs.model import Program
from harness.results.store import Store
from harness.trial.record import JUDGED, Trial
from tools.setting import GUEST, Setting, open_setting

#: DejaGnu's description of the board. The guest has neither scp nor an SFTP server, so files are copied with `cat`. The
#: change of folder that remote_exec puts before the program is removed: ssh_exec, which deletes the program after it
#: has run, would run it a second time (`rm -f test -d ... && cd ...; PROGRAM`).
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
#: A test's line: its name, the executable, the command that compiles it or nothing, its arguments and environment; and
#: for one that prints a program the command that compiles that, the source file to write, and the executable.
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
    lassign $line name executable compiler arguments environment second output_source output_executable
    if { ![compiles $name $compiler] } { continue }
    set result [remote_load target $executable $arguments]
    if { $second ne "" && [lindex $result 0] eq "pass" } {
        set file [open $output_source w]
        puts -nonewline $file [lindex $result 1]
        close $file
        if { ![compiles $name $second] } { continue }
        set result [remote_load target $output_executable]
    }
    [lindex $result 0] $name
}
"""


class DejaGnu:
    """DejaGnu with a board for a guest.

    Args:
        setting: has the libgo and the guest's files.
        guest: a guest of the setting that answers.
        programs: the programs and their executables.
    """

    def __init__(self, setting: Setting, guest: Guest, programs: Mapping[Program, Path]) -> None:
        folder, files, port = setting.folder / "dejagnu", setting.files, guest.machine.port
        self._setting, self._folder, self._programs = setting, folder, programs
        self._source = folder / "testsuite"
        (self._source / "go.test").mkdir(parents=True)
        hosts = self._write("known_hosts", f"[127.0.0.1]:{port} {files.host_key}\n")
        # One connection for all commands, which DejaGnu's own boards use too.
        options = f"-F /dev/null -i {files.ssh_key} -o UserKnownHostsFile={hosts} -o LogLevel=ERROR"
        options += f" -o ControlMaster=auto -o ControlPersist=yes -o ControlPath={folder}/link"
        self._link = ["ssh", *options.split(), "-p", str(port), "-O", "exit", "127.0.0.1"]
        library = Path(next(iter(setting.build([]).libraries(setting.guest, setting.variant, with_libgo=True)))).parent
        board = _BOARD.format(
            user=setting.guest.ssh.user, port=port, options=options, scp=folder / "scp", library=library
        )
        self._write("scp", _SCP.format(options=options, port=port)).chmod(0o755)
        self._write("guest.exp", board)
        self._write("site.exp", f'set boards_dir "{folder}"\n')
        self._write("testsuite/go.test/all.exp", _TESTS)

    def run(self, compile_: bool) -> dict[str, str]:
        """Run the programs. Returns the results, such as `PASS`, by the programs' names.

        Args:
            compile_: whether DejaGnu compiles them; then each must have one source file.
        """
        lines = [self._line(program, executable, compile_) for program, executable in self._programs.items()]
        listing = self._write("programs", "\n".join(lines) + "\n")
        environment = {**os.environ, "DEJAGNU_PROGRAMS": str(listing)}
        command = ["runtest", "--tool", "go", "--srcdir", str(self._source), "--target_board", "guest"]
        command += ["--target", self._setting.tools.triple]
        runtest = subprocess.run(
            command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False
        )
        results = dict(
            (name, result)
            for result, name in re.findall(r"^([A-Z]+): (\S+)$", (self._folder / "go.sum").read_text(), re.MULTILINE)
        )
        if missing := {program.name for program in self._programs} - set(results):
            sys.exit(f"DejaGnu did not run {len(missing)} programs:\n{runtest.stdout}{runtest.stderr}")
        return results

    def close(self) -> None:
        """End the connection."""
        subprocess.run(self._link, capture_output=True, check=False)

    def _line(self, program: Program, executable: Path, compile_: bool) -> str:
        """A program's line in the list that _TESTS reads."""
        target, command = executable, ""
        if compile_:
            target = self._folder / "made" / executable.parent.name / program.source.stem
            target.parent.mkdir(parents=True, exist_ok=True)
            command = self._compile_command(program.build.flags, target, program.source)
        environment = shlex.join(f"{key}={value}" for key, value in program.env.items())
        fields = [program.name, str(target), command, shlex.join(program.args), environment]
        if program.build.output_flags:
            output = self._folder / "printed" / f"{program.source.stem}.go"
            output.parent.mkdir(exist_ok=True)
            target = output.with_suffix(".exe")
            fields += [self._compile_command(program.build.output_flags, target, output), str(output), str(target)]
        return " ".join(f"{{{field}}}" for field in fields)

    def _compile_command(self, flags: Collection[str], target: Path, source: Path) -> str:
        tools, library = self._setting.tools, self._setting.libgo
        command = [tools.gccgo, *tools.compile_flags, *flags, *library.compile_flags]
        return " ".join(map(str, [*command, "-o", target, source]))

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text)
        return path


def go_tests(setting: Setting) -> list[Program]:
    """The programs of suite gcc-go that are for the guest."""
    gcc = source.unpack(setting.tools, setting.cache)
    programs = gcc_suites.contents("gcc-go", gcc_suites.suites()["gcc-go"], gcc).programs
    target, variant = Target.of(setting.tools.triple), setting.configuration.variant(setting.variant)
    provided = set(setting.guest.provides)
    return [program for program in programs if program.fits(target, variant) and set(program.needs) <= provided]


def run_harness(setting: Setting, programs: Iterable[Program]) -> dict[str, Trial]:
    """Run programs with `harness run`, once each. Returns the trials by the programs' names."""
    names = [program.name for program in programs]
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        work = Path(folder) / "work"
        command = [str(Path(sys.executable).with_name("harness")), "run", *names, "--guest", GUEST]
        command += ["--variant", setting.variant, "--trials", "1", "--work", str(work)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        store = Store(work / "results.sqlite")
        trials = {trial.program: trial for trial in store.trials(1) if trial.verdict in JUDGED}
        if missing := set(names) - set(trials):
            sys.exit(f"the harness did not run {len(missing)} programs:\n{process.stdout}{process.stderr}")
        return trials


def main() -> None:
    """Run the whole suite both ways with the named variants, by default with those that `harness run` uses."""
    if not shutil.which("runtest"):
        sys.exit("DejaGnu is not installed: apt-get install dejagnu")
    table = Table("libgo", "programs", "harness", "DejaGnu", "differ", title="suite gcc-go on the same guest")
    differ = Table("libgo", "program", "harness", "DejaGnu", "why", title="where they differ")
    for name in sys.argv[1:] or ["pristine", "no-thread-destruction"]:
        with open_setting(name) as setting:
            programs = go_tests(setting)
            setting.report.step("suite gcc-go", f"{len(programs)} programs by the harness")
            trials = run_harness(setting, programs)
            artifacts = setting.build(programs)
            with setting.fresh() as guest:
                setting.report.step("suite gcc-go", f"{len(programs)} programs by DejaGnu")
                executables = {program: artifacts.programs[name, program.name] for program in programs}
                dejagnu = DejaGnu(setting, guest, executables)
                try:
                    results = dejagnu.run(compile_=False)
                finally:
                    dejagnu.close()
        differing = [
            program.name
            for program in programs
            if (results[program.name] == "PASS") != (trials[program.name].verdict == "pass")
        ]
        counters = [Counter(str(trial.verdict) for trial in trials.values()), Counter(results.values())]
        counts = [", ".join(f"{count} {result}" for result, count in sorted(each.items())) for each in counters]
        table.add_row(name, str(len(programs)), *counts, str(len(differing)))
        for program in differing:
            trial = trials[program]
            differ.add_row(name, program, trial.verdict, results[program], trial.reason)
    console = Console(width=160)
    console.print(table)
    console.print(differ)


if __name__ == "__main__":
    main()
