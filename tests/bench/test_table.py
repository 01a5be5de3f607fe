"""The table of a benchmark: values, ratios of rounds, and what counts as worse."""

import pytest

from bench.table import ROWS, format_table, is_worse, make_table
from tests.process import ROOT


def samples(**servers: list[float]) -> dict[str, dict[str, list[float]]]:
    """Return the same rounds for every row."""
    baseline = {"direct": [1.0, 2.0], "pass-through": [2.0, 4.0]}
    return {key: {**baseline, **servers} for key in ROWS}


def cells(lines: list[list[str]], title: str) -> list[str]:
    """Return the row with this title, without the title."""
    return next(line[1:] for line in lines if line[0] == title)


def test_every_row_has_a_value_a_target_and_any_ratio() -> None:
    heading, *lines = make_table(samples(Threadhold=[3.0, 8.0]), "Threadhold")
    assert heading == ["", "compared with", "Threadhold", "target", "ratio"]
    assert [line[0] for line in lines] == [row.title for row in ROWS.values()]
    assert all(line[2] and line[3] for line in lines)
    assert [bool(line[1] and line[4]) for line in lines] == [row.baseline is not None for row in ROWS.values()]


def test_added_time_is_a_difference_within_a_round() -> None:
    lines = make_table(samples(Threadhold=[3.0, 8.0]), "Threadhold")
    baseline, figure, target, ratio = cells(lines, ROWS["first_1"].title)
    assert (figure, target) == ("+4 ms (+3 to +5)", "+4 ms")
    assert (baseline, ratio) == ("direct 1.5 ms (1.25 to 1.75)", "3.50 (3.25 to 3.75)")


def test_a_ratio_to_a_revision_is_computed_per_round() -> None:
    lines = make_table(samples(base=[10.0, 100.0], here=[5.0, 200.0]), "here", "base")
    assert lines[0] == ["", "compared with", "base", "here", "target", "ratio to base"]
    assert cells(lines, ROWS["memory"].title) == [
        "",
        "55 MB (32.5 to 77.5)",
        "102 MB (53.8 to 151)",
        "150 MB",
        "1.25 (0.88 to 1.62)",
    ]


def test_a_ratio_to_a_revision_is_of_the_added_time() -> None:
    lines = make_table(samples(base=[3.0, 6.0], here=[5.0, 10.0]), "here", "base")
    assert cells(lines, ROWS["first_1"].title)[-1] == "2.00 (2.00 to 2.00) worse"


def test_one_round_has_no_spread() -> None:
    lines = make_table(
        {key: {"direct": [1.0], "pass-through": [1.0], "a": [2.0], "b": [3.0]} for key in ROWS}, "b", "a"
    )
    assert cells(lines, ROWS["late_1000"].title) == ["direct 1 ms", "2 ms", "3 ms", "200 ms", "1.50 worse"]


def test_rounds_without_added_time_have_no_ratio() -> None:
    lines = make_table(samples(base=[1.0, 2.0], here=[5.0, 6.0]), "here", "base")
    assert cells(lines, ROWS["first_1"].title)[1:] == ["+0 ms (+0 to +0)", "+4 ms (+4 to +4)", "+4 ms", ""]


@pytest.mark.parametrize(
    ("ratios", "worse"),
    [
        ([1.2, 1.3, 1.4], True),
        ([0.9, 1.0, 2.0, 3.0], False),
        ([1.05, 1.05, 1.1], False),
        ([], False),
    ],
    ids=["all above a tenth", "one in four below", "within a tenth", "nothing to divide by"],
)
def test_worse_means_that_most_rounds_agree(ratios: list[float], worse: bool) -> None:
    assert is_worse(ratios) is worse


def test_columns_are_aligned_and_are_markdown() -> None:
    assert format_table([["", "a"], ["row", "1 ms"]]) == "|     | a    |\n| --- | ---- |\n| row | 1 ms |"


def test_the_page_shows_every_row_with_its_target() -> None:
    blocks = (ROOT / "docs/performance.md").read_text().split("\n\n")
    lines = next(block for block in blocks if block.startswith("|")).splitlines()
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = [(row[0], row[heading.index("target")]) for row in rows]
    assert shown == [(row.title, f"{row.plus}{row.target:g} {row.unit}") for row in ROWS.values()]
