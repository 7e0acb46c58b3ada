"""The control's kernel and disk in a guest that is described as the Hurd's are: the same way, the same devices.

What stands in for the Hurd is only what cannot be had: its kernel and its disk. All that is read of the description,
and the whole way from the YAML to the matrix, is what a Hurd takes.
"""

import json

import pytest
from click.testing import CliRunner

from harness import conf
from harness.cli import main
from harness.guest import image

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
    done = CliRunner().invoke(main, [*words, "--work", str(tmp_path / "work")])
    assert done.exit_code == 1, done.output
    matrix = json.loads(next((tmp_path / "work").glob("runs/*/matrix.json")).read_text())
    cells = {cell["program"]: cell for cell in matrix["cells"]}
    assert cells["demo/server"]["verdict"] == "pass"
    # By the Hurd's numbers: 10 is SIGBUS there and SIGUSR1 on Linux.
    assert cells["demo/signal"]["verdict"] == "crash" and "SIGBUS" in json.dumps(cells["demo/signal"])
    # The Hurd's way to list processes does not work here, and that is no trouble.
    assert cells["demo/hang"]["verdict"] == "hang"


def test_the_given_hurds_are_whole():
    configuration = conf.load()
    for name in ("hurd-i386", "hurd-i386-2023"):
        guest = configuration.guest(name)
        assert guest.image in image.recipes()
        assert configuration.toolchain(guest.toolchain).triple == "i686-gnu"
        assert configuration.signal_names(name)[10] == "SIGBUS"
        assert guest.ways.environment(guest.env, cores=False) == {"CRASHSERVER": "/servers/crash-kill"}
        assert guest.ready.expect == "^GNU$" and guest.ready.console and guest.cpus == 1 and guest.memory <= 2048
