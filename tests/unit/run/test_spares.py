"""Spare guests, with a stand-in for the pool, which would boot some."""

import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from harness.errors import GuestError
from harness.run import spares
from harness.run.spares import Spares


class Pool:
    """Gives guests by number, and counts what is done with them."""

    def __init__(self, fails=False):
        self.number, self.fails, self.paused, self.woken, self.stopped = 0, fails, [], [], []

    def fresh(self, folder, say, stopped):
        self.number += 1
        if self.fails:
            raise GuestError("it does not boot")
        number = self.number
        machine = SimpleNamespace(
            pause=lambda: self.paused.append(number), stop=lambda: self.stopped.append(number), folder=folder
        )
        return SimpleNamespace(machine=machine, number=number)

    def wake(self, guest):
        self.woken.append(guest.number)


@pytest.fixture
def pool_of(tmp_path, monkeypatch):
    monkeypatch.setattr(spares, "room_for", lambda memory: True)
    return Spares(tmp_path, lambda: False)


def prepared(keeper, pool):
    keeper.prepare("g", pool, 512)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "spare g"] or [threading.current_thread()]
    if thread is not threading.current_thread():
        thread.join()


def test_a_spare_guest_is_paused_and_goes_on_when_it_is_needed(pool_of):
    pool = Pool()
    prepared(pool_of, pool)
    prepared(pool_of, pool)
    assert (pool.number, pool.paused) == (1, [1]), "one at most"
    with pool_of.guest("g", pool, print) as guest:
        assert (guest.number, pool.woken, guest.machine.folder.is_dir()) == (1, [1], True)
    assert pool.stopped == [1] and not guest.machine.folder.exists()
    with pool_of.guest("g", pool, print) as guest:
        assert (guest.number, pool.woken) == (2, [1])


def test_a_spare_guest_that_cannot_be_had_is_no_trouble(pool_of):
    prepared(pool_of, Pool(fails=True))
    with pool_of.guest("g", Pool(), print) as guest:
        assert guest.number == 1


def test_a_spare_guest_that_nobody_takes_ends(pool_of):
    pool = Pool()
    prepared(pool_of, pool)
    pool_of.end()
    assert pool.stopped == [1]
    pool_of.end()


def test_without_memory_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(spares.host, "available_memory", lambda: 1000)
    pool = Pool()
    with ExitStack() as stack:
        keeper = Spares(tmp_path, lambda: False)
        stack.callback(keeper.end)
        prepared(keeper, pool)
    assert pool.number == 0
