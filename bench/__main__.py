"""`make bench`: prints a table of what the server of this tree costs.

`make bench BASE=<revision>` also measures the server of that revision, in the same rounds, with this tree's clients.
"""

import argparse
import subprocess
import sys
from contextlib import ExitStack

import uvloop

from bench.processes import Checkout, check_out, describe_machine, run_model, run_passthrough, run_servers
from bench.rounds import QUICK, Samples, Sizes, measure_clients, measure_starts
from bench.table import format_table, make_table


def measure(checkouts: list[Checkout], sizes: Sizes) -> Samples:
    """Measure the servers of these checkouts, the model and the pass-through in turn."""
    with run_model() as model, run_passthrough(model) as passthrough:
        samples = measure_starts(checkouts, model, sizes)
        with run_servers(checkouts, model) as servers:
            return samples | uvloop.run(measure_clients(servers, model, passthrough, sizes))


def main() -> None:
    """Measure and print. Exits with 1 if a value is worse than the base's."""
    parser = argparse.ArgumentParser(prog="make bench", description="Print a table of what the server costs.")
    parser.add_argument("--base", metavar="REVISION", help="also measure this revision, and print the ratio to it")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    options = parser.parse_args()
    here = Checkout("this tree")
    with ExitStack() as stack:
        try:
            base = stack.enter_context(check_out(options.base)) if options.base else None
        except subprocess.CalledProcessError as error:
            sys.exit(f"bench: cannot measure `{options.base}`: `{' '.join(error.cmd)}` failed.")
        samples = measure([base, here] if base else [here], QUICK if options.quick else Sizes())
    lines = make_table(samples, here.name, base.name if base else None)
    print(format_table(lines))
    print(f"\n{describe_machine()}")
    sys.exit(base is not None and any(line[-1].endswith("worse") for line in lines))


if __name__ == "__main__":
    main()
