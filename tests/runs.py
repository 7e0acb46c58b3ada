"""Made-up runs, for tests of what shows them: passes, crashes, hangs, flakes, spoilt trials and hostile output.

The same arguments make the same run. What a crash says is as gccgo's runtime says it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from harness.escapes import decoded
from harness.trial.record import Trial

#: Output that would like to be a script, to end one, to move a cursor, or to turn text around.
HOSTILE = (
    b"</script><script>document.title='owned'</script><!--<script>\x1b]0;owned\x07\x1b[2J\xff\x00 "
    b"<img src=x onerror=\"document.title='owned'\"> {{ 7 * 7 }} \xe2\x80\xa8 \xe2\x80\xae &amp; ]]> | `x` @everyone\n"
)
#: The same as text: with half a surrogate pair, as a file's name may have one, and as the harness decodes output.
EVIL, SAID = HOSTILE.decode("utf-8", "surrogateescape").strip(), decoded(HOSTILE).strip()
GUESTS, VARIANTS = ("hurd-i386", "linux-i386"), ("pristine", "no-thread-destruction")
_BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
_PANIC = """panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x2 addr=0x0 pc=0x{0:08x}]

goroutine {1} [running]:
main.worker
\t/src/p.go:{2}
main.main
\t/src/p.go:12
"""


def names(number: int) -> list[str]:
    """So many programs, in suites of a hundred."""
    return [f"suite-{place // 100}/program-{place % 100:02}-does-this-and-that" for place in range(number)]


def trials(
    programs: Sequence[str],
    guests: Sequence[str] = GUESTS,
    variants: Sequence[str] = VARIANTS,
    each: int = 5,
    seed: int = 1,
) -> Iterator[Trial]:
    """The trials of a run in which about a tenth of the cells go wrong, each in a way of its own, in mixed order.

    Of the first cells the one numbered 0 crashes, 5 hangs, 10 fails now and then, and 15 is spoilt now and then.
    """
    dice = random.Random(seed)
    places = [(p, g, v, n) for p in programs for g in guests for v in variants for n in range(1, each + 1)]
    temper = {(p, g, v): dice.random() for p in programs for g in guests for v in variants}
    temper.update(zip(list(temper)[:16:5], (0.98, 0.96, 0.93, 0.918), strict=False))
    dice.shuffle(places)
    for number, (program, guest, variant, turn) in enumerate(places, start=1):
        kind = temper[program, guest, variant]
        started = (_BEGAN + timedelta(seconds=number)).isoformat(timespec="seconds")
        command = f"harness run suites/{program}.go --guest {guest} --variant {variant}"
        out = f"{program}: done after {number} steps\n".encode()
        verdict, reason, signature, signal, err = "pass", "as expected", "", "", b""
        status: int | None = 0
        if kind > 0.97:
            verdict, status, signature = "crash", 2, f"panic: nil dereference in main.worker{int(kind * 1e4) % 7}"
            reason, err = (
                "exit status 2, expected exit status 0",
                _PANIC.format(dice.getrandbits(32), number, turn).encode(),
            )
        elif kind > 0.95:
            verdict, status, signature = "hang", None, "hang: semacquire in sync.Mutex.Lock < main.enter"
            reason, signal = "it did not end within its time limit", "SIGQUIT"
        elif kind > 0.92 and dice.random() < 0.3:
            verdict, status, reason, out = "fail", 1, f"wrong output: {SAID}", HOSTILE
        elif kind > 0.915 and dice.random() < 0.3:
            verdict, status, reason = "error", None, "the guest is not as it was: the library is gone"
        yield Trial(
            number, guest, variant, program, turn, 1, verdict, reason, signature, status, signal,
            round(dice.uniform(0.2, 2.0), 3), out, err, len(out), len(err), started, command,
        )  # fmt: skip


def facts(trials_each: int = 5) -> dict[str, object]:
    """What a run tells of itself."""
    return {
        "run": 7, "created": "2026-03-01T12:00:00+00:00", "finished": "2026-03-01T14:00:00+00:00",
        "command": "harness run threads --trials 5", "trials of each cell": trials_each,
        "libgo": {"pristine": "0f" * 16, "no-thread-destruction": "1e" * 16}, "note": EVIL,
    }  # fmt: skip
