"""Writes the output of commands, line by line: results to standard output, everything else to standard error.

Invariant: no other code of this package writes there, except for progress bars, whose text is ours, and `export`, which
writes JSON to a terminal in ASCII. Names, models and errors of upstreams are untrusted text and pass through `plain`.
"""

import sys

from telemetry.plain import plain

__all__ = ["print_error", "print_line"]


def print_line(line: str) -> None:
    """Print a line of results."""
    print(_encodable(plain(line), sys.stdout.encoding), flush=True)


def print_error(line: str) -> None:
    """Print a line for the user at the terminal, after the program's name."""
    print(_encodable(f"threadhold: {plain(line)}", sys.stderr.encoding), file=sys.stderr, flush=True)


def _encodable(line: str, encoding: str | None) -> str:
    """Replace characters that the terminal's encoding does not have by escapes; printing them would raise."""
    return line.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")
