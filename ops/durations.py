"""Lengths of time as a person writes them: 30d, 12h, 4w."""

import argparse
import re
from typing import Final

__all__ = ["duration"]

_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}
_MAX_S: Final = 200 * 366 * 86_400


def duration(text: str) -> float:
    """Return the seconds. Raises ArgumentTypeError, for argparse to tell."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([hdw])", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _MAX_S:
        raise argparse.ArgumentTypeError(f"'{text}' is no length of time; write 30d, 12h or 4w")
    return seconds
