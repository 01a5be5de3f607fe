"""What a benchmark puts aside: moments in which the machine was slow, and no others."""

import time
from pathlib import Path

import pytest

from bench.calm import Calm


@pytest.fixture
def calm(tmp_path: Path) -> Calm:
    """The machine was slow from 10 to 11 and from 10.5 to 12; the last line is being written."""
    found = tmp_path / "slow"
    found.write_text("10.000000 11.000000\n10.500000 12.000000\n13.0")
    return Calm(found)


@pytest.mark.parametrize(
    ("span", "held"),
    [((9.0, 10.0), True), ((9.0, 10.1), False), ((10.9, 11.5), False), ((9.0, 13.0), False), ((12.0, 14.0), True)],
    ids=["before", "into", "within", "around", "after"],
)
def test_a_span_is_steady_when_no_slow_moment_touches_it(calm: Calm, span: tuple[float, float], held: bool) -> None:
    assert calm.steady([span, (0.0, 1.0)]) == [held, True]


def test_slow_moments_that_overlap_count_once(calm: Calm, monkeypatch: pytest.MonkeyPatch) -> None:
    calm._since = 8.0
    monkeypatch.setattr(time, "perf_counter", lambda: 18.0)
    assert calm.slow_share() == pytest.approx(0.2)
