"""The arguments of `threadhold usage`."""

import argparse
from datetime import UTC, datetime

__all__ = ["add_usage_options"]

_BY = ("day", "owner", "model", "kind", "key")


def add_usage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--owner", help="print only this owner's usage")
    parser.add_argument(
        "--from", dest="since", type=_day, metavar="DAY", help="the first day: 2026-12-01 (default: 30 days ago)"
    )
    parser.add_argument("--to", dest="until", type=_end_of_day, metavar="DAY", help="the last day (default: today)")
    parser.add_argument(
        "--by",
        type=_groups,
        action="extend",
        metavar="FIELD",
        help=f"what to group by: {', '.join(_BY)}; can be repeated or a list with commas (default: day,owner,model)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object for each row")
    form.add_argument("--csv", action="store_true", help="print comma-separated values")


def _day(text: str) -> int:
    """Return the start of a UTC day in Unix seconds."""
    try:
        return int(datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a day; write, for example, 2026-12-01") from None


def _end_of_day(text: str) -> int:
    return _day(text) + 86_400


def _groups(text: str) -> list[str]:
    groups = [each.strip() for each in text.split(",") if each.strip()]
    for group in groups or [text]:
        if group not in _BY:
            raise argparse.ArgumentTypeError(f"'{group}' is not one of {', '.join(_BY)}")
    return groups
