"""Whether KVM runs guests: tried on the kernel at hand, whatever it has."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from harness import kvm


def test_the_kernel_at_hand():
    """What the probe says agrees with what is there; where it says yes, QEMU takes the accelerator too."""
    problem = kvm.problem()
    if not Path("/dev/kvm").exists():
        assert "there is no /dev/kvm" in problem
    elif problem:
        assert problem.startswith(("/dev/kvm is", "/dev/kvm does", "this processor"))
    else:
        assert platform.machine() == "x86_64"
        done = subprocess.run(
            ["qemu-system-x86_64", "-accel", "kvm", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"],
            input="quit\n",
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("device", "words"),
    [("/none/kvm", "there is no /none/kvm"), ("/dev/null", "does not run a guest: KVM_CREATE_VM fails with ENOTTY")],
)
def test_what_is_no_kvm(monkeypatch, device, words):
    monkeypatch.setattr(kvm, "_DEVICE", device)
    if device == "/dev/null":
        assert words in kvm.try_kvm()
    else:
        assert words in kvm.problem()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_device_that_is_for_others_names_the_group(monkeypatch, tmp_path):
    device = tmp_path / "kvm"
    device.touch(0o600)
    monkeypatch.setattr(kvm, "_DEVICE", str(device))
    assert kvm.how_to_open().startswith("it belongs to root alone")
    os.chown(device, 0, 65534)
    assert "it is for the group nogroup: `sudo adduser $USER nogroup`" in kvm.how_to_open()
