"""`threadhold keys`: creates, lists, revokes and rotates stored API keys, whether or not a server is running.

Invariant: a key is printed once, when it is created, and it is the only line on standard output.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from ops.factories import ServerSettings
from ops.tables import print_table
from ops.terminal import print_error, print_line
from store.ports import KeyAdministration, KeyLimits, StoredKey
from wire.errors import ThreadholdError
from wire.key_format import DEFAULT_SCOPES, SCOPES, hash_key, key_id, new_key

__all__ = ["run_keys"]

_HEAD: Final = ("ID", "OWNER", "NAME", "SCOPES", "LIMITS", "CREATED", "EXPIRES", "LAST USED", "STATE")


def run_keys(settings: ServerSettings, options: argparse.Namespace) -> int:
    """Run the action that `options` names, and return the exit code. Raises ThreadholdError."""
    keys, now = settings.database.keys, int(time.time())
    match options.action:
        case "create":
            return _create(settings, options, now)
        case "list":
            return _list(keys, owner=options.owner, as_json=options.json, now=now)
        case "revoke":
            return _revoke(keys, options.keys, now)
        case _:
            return _rotate(keys, options, now)


def _create(settings: ServerSettings, options: argparse.Namespace, now: int) -> int:
    keys = settings.database.keys
    earlier = keys.all()
    text, stored = _new(
        StoredKey(
            id="",
            owner=options.owner,
            name=options.name,
            hash=b"",
            scopes=frozenset(options.scopes or DEFAULT_SCOPES),
            created_at=now,
            expires_at=options.expires,
            limits=KeyLimits(options.rpm, options.tpm),
        )
    )
    keys.add(stored)
    print_line(text)
    until = "" if stored.expires_at is None else f", until {_minute(stored.expires_at)}"
    print_error(f"created the key {stored.id} of `{stored.owner}` for {_scopes(stored)}{until}")
    print_error("save the key now: it is not shown again")
    if not earlier and not settings.api_keys:
        print_error("the server was open; from now on, every API request needs a key")
    before = {*settings.api_keys.values(), *(key.owner for key in earlier)}
    if len(before) == 1 and stored.owner not in before:
        print_error(
            "restart the server once, so that it shares its capacity between the owners: this is the second owner"
        )
    return 0


def _new(template: StoredKey) -> tuple[str, StoredKey]:
    text = new_key()
    id = key_id(text)
    assert id is not None, "a new key has an id"
    return text, replace(template, id=id, hash=hash_key(text.encode()))


def _revoke(keys: KeyAdministration, ids: Sequence[str], now: int) -> int:
    there = {key.id: key for key in keys.all()}
    if unknown := [id for id in ids if id not in there]:
        raise ThreadholdError(
            f"There is no key {unknown[0]}; `threadhold keys list` lists all keys. Nothing was revoked."
        )
    for id in dict.fromkeys(ids):
        if there[id].state(now) == "revoked":
            print_line(f"the key {id} of `{there[id].owner}` was already revoked")
            continue
        keys.revoke(id, now)
        print_line(f"revoked the key {id} of `{there[id].owner}`; running servers refuse it within a second")
    return 0


def _rotate(keys: KeyAdministration, options: argparse.Namespace, now: int) -> int:
    old = next((key for key in keys.all() if key.id == options.key), None)
    if old is None:
        raise ThreadholdError(f"There is no key {options.key}; `threadhold keys list` lists all keys.")
    if (state := old.state(now)) == "revoked" or old.revoked_at is not None:
        when = "is revoked" if state == "revoked" else "was already rotated"
        raise ThreadholdError(f"The key {old.id} {when}. Create a new one with `threadhold keys create`.")
    expires_at = options.expires if options.expires is not None else old.expires_at
    if expires_at is not None and expires_at <= now:
        raise ThreadholdError(f"The key {old.id} has expired, so the new key would be expired, too. Use --expires.")
    text, new = _new(replace(old, created_at=now, expires_at=expires_at, last_used_at=None))
    revoked_at = now + int(options.grace or 0)
    keys.revoke(old.id, revoked_at, replacement=new)
    print_line(text)
    print_error(f"created the key {new.id} of `{new.owner}` for {_scopes(new)}")
    print_error("save the key now: it is not shown again")
    valid = f"remains valid until {_minute(revoked_at)}" if options.grace else "is revoked"
    print_error(f"the key {old.id} {valid}")
    return 0


def _list(keys: KeyAdministration, *, owner: str | None, as_json: bool, now: int) -> int:
    shown = [key for key in keys.all() if owner is None or key.owner == owner]
    if as_json:
        for key in shown:
            print_line(json.dumps(_object(key, now), ensure_ascii=False))
    elif shown:
        print_table(_HEAD, [_row(key, now) for key in shown])
    else:
        print_error("there are no stored keys" if owner is None else f"there are no stored keys of `{owner}`")
    return 0


def _row(key: StoredKey, now: int) -> tuple[str, ...]:
    state: str = key.state(now)
    if state == "active" and key.revoked_at is not None:
        state = f"active until {_minute(key.revoked_at)}"
    limits = [f"{most} {unit}" for most, unit in ((key.limits.requests, "rpm"), (key.limits.tokens, "tpm")) if most]
    times = (_minute(key.created_at), _minute(key.expires_at, "never"), _minute(key.last_used_at, "never"))
    return key.id, key.owner, key.name or "-", _scopes(key), " ".join(limits) or "-", *times, state


def _object(key: StoredKey, now: int) -> dict[str, object]:
    return {
        "id": key.id,
        "owner": key.owner,
        "name": key.name,
        "scopes": _scopes(key).split(","),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "requests_per_minute": key.limits.requests,
        "tokens_per_minute": key.limits.tokens,
        "state": key.state(now),
    }


def _scopes(key: StoredKey) -> str:
    return ",".join(scope for scope in SCOPES if scope in key.scopes)


def _minute(at: int | None, instead: str = "") -> str:
    return instead if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
