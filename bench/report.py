"""The figures for a person: rows of title, figure, yardstick, and what was aimed at."""

import math
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["plot", "rows", "table"]

Row = tuple[str, str, str, str]
_REFERENCE_US: Final = 490.0
"""Processor time of 20 tokens passed through on the machine on which the aims in milliseconds were measured."""

_FIRST: Final = (
    ("first_token_1", "1 client", "median_ms", 4, 0.8),
    ("first_token_1", "1 client", "p99_ms", 10, 1.1),
    ("first_token_50", "50 clients", "median_ms", 7, 1.1),
    ("first_token_50", "50 clients", "p99_ms", 20, 2.4),
)
"""The aims for what is added to a first token, in ms, and what *bare* added on the machine that they are from. One that
is slower now and then is so for both: where nothing is left out, the aim is their ratio."""

_HELD_UP: Final = 2.0
"""Times its median: a p99 of the model itself that has nothing to be compared with."""

_KINDS: Final = {"thread": "create a thread", "message": "create a message"}


def rows(found: dict[str, Any]) -> list[Row]:
    """One row a target; the first one is the heading."""
    made: list[Row] = [("", "through", "yardstick", "target")]
    alone, late = found["unrest"]["median_ms"], found["unrest"]["p99_ms"]
    slow = f"p99; slow for {found['slow_share']:.0%} of the time"
    made.append((f"the machine alone: {alone:.1f} ms of work", f"+{late - alone:.1f} ms", slow, ""))
    bare_us = found["turns_50"]["cpu_us"].get("bare")
    if bare_us:
        beside = f"bare's turn takes {bare_us:,.0f} us, {_REFERENCE_US:,.0f} where the aims in ms are from"
        made.append(("the machine's pace", f"{bare_us / _REFERENCE_US:.1f} times", beside, ""))
    for name, clients, key, aim_ms, bare_ms in _FIRST:
        steady, always = found[name], found[name]["always"]
        added, bare = steady[f"added_{key}"], steady["bare"][f"added_{key}"]
        title = f"first token, {clients}, {key.removesuffix('_ms')}"
        made.append((title, f"{added:+.1f} ms", f"{_direct(steady, key)}, bare {bare:+.1f} ms", f"+{aim_ms} ms"))
        added, bare = always[f"added_{key}"], always["bare"][f"added_{key}"]
        times = f"{added / bare:.1f} times " if bare > 0 else ""
        beside = f"{_direct(always, key)}, {times}bare's {bare:+.1f} ms"
        made.append(("  with the machine's slow moments", f"{added:+.1f} ms", beside, f"{aim_ms / bare_ms:.1f} times"))
    for name, title, target in (
        ("tokens_1", "tokens a second, 1 stream", ""),
        ("tokens_50", "tokens a second, 50 streams", "1/3 of bare"),
        ("turns_50", "whole turns a second, 50 clients", "1/8 of bare"),
    ):
        one = found[name]
        yardstick = f"{_part(one['of_direct'])} of direct, {_part(one['of_bare'])} of bare"
        made.append((title, f"{one['through_per_s']:,.0f}", yardstick, target))
    lang = found["tokens_50"]
    made.append(
        (
            "the same through LangServe",
            f"{lang['facade_per_s']:,.0f}",
            f"{_part(lang['facade_of_through'])} of /v1",
            "1/2",
        )
    )
    for name, title in (("tokens_50", "processor time a token, 50 streams"), ("turns_50", "processor time a turn")):
        us = found[name]["cpu_us"]
        if us.get("bare"):
            beside = f"bare {us['bare']:,.1f} us, {us['through'] / us['bare']:.1f} times"
            beside += f"; LangServe {us['facade']:,.1f} us" if "facade" in us else ""
            made.append((title, f"{us['through']:,.1f} us", beside, ""))
    for kind, one in found["create"].items():
        made.append((f"{_KINDS[kind]}, 1 client", f"{one['median_ms']:.1f} ms", f"p99 {one['p99_ms']:.1f} ms", "4 ms"))
    long = found["long_thread"]
    made.append(
        (
            f"a turn, thread of {long['messages']:,} messages",
            f"{long['long']['median_ms']:.1f} ms",
            f"thread of 10: {long['short']['median_ms']:.1f} ms, {long['ratio']:.2f} times",
            "1.1 times",
        )
    )
    many = found["many_streams"]
    late = f"late: median {many['late_median_ms']:.0f} ms, worst {many['late_worst_ms']:.0f} ms"
    made += [
        ("memory, idle", f"{found['idle_mb']:.0f} MB", "before the first request", "150 MB"),
        (f"memory, {many['streams']:,} open streams", f"{many['peak_mb']:.0f} MB", late, "400 MB"),
    ]
    cancel, start = found["cancel"], found["start"]
    made += [
        ("cancel to closed upstream", f"{cancel['median_ms']:.1f} ms", f"worst {cancel['worst_ms']:.1f} ms", "20 ms"),
        (
            "start to first healthy answer",
            f"{start['healthy_s']:.2f} s",
            f"to the end of a run {start['run_s']:.2f} s",
            "0.6 s",
        ),
    ]
    return made


def table(made: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in made) for column in range(len(made[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if number == 0 else cell.rjust(width) for number, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in made)
    )


def plot(found: dict[str, Any]) -> str:
    """An SVG of the first token's latency, direct and through: the part of all answers (y) that came within (x) ms."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 420" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="420" fill="#fff"/>',
    ]
    low, high = 0.0, 9.0  # 1 ms to 512 ms, in doublings
    for power in range(int(low), int(high) + 1):
        x = 60 + (power - low) / (high - low) * 620
        lines.append(
            f'<path d="M{x:.0f} 20V370" stroke="#ddd"/><text x="{x:.0f}" y="388" text-anchor="middle">{2**power}</text>'
        )
    for part in (0, 0.25, 0.5, 0.75, 1):
        y = 370 - part * 350
        lines.append(
            f'<path d="M60 {y:.0f}H680" stroke="#ddd"/><text x="52" y="{y + 4:.0f}" text-anchor="end">{part:.0%}</text>'
        )
    colours = {"direct": "#888", "through": "#0b6e63"}
    for number, (name, clients, dash) in enumerate(
        (("first_token_1", "1 client", ""), ("first_token_50", "50 clients", "6 4"))
    ):
        for road, colour in colours.items():
            one = found[name][road]
            seen, path = 0, []
            for edge, count in one["histogram"]:
                seen += count
                x = 60 + min(max((math.log2(edge) - low) / (high - low), 0), 1) * 620
                path.append(f"{x:.1f},{370 - seen / one['samples'] * 350:.1f}")
            pen = f'fill="none" stroke="{colour}" stroke-dasharray="{dash}" stroke-width="2"'
            at = 40 + 18 * (2 * number + (road == "through"))
            lines += [
                f'<polyline points="{" ".join(path)}" {pen}/>',
                f'<path d="M520 {at - 4}h30" {pen}/><text x="556" y="{at}">{road}, {clients}</text>',
            ]
    lines.append('<text x="370" y="410" text-anchor="middle">first token within … ms</text></svg>')
    return "\n".join(lines) + "\n"


def _direct(one: dict[str, Any], key: str) -> str:
    direct = one["direct"]
    held_up = " (held up itself)" if direct[key] > _HELD_UP * direct["median_ms"] else ""
    return f"direct {direct[key]:.1f} ms{held_up}"


def _part(ratio: float) -> str:
    return f"1/{1 / ratio:.1f}" if ratio < 1 else f"{ratio:.1f}"
