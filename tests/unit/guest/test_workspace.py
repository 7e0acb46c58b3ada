"""The folders of guests that run."""

import socket

from harness.guest.workspace import guest_folder, short_name


def test_a_folder_with_a_long_name_can_hold_a_socket(tmp_path):
    with guest_folder(tmp_path / ("long, with a blank " * 8)) as folder, short_name(folder) as short:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short / "gdb"))
        assert (folder / "gdb").is_socket() and " " not in str(short)
    assert not short.exists()
