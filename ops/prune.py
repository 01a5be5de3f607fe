"""`threadhold prune`: deletes threads that have not been used for a long time, while no server runs.

With RETENTION_DAYS, a running server prunes in the background.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from graphs.retention import DAY_S, Pruned, prune
from ops.parts import Configured
from ops.progress import progress
from ops.terminal import say
from store import open_store
from store.sqlite.ballast import BALLAST_BYTES
from store.sqlite.compaction import compact
from store.sqlite.offline import in_use, open_beside, snapshot
from store.sqlite.thread_ages import SqliteAges, idleness
from wire.errors import StoreFailed, ThreadholdError

__all__ = ["run_prune"]

_PAGE: Final = 1000


def run_prune(settings: Configured, *, older_s: float | None, dry_run: bool, shrink: bool) -> int:
    """Delete threads last used more than `older_s` seconds ago; None stands for RETENTION_DAYS.

    Raises ThreadholdError if neither is set, or if a server uses the store.
    """
    if older_s is None and not settings.retention_days:
        raise ThreadholdError("No age is given. Use --older-than, such as --older-than 30d, or set RETENTION_DAYS.")
    before = int(time.time() - (settings.retention_days * DAY_S if older_s is None else older_s))
    day = datetime.fromtimestamp(before, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if dry_run:
        say(f"would delete {_count(settings, before)} threads last used before {day}; nothing was changed")
        return 0
    if in_use(settings.database):
        raise StoreFailed(
            f"A server uses the database `{settings.database}`. Set RETENTION_DAYS to make it prune, or stop it, "
            "prune, and start it again. --dry-run only counts and works while the server runs."
        )
    with open_beside(
        settings.database, any_schema=True
    ) as store:  # raises if there is no database, which `open_store` would create
        total = store.execute("SELECT COUNT(*) FROM threads").fetchone()[0]
    done = asyncio.run(_prune(settings, before, total))
    kept = f"; {done.kept} are in use and were kept" if done.kept else ""
    say(f"deleted {done.threads} threads last used before {day}{kept}")
    if shrink:
        freed = compact(settings.database)
        say(f"the database file is {freed / 1e6:.1f} MB smaller")
    return 0


def _count(settings: Configured, before: int) -> int:
    count, after = 0, 0
    with open_beside(settings.database) as store, snapshot(store):
        while page := idleness(store, after, _PAGE):
            after = page[-1].seq
            count += sum(each.used_at < before for each in page)
    return count


async def _prune(settings: Configured, before: int, total: int) -> Pruned:
    store = await open_store(settings.database, reserve_bytes=BALLAST_BYTES)
    try:
        with progress() as watch:
            return await prune(
                store,
                SqliteAges(store.engine),
                before=before,
                pause_s=0,
                watch=lambda looked: watch("threads", looked, total),
            )
    finally:
        await store.close()
