"""When looks are made at a program, and what becomes of them; what they prove is tests/unit/conf/test_stillness.py."""

import pytest

from harness import clock
from harness.conf.stillness import Look, Stillness
from harness.trial import stillness
from harness.trial.stillness import AGAIN, HangDetector


class Agent:
    """Keeps what it is asked for."""

    def __init__(self):
        self.asked = []

    def send(self, type_, data=b""):
        self.asked.append((type_, data))


class Guest:
    """A guest at a time that the test sets, its agent, and a detector that looks twice and then has an answer."""

    def __init__(self, monkeypatch, answer=None, delay=0.0):
        self.now = self.worked = 0.0
        monkeypatch.setattr(clock, "time", lambda: self.now)
        self.agent, self.readings = Agent(), []
        self.answer, self.delay = answer or Stillness("all sleep", "a table"), delay
        self.detector = HangDetector(self.looks, lambda: self.worked)

    def looks(self):
        self.readings.append((yield Look(("/a", "/b/*"))))
        self.readings.append((yield Look(("/c",), self.delay)))
        return self.answer

    def until(self, end, work=0.0):
        """Let time pass; the guest takes so many processor seconds a second."""
        while self.detector.due <= end:
            step = self.detector.due - self.now
            self.now += step
            self.worked += work * step
            self.detector.act(self.agent)
        self.now = end

    def answers(self, *pieces):
        return [self.detector.take(self.agent, piece) for piece in pieces][-1]


def test_a_silent_idle_program_is_looked_at_until_it_is_certain(monkeypatch):
    guest = Guest(monkeypatch)
    guest.until(stillness.SILENCE - 0.1)
    assert not guest.agent.asked
    guest.until(stillness.SILENCE)
    assert guest.agent.asked == [("G", b"/a\0/b/*\0")]
    guest.until(100.0)
    assert len(guest.agent.asked) == 1, "an answer is waited for"
    assert guest.answers(b"./a\0one", b"+/b/c\0tw", b"./b/c\0o", b"+/b/d\0lost", b"") is None
    assert guest.readings[0].files == [("/a", "one"), ("/b/c", "two")]
    assert (guest.readings[0].whole, guest.readings[0].elapsed) == (True, 100.0)
    assert guest.agent.asked[1:] == [("G", b"/c\0")]
    assert guest.answers(b"./c\0\xff", b"!") == guest.answer
    assert (guest.readings[1].files, guest.readings[1].whole) == ([("/c", "\\xff")], False)
    assert guest.detector.evidence == "a table"


def test_a_busy_guest_is_left_alone(monkeypatch):
    guest = Guest(monkeypatch)
    guest.until(20.0, work=0.9)
    assert not guest.agent.asked
    guest.until(21.0, work=0.05)
    assert len(guest.agent.asked) == 1


def test_output_begins_the_silence_anew_and_spoils_what_was_seen(monkeypatch):
    guest = Guest(monkeypatch)
    guest.until(2.0)
    guest.detector.disturb()
    guest.until(4.9)
    assert not guest.agent.asked
    guest.until(5.0)
    guest.detector.disturb()
    assert guest.answers(b"./a\0one", b"") is None and not guest.readings
    guest.until(5.0 + stillness.SILENCE)
    assert [data for _, data in guest.agent.asked] == [b"/a\0/b/*\0"] * 2, "it begins with the first look again"
    assert guest.answers(b"") is None and guest.answers(b"") == guest.answer


def test_a_look_comes_as_late_as_it_is_asked_for_unless_something_is_heard(monkeypatch):
    guest = Guest(monkeypatch, delay=4.0)
    guest.until(3.0)
    guest.answers(b"")
    guest.until(6.9)
    assert len(guest.agent.asked) == 1
    guest.until(7.0)
    assert guest.agent.asked[1:] == [("G", b"/c\0")]
    heard = Guest(monkeypatch, delay=4.0)
    heard.until(3.0)
    heard.answers(b"")
    heard.detector.disturb()
    heard.until(3.0 + stillness.SILENCE + 4.0)
    assert [data for _, data in heard.agent.asked] == [b"/a\0/b/*\0"] * 2


def test_after_a_doubt_it_is_looked_again_a_while_later(monkeypatch):
    guest = Guest(monkeypatch, answer="it runs")
    guest.until(3.0)
    assert guest.answers(b"") is None and guest.answers(b"") is None
    guest.until(3.0 + AGAIN - 0.1)
    assert len(guest.agent.asked) == 2 and not guest.detector.evidence
    guest.until(3.0 + AGAIN + stillness.PULSE)
    assert len(guest.agent.asked) == 3


def test_an_answer_that_nobody_waits_for_is_nothing(monkeypatch):
    assert Guest(monkeypatch).answers(b"./a\0one", b"") is None


@pytest.mark.parametrize("data", [b".", b"+", b"\xff\xff", b"no end of the name"])
def test_an_answer_may_be_torn(monkeypatch, data):
    guest = Guest(monkeypatch)
    guest.until(3.0)
    guest.answers(data)
    assert guest.answers(b"") is None
