"""Moments at which the machine itself is slow: `python -m bench.calm` finds them, and prints begin and end of each.

A virtual machine is slowed down by what it shares its host with: seen were all processors at once, up to twelve times
slower, for some ten milliseconds each second or two, while nothing counted as stolen. Whatever is measured just then
measures the host. A small piece of work, done every few milliseconds, shows it by the processor time that it takes,
which waiting for a processor does not lengthen: so load of our own is no such moment (tried: saturated by whole turns).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["SETTLED_S", "Calm", "watching"]

_EVERY_S: Final = 0.004
_WORK: Final = 1500
"""Squares to add up, 0.1 ms or so: 2 % of a processor."""

_CALIBRATING: Final = 250
_SLOW: Final = 3.0
"""Times the usual; load of our own, on both processors, lengthens it by a tenth."""

_AFTER_S: Final = 0.1
"""How long such a moment lasts on: others are still slow at what they touch for the first time since."""

SETTLED_S: Final = 0.2
"""After it is known what was slow."""


class Calm:
    """What is known about the machine so far. Times are `time.perf_counter()`, which all processes share."""

    def __init__(self, found: Path) -> None:
        """`found` is where the watching process prints."""
        self._found = found
        self._since = time.perf_counter()

    def steady(self, spans: Sequence[tuple[float, float]]) -> list[bool]:
        """Whether the machine kept its pace within each (begin, end); of the last moments it is not known yet."""
        moments = self._moments()
        return [not any(begin < ended and begun < end for begin, end in moments) for begun, ended in spans]

    def slow_share(self) -> float:
        """Return which part of the time since the beginning was slow, from 0 to 1."""
        covered, reached = 0.0, self._since
        for begin, end in self._moments():
            covered += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        return covered / (time.perf_counter() - self._since)

    def _moments(self) -> list[tuple[float, float]]:
        lines = self._found.read_text().splitlines()
        return [(float(begin), float(end)) for begin, end in (line.split() for line in lines if line.count(" ") == 1)]


@contextmanager
def watching() -> Iterator[Calm]:
    """Watch the machine from a process of its own, once it knows the machine's usual pace."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slow"
        with path.open("wb") as out, subprocess.Popen([sys.executable, "-m", "bench.calm"], stdout=out) as process:
            try:
                time.sleep(_CALIBRATING * _EVERY_S * 1.5)
                yield Calm(path)
            finally:
                process.kill()


def _work() -> float:
    begun = time.thread_time()
    sum(number * number for number in range(_WORK))
    return time.thread_time() - begun


def main() -> None:
    """Learn the usual pace, then print what is slower, until killed."""
    usual: list[float] = []
    before = time.perf_counter()
    while True:
        time.sleep(_EVERY_S)
        took, now = _work(), time.perf_counter()
        if len(usual) < _CALIBRATING:
            usual.append(took)
            limit = _SLOW * statistics.median(usual)
        elif took > limit:
            print(f"{before:.6f} {now + _AFTER_S:.6f}", flush=True)
        before = now


if __name__ == "__main__":
    main()
