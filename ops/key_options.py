"""The arguments of `threadhold keys`. Imports little, because the command line is parsed at each start."""

import argparse
import re
import time
from datetime import UTC, datetime
from typing import Final, get_args

from ops.durations import duration
from wire.ids import DEFAULT_OWNER
from wire.key_format import DEFAULT_SCOPES, Scope, key_id

__all__ = ["add_key_commands"]

_SCOPES: Final[tuple[str, ...]] = get_args(Scope)
_MAX_NAME: Final = 256
_MAX_LIMIT: Final = 10**12


def add_key_commands(parser: argparse.ArgumentParser) -> None:
    """Add `create`, `list`, `revoke` and `rotate`; `options.action` is the chosen one."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    def add(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        about = f"{summary[0].upper()}{summary[1:]}. {more}"
        return actions.add_parser(name, help=summary, description=about, allow_abbrev=False)

    create = add("create", "create a key, and print it", "The key is printed only once, on standard output.")
    create.add_argument(
        "--owner",
        type=_owner,
        default=DEFAULT_OWNER,
        help=f"the owner whose objects it can access (default: {DEFAULT_OWNER})",
    )
    create.add_argument("--name", type=_name, default="", help="a name that `list` shows")
    create.add_argument(
        "--scope",
        type=_scopes,
        action="extend",
        dest="scopes",
        metavar="SCOPE",
        help=f"what it is allowed to do: {', '.join(_SCOPES)}; can be repeated or a list with commas (default: "
        f"{','.join(each for each in _SCOPES if each in DEFAULT_SCOPES)})",
    )
    create.add_argument(
        "--expires",
        type=_expiry,
        metavar="90d",
        help="when it expires: 90d, 12h, 4w, or the end of a day in UTC: 2027-01-31 (default: never)",
    )
    create.add_argument(
        "--rpm", type=_limit, metavar="N", help="requests per minute, except GET requests (default: unlimited)"
    )
    create.add_argument("--tpm", type=_limit, metavar="N", help="tokens per minute (default: unlimited)")
    listing = add("list", "list the stored keys; their secret parts are not shown")
    listing.add_argument("--owner", help="list only this owner's keys")
    listing.add_argument("--json", action="store_true", help="print a JSON object for each key")
    revoke = add("revoke", "invalidate keys")
    revoke.add_argument("keys", type=_id, nargs="+", metavar="ID", help="the id of a key, as `list` shows it")
    rotate = add("rotate", "replace a key with a new one that has the same owner, name, scopes, limits and expiry")
    rotate.add_argument("key", type=_id, metavar="ID", help="the id of the key, as `list` shows it")
    rotate.add_argument(
        "--grace",
        type=duration,
        metavar="1h",
        help="how long the old key remains valid (default: it is revoked immediately)",
    )
    rotate.add_argument(
        "--expires", type=_expiry, metavar="90d", help="when the new key expires (default: like the old key)"
    )


def _owner(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip() or len(text) > _MAX_NAME or set(text) & {",", "="}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an owner; write 1 to {_MAX_NAME} printable characters without commas or equals signs"
        )
    return text


def _name(text: str) -> str:
    if not (text == "" or text.isprintable()) or len(text) > _MAX_NAME:
        raise argparse.ArgumentTypeError(f"write up to {_MAX_NAME} printable characters in one line")
    return text


def _scopes(text: str) -> list[str]:
    scopes = [each.strip() for each in text.split(",") if each.strip()]
    for scope in scopes or [text]:
        if scope not in _SCOPES:
            raise argparse.ArgumentTypeError(f"'{scope}' is not a scope; the scopes are {', '.join(_SCOPES)}")
    return scopes


def _expiry(text: str) -> int:
    """Return the Unix time of a duration from now, or of the end of a day in UTC."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
        try:
            return int(time.time() + duration(text))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or a date such as 2027-01-31") from None
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a date") from None
    ends_at = int(day.timestamp()) + 86_400
    if ends_at <= time.time():
        raise argparse.ArgumentTypeError(f"{text} is in the past")
    return ends_at


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_LIMIT)) else 0
    if not 0 < number <= _MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a limit; write a number from 1 to {_MAX_LIMIT:,}")
    return number


def _id(text: str) -> str:
    found = key_id(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError("that is not the id of a key; `threadhold keys list` shows the ids")
    return found
