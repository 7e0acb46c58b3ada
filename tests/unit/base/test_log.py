"""The log: in the run's folder, whole from the beginning, and no reason to lose a run."""

import logging
import os

import pytest

from harness import log

LOGGER = logging.getLogger("harness.guest.machine")


def test_what_is_logged_before_the_folder_is_known_is_in_the_file(tmp_path):
    with log.of_run() as write_to:
        LOGGER.debug("before")
        write_to(tmp_path / "runs" / "1")
        LOGGER.debug("after")
    LOGGER.warning("when the run is over")
    before, after = (tmp_path / "runs/1" / log.NAME).read_text().splitlines()
    assert before.endswith("Z DEBUG   MainThread harness.guest.machine: before") and after.endswith(": after")


def test_a_run_that_is_resumed_adds_to_its_log(tmp_path):
    for text in ("first", "second"):
        with log.of_run() as write_to:
            write_to(tmp_path)
            LOGGER.info(text)
    lines = (tmp_path / log.NAME).read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["first", "second"]


def test_without_a_run_nothing_is_kept_and_levels_are_as_before():
    level = logging.getLogger("harness").level
    with log.of_run():
        LOGGER.debug("nobody sees it")
    assert logging.getLogger("harness").level == level
    assert not logging.getLogger("harness").handlers


def test_a_log_that_cannot_be_written_is_told_once_and_ends_nothing(tmp_path, capsys):
    (tmp_path / log.NAME).symlink_to("/dev/full")
    with log.of_run() as write_to:
        write_to(tmp_path)
        for _ in range(3):
            LOGGER.error("lost")
    sentence = f"harness: {tmp_path / log.NAME}: the log cannot be written: No space left on device\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    tmp_path.chmod(0o500)
    with log.of_run() as write_to:
        write_to(tmp_path / "runs")
        LOGGER.error("lost")
    assert "the log cannot be written: Permission denied" in capsys.readouterr().err


def test_debug_sends_it_to_standard_error_once(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("harness"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("harness"), "level", logging.WARNING)
    assert not log.debugging()
    log.to_stderr()
    log.to_stderr()
    LOGGER.debug("once")
    logging.getLogger("harness").setLevel(logging.WARNING)
    assert log.debugging() and capsys.readouterr().err.count("harness.guest.machine: once") == 1
