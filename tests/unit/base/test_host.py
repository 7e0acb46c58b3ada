"""The memory of this machine that programs can still have."""

import pytest

from harness import host


@pytest.fixture
def group(tmp_path):
    """Groups, the uppermost of which has a bound in bytes, as a container's own has."""

    def bound(most, taken, files):
        (tmp_path / "memory.max").write_text(f"{most}\n")
        (tmp_path / "memory.current").write_text(f"{taken}\n")
        (tmp_path / "memory.stat").write_text(f"anon {taken - files}\nfile {files}\ninactive_file {files}\n")
        return tmp_path

    return bound


def test_memory_that_a_group_may_not_have_is_not_available(group, tmp_path):
    free = host.available_memory(tmp_path)
    assert 0 < free < 1 << 24
    assert host.available_memory(group(30 << 20, 20 << 20, 5 << 20)) == 15
    assert host.available_memory(group(10 << 20, 20 << 20, 0)) == 0
    assert host.available_memory(group("max", 20 << 20, 0)) > 15
