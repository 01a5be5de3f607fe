"""`make bench-compare BASE=<revision>`: this tree and another revision, measured in turns, and what got worse.

The revision is checked out in a temporary folder, with an environment of its own, made by its own `make install`.
Both servers meet this tree's load, so that the figures mean the same.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.machines import Amount, cancelling, machine, starting, under_load
from bench.report import table
from tests.process import ROOT

_WORSE: Final = 1.10
"""What is slower, or more, than this times the base is flagged."""

_AMOUNT: Final = Amount(rounds=2, crowds=4, singles=60, turns_s=3.0, streams=200, messages=1000)

_FIGURES: Final = {
    "first token, 1 client, ms": ("first_token_1", "added_median_ms"),
    "first token, 50 clients, ms": ("first_token_50", "added_median_ms"),
    "create a message, ms": ("create", "message", "median_ms"),
    "turn on a long thread, ms": ("long_thread", "long", "median_ms"),
    "memory with open streams, MB": ("many_streams", "peak_mb"),
    "cancel, ms": ("cancel", "median_ms"),
    "start, s": ("start", "healthy_s"),
    "tokens a second, part of bare": ("tokens_50", "of_bare"),
    "whole turns, part of bare": ("turns_50", "of_bare"),
}
_MORE_IS_BETTER: Final = frozenset({"tokens a second, part of bare", "whole turns, part of bare"})


def measured(root: Path) -> dict[str, float]:
    """One pass over a checkout's server."""
    found: dict[str, Any] = {
        **under_load(_AMOUNT, root),
        "cancel": cancelling(15, root),
        "start": starting(3, root),
    }
    return {title: _at(found, path) for title, path in _FIGURES.items()}


def checkout(base: str, folder: Path) -> Path:
    """Check the revision out, and install it."""
    tree = folder / "base"
    subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(tree), base], cwd=ROOT, check=True)
    print(f"installing {base} into {tree} (a minute)", file=sys.stderr)
    subprocess.run(["make", "install"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    return tree


def main() -> None:
    """Measure both in turns, print both. Exits with 1 when something got worse."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description="Compare with another revision.")
    parser.add_argument("base", help="a revision that git knows")
    parser.add_argument("--passes", type=int, default=3, help="times that each is measured (default 3)")
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        tree = checkout(options.base, Path(folder))
        try:
            passes = [(measured(tree), measured(ROOT)) for _ in range(options.passes)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
    rows, worse = [("", options.base, "this tree", "")], 0
    for title in _FIGURES:
        base, here = (statistics.median(one[side][title] for one in passes) for side in (0, 1))
        ratio = base / here if title in _MORE_IS_BETTER else here / base
        worse += ratio > _WORSE
        rows.append((title, f"{base:.3g}", f"{here:.3g}", "worse" if ratio > _WORSE else ""))
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, medians of {options.passes} passes\n")
    print(table(rows))
    sys.exit(1 if worse else 0)


def _at(found: Any, path: tuple[str, ...]) -> float:
    for key in path:
        found = found[key]
    return float(found)


if __name__ == "__main__":
    main()
