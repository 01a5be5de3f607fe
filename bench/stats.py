"""Figures of samples: seconds in, milliseconds out."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["compare", "histogram", "rates", "summary"]

_STEPS: Final = 8
"""Buckets of a histogram per doubling."""


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, p99 and histogram of durations."""
    ordered = sorted(seconds)
    return {
        "median_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
        "samples": len(ordered),
        "histogram": histogram(ordered),
    }


def histogram(seconds: Sequence[float]) -> list[tuple[float, int]]:
    """Count by buckets that grow by the eighth root of two: (upper edge in ms, samples), the empty ones left out."""
    counts: dict[int, int] = {}
    for one in seconds:
        bucket = math.ceil(math.log2(max(one * 1e3, 1e-3)) * _STEPS)
        counts[bucket] = counts.get(bucket, 0) + 1
    return [(2 ** (bucket / _STEPS), count) for bucket, count in sorted(counts.items())]


def compare(direct: Sequence[float], through: Sequence[float]) -> dict[str, Any]:
    """Both roads, and what the longer one adds."""
    one, other = summary(direct), summary(through)
    added = {f"added_{name}": other[name] - one[name] for name in ("median_ms", "p99_ms")}
    return {"direct": one, "through": other, **added}


def rates(through: Sequence[float], **yardsticks: Sequence[float]) -> dict[str, Any]:
    """Medians of rates a second, and the ratio to each yardstick."""
    median = statistics.median(through)
    found: dict[str, Any] = {"through_per_s": median, "rounds": len(through)}
    for name, measured in yardsticks.items():
        yardstick = statistics.median(measured)
        found |= {f"{name}_per_s": yardstick, f"of_{name}": median / yardstick}
    return found
