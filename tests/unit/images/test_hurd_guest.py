"""The control's kernel and disk in a guest that is described as the Hurd's are: the same way, the same devices.

What stands in for the Hurd is only what cannot be had: its kernel and its disk. All that is read of the description,
and the whole way from the YAML to the matrix, is what a Hurd takes.
"""

import json

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli.app import main
from harness.images import image

YAML = """
guests:
  {name}:
    image: linux-i386
    toolchain: linux-i386
    machine: pc
    cpus: 1
    memory: 512
    disk: {{file: root.img, format: raw, interface: ide}}
    nic: {nic}
    kernel: vmlinuz
    initrd: initrd.gz
    qemu: qemu-system-x86_64
    append: console=ttyS0 root=/dev/sda rw panic=-1 quiet
    ready: {{console: "Secure Shell server|guest ready", command: uname -s, expect: ^Linux$, timeout: 5m}}
    signals: hurd
    env: {{CRASHSERVER: /servers/crash-kill}}
    provides: [split-stack]
"""
PROGRAMS = {
    "server": 'os.Stdout.WriteString(os.Getenv("CRASHSERVER") + "\\n")',
    "signal": 'syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -10 $$"}, nil)',
    "hang": "for {\n\t}",
}


@pytest.mark.parametrize("nic", ["rtl8139", "e1000"])
def test_the_whole_way(write, tmp_path, nic):
    for name, body in PROGRAMS.items():
        imports = 'import (\n\t"os"\n\t"syscall"\n)\n\nvar _, _ = os.Args, syscall.Getpid'
        main_ = f"package main\n\n{imports}\n\nfunc main() {{\n\t{body}\n}}\n"
        write(f"demo/{name}.go", f"// run\n// timeout: 5s\n\n{main_}")
    write("demo/server.out", "/servers/crash-kill\n")
    mine = write("hurd.yaml", YAML.format(name=f"hurd-like-{nic}", nic=nic))
    words = ["run", str(tmp_path / "demo"), "--conf", str(mine), "--guest", f"hurd-like-{nic}", "--variant", "pristine"]
    result = CliRunner().invoke(main, [*words, "--work", str(tmp_path / "work")])
    assert result.exit_code == 1, result.output
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    cells = {cell["program"]: cell for cell in matrix["cells"]}
    assert cells["demo/server"]["verdict"] == "pass"
    # By the Hurd's numbers: 10 is SIGBUS there and SIGUSR1 on Linux.
    assert cells["demo/signal"]["verdict"] == "crash" and "SIGBUS" in json.dumps(cells["demo/signal"])
    # The Hurd's way to list processes does not work here, and that is no trouble.
    assert cells["demo/hang"]["verdict"] == "hang"


def test_the_given_hurds_are_whole():
    configuration = conf.load()
    triples = {"hurd-i386": "i686-gnu", "hurd-i386-2023": "i686-gnu", "hurd-amd64": "x86_64-gnu"}
    for name, triple in triples.items():
        guest = configuration.guest(name)
        assert guest.image in image.recipes()
        assert configuration.toolchain(guest.toolchain).triple == triple
        assert configuration.signal_names(name)[10] == "SIGBUS"
        assert guest.os.environment(guest.env, cores=False) == {"CRASHSERVER": "/servers/crash-kill"}
        assert guest.ready.expect == "^GNU$" and guest.ready.console and guest.cpus == 1 and guest.memory <= 2048


def test_a_guest_without_a_compiler_says_so_in_one_sentence(tmp_path):
    for words in (["run", "threads/lock-exit-once", "--guest", "hurd-amd64"], ["toolchain", "build", "hurd-amd64"]):
        result = CliRunner().invoke(main, words, env={"HARNESS_WORK": str(tmp_path)})
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1 and "knows no x86_64-gnu" in result.stderr
        assert "`harness toolchain use hurd-amd64 PREFIX` takes one" in result.stderr
