"""`threadhold import`: threads and assistants of a dump, under their own ids and times, into a store without a server.

Laws: nothing is written before the whole file was read and checked; a conversation is one commit, so that killing it
leaves whole ones only; what is there already stays as it is, so that a second import does what the first left undone.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ops.conversations import Survey, assistant_row, items, rows_of, survey
from ops.dump import Dump, open_dump
from ops.owners import owner_of_import
from ops.parts import Configured
from ops.progress import progress
from store import SqliteStore, open_store
from store.beside import in_use
from store.ports import Insert, Row
from wire.errors import StoreError, StoreFailed

if TYPE_CHECKING:
    from store.beside import Watch

__all__ = ["run_import"]

_TOLD: Final = 20
_AT_ONCE: Final = 32
"""Conversations that are written together, so that they share a transaction."""


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
        if found.refusals and not skip_refused:
            print(
                "threadhold: nothing was imported; mend these, or leave them out with --skip-refused", file=sys.stderr
            )
            return 1
        if dry_run:
            messages = sum(each.messages for each in found.conversations)
            print(
                f"would import {len(found.conversations)} threads with {messages} messages and "
                f"{len(found.assistants)} assistants for {whose}, as far as they are not there; nothing was written"
            )
            return 0
        done, failed = asyncio.run(_bring_over(settings, dump, found, whose, now=now, watch=watch))
    there = f", {done['there']} were there already and stayed as they were" if done["there"] else ""
    print(
        f"imported {done['thread']} threads with {done['message']} messages and {done['run']} runs, and "
        f"{done['assistant']} assistants for {whose}{there}"
    )
    for why in failed:
        print(f"threadhold: left out: {why}", file=sys.stderr)
    return 1 if failed else 0


def _tell_refusals(found: Survey, unit: str) -> None:
    for refusal in found.refusals[:_TOLD]:
        print(f"threadhold: {unit} {refusal.number}: {refusal.why}", file=sys.stderr)
    if len(found.refusals) > _TOLD:
        print(f"threadhold: and {len(found.refusals) - _TOLD} more", file=sys.stderr)


async def _bring_over(
    settings: Configured, dump: Dump, found: Survey, owner: str, *, now: int, watch: "Watch"
) -> tuple[Counter[str], list[str]]:
    """Write what is not there; returns how many of each kind were, and why others were not."""
    done: Counter[str] = Counter()
    failed: list[str] = []
    store = await open_store(settings.database)
    try:
        every = (item for entry in found.assistants for item in items(dump.read(entry)))
        assistants = [assistant_row(data, owner, now=now) for kind, data in every if kind == "assistant"]
        assistants.sort(key=lambda row: int(row.body["created_at"]))
        await _write(store, [[row] for row in assistants], done, failed)
        for start in range(0, len(found.conversations), _AT_ONCE):
            some = found.conversations[start : start + _AT_ONCE]
            await _write(store, [rows_of(each, dump, owner, now=now) for each in some], done, failed)
            watch("importing", start + len(some), len(found.conversations))
        await store.commit([], durable=True)  # all of them are on disk then
    finally:
        await store.close()
    return done, failed


async def _write(store: SqliteStore, groups: Sequence[list[Row]], done: Counter[str], failed: list[str]) -> None:
    there = await asyncio.gather(*(store.get(rows[0].kind, rows[0].id, rows[0].owner) for rows in groups))
    new = [rows for rows, known in zip(groups, there, strict=True) if known is None]
    done["there"] += len(groups) - len(new)
    commits = [store.commit([Insert(row) for row in rows], durable=False) for rows in new]
    for rows, outcome in zip(new, await asyncio.gather(*commits, return_exceptions=True), strict=True):
        match outcome:
            case StoreFailed():  # which would go on for all that come
                raise outcome
            case StoreError():
                failed.append(f"{rows[0].id}: {outcome.message}")
            case BaseException():
                raise outcome
            case _:
                done.update(row.kind for row in rows)
