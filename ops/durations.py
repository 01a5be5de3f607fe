"""Parses durations on the command line: 30d, 12h, 4w."""

import argparse
import re
from typing import Final

__all__ = ["duration"]

_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}
_MAX_DAYS: Final = 200 * 366


def duration(text: str) -> float:
    """Return the seconds. Raises ArgumentTypeError, which argparse reports."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write, for example, 30d, 12h or 4w")
    if seconds > _MAX_DAYS * _SECONDS["d"]:
        raise argparse.ArgumentTypeError(f"'{text}' is too long; the maximum is {_MAX_DAYS}d (200 years)")
    return seconds
