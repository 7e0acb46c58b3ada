"""Whether KVM runs guests: tried on the kernel at hand, whatever it has."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from harness import kvm


def test_the_kernel_at_hand():
    """The result agrees with the device; where KVM works, QEMU takes the accelerator too."""
    problem = kvm.problem()
    if not Path("/dev/kvm").exists():
        assert "there is no /dev/kvm" in problem
    elif problem:
        assert problem.startswith(("/dev/kvm opens, but", "/dev/kvm does", "you may not open", "this processor"))
    else:
        assert platform.machine() == "x86_64"
        process = subprocess.run(
            ["qemu-system-x86_64", "-accel", "kvm", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"],
            input="quit\n",
            text=True,
            capture_output=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("device", "reason"),
    [("/none/kvm", "there is no /none/kvm"), ("/dev/null", "does not run a guest: KVM_CREATE_VM fails with ENOTTY")],
)
def test_a_device_that_is_not_kvm(device, reason):
    assert reason in kvm.problem(device)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_device_of_another_group_names_the_group(tmp_path):
    device = tmp_path / "kvm"
    device.touch(0o600)
    assert kvm.how_to_open(str(device)).startswith("only root may")
    os.chown(device, 0, 65534)
    assert "the group nogroup may: `sudo adduser $USER nogroup`" in kvm.how_to_open(str(device))
