"""Formats the table of a benchmark: one row per measurement, with its target and its ratio to the comparison. Pure.

Values and ratios are medians of rounds, with their quartiles in brackets. Each ratio is computed within one round,
whose two numbers were measured one after the other.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.processes import DIRECT, PASSTHROUGH
from bench.rounds import Samples

__all__ = ["ROWS", "Row", "format_table", "is_worse", "make_table"]

_WORSE: Final = 1.10
"""A value counts as worse than another revision's if three quarters of the ratios are above this."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `target` is its intended maximum, in `unit`; `baseline` is the client that it is compared with.

    If `added` is set, the time of a direct call to the model is subtracted.
    """

    title: str
    unit: Literal["ms", "µs", "s", "MB"]
    target: float
    baseline: str | None = None
    added: bool = False

    @property
    def plus(self) -> str:
        """The sign of values from which the model's own time is subtracted."""
        return "+" if self.added else ""

    def values(self, samples: dict[str, list[float]], name: str) -> list[float]:
        """Return the values of the server with this name, one per round."""
        if not self.added:
            return samples[name]
        return [one - direct for one, direct in zip(samples[name], samples[DIRECT], strict=True)]


ROWS: Final = {
    "turn_1": Row("a whole turn, processor time, 1 client", "ms", 3.8, PASSTHROUGH),
    "turn_20": Row("a whole turn, processor time, 20 clients", "ms", 2.5, PASSTHROUGH),
    "token": Row("a token of a long answer, processor time", "µs", 20, PASSTHROUGH),
    "first_1": Row("first token added, 1 client", "ms", 4, DIRECT, added=True),
    "first_50": Row("first token added, 50 clients", "ms", 8, DIRECT, added=True),
    "long_thread": Row("first token added by 1,000 messages in the thread", "ms", 10),
    "late_100": Row("lateness of a token, 100 open streams", "ms", 3, DIRECT),
    "late_1000": Row("lateness of a token, 1,000 open streams", "ms", 200, DIRECT),
    "cancel": Row("cancel to upstream closed", "ms", 20),
    "start": Row("start to healthy", "s", 0.6),
    "memory": Row("memory, idle", "MB", 150),
}


def make_table(samples: Samples, server: str, base: str | None = None) -> list[list[str]]:
    """Return the lines of the table of a server, heading first.

    With a `base`, ratios are to the server of that name; otherwise to the model called directly or the pass-through.
    """
    servers = [base, server] if base else [server]
    lines = [["", "compared with", *servers, "target", f"ratio to {base}" if base else "ratio"]]
    for key, row in ROWS.items():
        found, ratios = samples[key], []
        values = [row.values(found, name) for name in servers]
        if base:
            ratios = _ratios(*values)
        elif row.baseline:
            ratios = _ratios(found[row.baseline], found[server])
        lines.append(
            [
                row.title,
                f"{row.baseline} {_format_value(found[row.baseline], row.unit)}" if row.baseline else "",
                *(_format_value(each, row.unit, row.plus) for each in values),
                f"{row.plus}{row.target:g} {row.unit}",
                _ratio(ratios) + (" worse" if base and is_worse(ratios) else ""),
            ]
        )
    return lines


def is_worse(ratios: Sequence[float]) -> bool:
    """Return whether values with these ratios are worse by more than measurement noise."""
    return bool(ratios) and _quartiles(ratios)[0] > _WORSE


def format_table(lines: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table whose columns are also aligned in a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    heading, *rest = [" | ".join(map(str.ljust, line, widths)) for line in lines]
    return "\n".join(f"| {line} |" for line in (heading, " | ".join("-" * width for width in widths), *rest))


def _format_value(values: Sequence[float], unit: str, plus: str = "") -> str:
    low, middle, high = (_number(quartile, plus) for quartile in _quartiles(values))
    spread = f" ({low} to {high})" if len(values) > 1 else ""
    return f"{middle} {unit}{spread}"


def _number(value: float, plus: str) -> str:
    return f"{value:{plus},.0f}" if abs(value) >= 100 else f"{value:{plus}.3g}"


def _ratios(base: Sequence[float], other: Sequence[float]) -> list[float]:
    """Divide round by round; rounds whose divisor is not positive are left out."""
    return [here / there for there, here in zip(base, other, strict=True) if there > 0]


def _ratio(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    low, middle, high = _quartiles(ratios)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if len(ratios) > 1 else f"{middle:.2f}"


def _quartiles(numbers: Sequence[float]) -> list[float]:
    return statistics.quantiles(numbers, method="inclusive") if len(numbers) > 1 else [numbers[0]] * 3
