"""`make bench`: starts the scripted model, a pass-through, the server and the load as processes, prints one table.

The JSON and a plot are kept in `bench/results/`. `make bench ARGS=--quick` takes a few seconds and proves that it
works; its figures mean little.
"""

import argparse
import json

from bench.machines import Amount, cancelling, machine, starting, under_load, unrest
from bench.report import plot, rows, table
from tests.process import ROOT

_QUICK = Amount(rounds=1, crowds=2, singles=20, turns_s=1.0, streams=100, messages=200)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="make bench", description="Compare with the upstream called directly.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    options = parser.parse_args()
    amount = _QUICK if options.quick else Amount()
    about = machine()
    found = {
        "machine": about,
        "unrest": unrest(100 if options.quick else 1000),
        **under_load(amount),
        "cancel": cancelling(5 if options.quick else 50),
        "start": starting(1 if options.quick else 5),
    }
    print(
        f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, Python {about['python']}, {about['at']}\n"
    )
    print(table(rows(found)))
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    kept = results / f"{about['at'].replace(':', '').replace('+0000', 'Z')}.json"
    kept.write_text(json.dumps(found, indent=2) + "\n")
    kept.with_suffix(".svg").write_text(plot(found))
    print(f"\nkept in {kept.relative_to(ROOT)}, first tokens drawn beside it as .svg")


if __name__ == "__main__":
    main()
