"""`threadhold usage`: prints how many tokens owners have used, whether or not the server is running."""

import argparse
import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ops.factories import ServerSettings
from ops.tables import print_table
from ops.terminal import print_error, print_line
from store.ports import UsageRow

__all__ = ["run_usage"]

_DEFAULT_DAYS_S: Final = 30 * 86_400

_GROUPS: Final[Mapping[str, Callable[[UsageRow], str]]] = {
    "day": lambda row: datetime.fromtimestamp(row.day, UTC).strftime("%Y-%m-%d"),
    "owner": lambda row: row.owner,
    "model": lambda row: row.model,
    "kind": lambda row: row.kind,
    "key": lambda row: row.key_id,
}
_COUNTS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens")

_Sums = dict[tuple[str, ...], list[int]]


def run_usage(settings: ServerSettings, options: argparse.Namespace) -> int:
    """Print the usage that `options` asks for, and return the exit code. Raises StoreFailed."""
    now = int(time.time())
    since = now - _DEFAULT_DAYS_S if options.since is None else options.since
    since -= since % 86_400
    rows = settings.database.usage.usage(since, now + 86_400 if options.until is None else options.until)
    groups = [name for name in _GROUPS if name in (options.by or ("day", "owner", "model"))]
    sums: _Sums = {}
    for row in rows:
        if options.owner is None or row.owner == options.owner:
            total = sums.setdefault(tuple(_GROUPS[name](row) for name in groups), [0] * len(_COUNTS))
            for at, name in enumerate(_COUNTS):
                total[at] += getattr(row, name)
    if options.json:
        for group, counts in sums.items():
            print_line(json.dumps(dict(zip((*groups, *_COUNTS), (*group, *counts), strict=True)), ensure_ascii=False))
    elif options.csv:
        _print_csv(groups, sums)
    elif sums:
        _print_table(groups, sums)
    else:
        print_error("there is no usage in this period")
    return 0


def _print_csv(groups: Sequence[str], sums: _Sums) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*groups, *_COUNTS))
    writer.writerows((*map(_without_formula, group), *counts) for group, counts in sums.items())
    for line in text.getvalue().splitlines():
        print_line(line)


def _without_formula(cell: str) -> str:
    """Prefix what a spreadsheet would execute as a formula: models are named by clients."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _print_table(groups: Sequence[str], sums: _Sums) -> None:
    head = (*(name.upper() for name in groups), "REQUESTS", "INPUT", "CACHED", "OUTPUT")
    rows = [(*(cell or "-" for cell in group), *(f"{each:,}" for each in counts)) for group, counts in sums.items()]
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    rows.append(("total", *([""] * (len(groups) - 1)), *(f"{each:,}" for each in total)))
    print_table(head, rows, right=range(len(groups), len(head)))
