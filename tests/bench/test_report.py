"""What a benchmark's table says: what is added beside the aim for it, in ms and in multiples of the pass-through's."""

from typing import Any

import pytest

from bench.report import rows
from bench.stats import compare


def _steady(direct: float, bare: float, through: float) -> dict[str, Any]:
    return {**compare([direct], [through]), "bare": compare([direct], [bare])}


def _first(always: dict[str, Any]) -> dict[str, Any]:
    return {**_steady(0.040, 0.041, 0.045), "always": always}


def _found(always: dict[str, Any]) -> dict[str, Any]:
    """Figures of a run that took one sample of all."""
    rate = {"through_per_s": 10.0, "of_direct": 0.1, "of_bare": 0.5, "cpu_us": {}}
    figures = {"median_ms": 1.0, "p99_ms": 2.0}
    return {
        "unrest": figures,
        "slow_share": 0.1,
        "first_token_1": _first(always),
        "first_token_50": _first(always),
        "tokens_1": rate,
        "tokens_50": {**rate, "facade_per_s": 9.0, "facade_of_through": 0.9},
        "turns_50": rate,
        "create": {"thread": figures, "message": figures},
        "long_thread": {"messages": 100, "long": figures, "short": figures, "ratio": 1.0},
        "many_streams": {"streams": 10, "peak_mb": 5.0, "late_median_ms": 1.0, "late_worst_ms": 2.0},
        "idle_mb": 4.0,
        "cancel": {"median_ms": 1.0, "worst_ms": 2.0},
        "start": {"healthy_s": 0.3, "run_s": 2.0},
    }


@pytest.mark.parametrize(
    ("always", "added", "beside"),
    [
        ((0.040, 0.050, 0.080), "+40.0 ms", "direct 40.0 ms, 4.0 times bare's +10.0 ms"),
        ((0.040, 0.039, 0.080), "+40.0 ms", "direct 40.0 ms, bare's -1.0 ms"),
    ],
    ids=["more than bare", "bare added nothing"],
)
def test_where_nothing_is_left_out_the_aim_is_a_multiple_of_what_the_pass_through_adds(
    always: tuple[float, float, float], added: str, beside: str
) -> None:
    made = rows(_found(_steady(*always)))
    at = [title for title, *_ in made].index("first token, 50 clients, p99")
    assert made[at] == ("first token, 50 clients, p99", "+5.0 ms", "direct 40.0 ms, bare +1.0 ms", "+20 ms")
    assert made[at + 1] == ("  with the machine's slow moments", added, beside, "8.3 times")


def test_a_model_that_was_held_up_itself_is_told() -> None:
    always = _steady(0.040, 0.041, 0.045)
    always["direct"] = compare([0.040] * 9 + [0.090], [0.0])["direct"]
    told = [beside for title, _, beside, _ in rows(_found(always)) if title.startswith("  with")]
    assert [beside.split(",")[0] for beside in told] == ["direct 40.0 ms", "direct 90.0 ms (held up itself)"] * 2
