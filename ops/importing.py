"""`threadhold import`: threads and assistants of a dump, under their own ids and times, into a store without a server.

Laws: nothing is written before the whole file was read and checked; a conversation is one commit, so that killing it
leaves whole ones only; what is there already stays as it is, so that a second import does what the first left undone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ops.conversations import Survey, assistant_rows, rows_of, survey
from ops.dump import Dump, open_dump
from ops.owners import owner_of_import
from ops.parts import Configured
from ops.progress import progress
from ops.terminal import complain, say
from store import SqliteStore, open_store
from store.ports import Insert, Row
from store.sqlite.ballast import BALLAST_BYTES
from store.sqlite.offline import in_use
from wire.errors import StoreError, StoreFailed

if TYPE_CHECKING:
    from store.sqlite.offline import Watch

__all__ = ["run_import"]

_TOLD: Final = 20
_AT_ONCE: Final = 32
"""Conversations that are written together, so that they share a transaction."""


@dataclass(slots=True)
class _Outcome:
    """How many rows of each kind were written, and how many groups were `there`; the assistants among them; and why
    others could not be."""

    done: Counter[str] = field(default_factory=Counter)
    assistant_ids: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)


def run_import(settings: Configured, source: str, *, owner: str | None, skip_refused: bool, dry_run: bool) -> int:
    """Bring a dump over; returns the exit code. Raises ThreadholdError, OSError."""
    whose = owner_of_import(owner, settings.api_keys)
    now = int(time.time())
    if not dry_run and in_use(settings.database):
        raise StoreFailed(
            f"A server has the database `{settings.database}`: stop it, import, and start it again; --dry-run reads "
            "the file beside it."
        )
    with open_dump(source) as dump, progress() as watch:
        found = survey(dump, now=now, watch=watch)
        _tell_refusals(found, dump.unit)
        _tell_pages(found, dump.unit)
        lacking = f"; {len(found.pages)} listings lack what came after their page" if found.pages else ""
        if found.refusals and not skip_refused:
            complain("nothing was imported; correct these, or leave them out with --skip-refused")
            return 1
        if not found.conversations and not found.assistants:
            why = "all of it was refused" if found.refusals else "no thread, message, run, step or assistant is in it"
            complain(f"there is nothing to import in `{source}`: {why}")
            return 1
        if dry_run:
            messages = sum(each.messages for each in found.conversations)
            assistants = sum(map(len, found.assistants.values()))
            say(
                f"would import {len(found.conversations)} threads with {messages} messages and "
                f"{assistants} assistants for {whose}, as far as they are not there; nothing was written{lacking}"
            )
            _tell_keyless(found.keyless, "would have")
            return 0
        outcome = asyncio.run(_bring_over(settings, dump, found, whose, now=now, watch=watch))
    done = outcome.done
    there = f", {done['there']} were there already and stayed as they were" if done["there"] else ""
    say(
        f"imported {done['thread']} threads with {done['message']} messages and {done['run']} runs, and "
        f"{done['assistant']} assistants for {whose}{there}{lacking}"
    )
    _tell_keyless({id: lacking for id, lacking in found.keyless.items() if id in outcome.assistant_ids}, "have")
    for why in outcome.failed:
        complain(f"left out: {why}")
    return 1 if outcome.failed else 0


def _tell_refusals(found: Survey, unit: str) -> None:
    for refusal in found.refusals[:_TOLD]:
        complain(f"{unit} {refusal.number}: {refusal.why}")
    if len(found.refusals) > _TOLD:
        complain(f"and {len(found.refusals) - _TOLD} more")


def _tell_pages(found: Survey, unit: str) -> None:
    for page in found.pages[:_TOLD]:
        where = "the file" if page.number is None else f"{unit} {page.number}"
        where += f": {page.place}" if page.place else ""
        complain(f"{where}: `has_more` is true: only this page is here, others are missing")
    if len(found.pages) > _TOLD:
        complain(f"and {len(found.pages) - _TOLD} more such pages")


def _tell_keyless(keyless: Mapping[str, Mapping[int, Sequence[str]]], have: str) -> None:
    """Name every action that came without its keys: who has to give them back needs all of them."""
    if not keyless:
        return
    count = sum(map(len, keyless.values()))
    complain(
        f"{count} actions {have} no key, as a dump has none; they are called without until you give them "
        "theirs (POST /assistants/{assistant_id}):"
    )
    for id, lacking in keyless.items():
        told = ", ".join(f"tools[{index}] ({', '.join(names)})" for index, names in lacking.items())
        complain(f"  {id}: {told}")


async def _bring_over(
    settings: Configured, dump: Dump, found: Survey, owner: str, *, now: int, watch: "Watch"
) -> _Outcome:
    """Write what is not there."""
    outcome = _Outcome()
    store = await open_store(settings.database, reserve_bytes=BALLAST_BYTES)
    try:
        await store.tidy()  # a deleted thread can be imported again with its id
        assistants = assistant_rows(found, dump, owner, now=now)
        await _write(store, [[row] for row in assistants], outcome)
        for start in range(0, len(found.conversations), _AT_ONCE):
            some = found.conversations[start : start + _AT_ONCE]
            await _write(store, [rows_of(each, dump, owner, now=now) for each in some], outcome)
            watch("importing", start + len(some), len(found.conversations))
        await store.commit([], durable=True)  # all of them are on disk then
    finally:
        await store.close()
    return outcome


async def _write(store: SqliteStore, groups: Sequence[list[Row]], into: _Outcome) -> None:
    there = await asyncio.gather(*(store.get(rows[0].kind, rows[0].id, rows[0].owner) for rows in groups))
    new = [rows for rows, known in zip(groups, there, strict=True) if known is None]
    into.done["there"] += len(groups) - len(new)
    commits = [store.commit([Insert(row) for row in rows], durable=False) for rows in new]
    for rows, result in zip(new, await asyncio.gather(*commits, return_exceptions=True), strict=True):
        match result:
            case StoreFailed():  # which would go on for all that come
                raise result
            case StoreError():
                into.failed.append(f"{rows[0].id}: {result.message}")
            case BaseException():
                raise result
            case _:
                into.done.update(row.kind for row in rows)
                into.assistant_ids.update(row.id for row in rows if row.kind == "assistant")
