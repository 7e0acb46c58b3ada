"""Files that take no room for what is zero."""

import os

from harness.files import copy_sparse


def test_a_copy_has_holes_where_there_are_zeros(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    content = os.urandom(70_000) + bytes(4 << 20) + b"x" + bytes(1 << 20)
    source.write_bytes(content)
    target.write_bytes(b"what was there before")
    assert copy_sparse(source, target) == target
    assert target.read_bytes() == content
    assert target.stat().st_blocks * 512 < 1 << 20 < source.stat().st_blocks * 512
