"""Usage is added to the sum of its day, in the commit of its change."""

import pytest

from store.backend import open_backend
from store.ports import DAY_S, CountUsage, Insert, Patch, UsageRow
from tests.store.rows import run, thread
from wire.errors import StatusConflict

DAY = 20_000 * DAY_S


async def test_usage_is_summed_by_day_owner_model_kind_and_key() -> None:
    async with open_backend(":memory:") as backend:
        one = CountUsage("ann", DAY, "m", "run", 1, 10, 5, 2)
        same = CountUsage("ann", DAY + DAY_S - 1, "m", "run", 2, 100, 50, 20)
        others = [
            CountUsage("ann", DAY + DAY_S, "m", "run", 1, 1, 1),
            CountUsage("bob", DAY, "m", "run", 1, 1, 1),
            CountUsage("ann", DAY, "n", "run", 1, 1, 1),
            CountUsage("ann", DAY, "m", "chat", 1, 1, 1),
            CountUsage("ann", DAY, "m", "run", 1, 1, 1, key_id="th-1"),
        ]
        for change in (one, same, *others):
            backend.records.commit([change], durable=False)
        rows = await backend.usage.usage(DAY, DAY + 2 * DAY_S)
        assert len(rows) == 6
        assert UsageRow(DAY, "ann", "m", "run", "", 3, 110, 22, 55) in rows
        assert [row.day for row in await backend.usage.usage(DAY + DAY_S, DAY + 2 * DAY_S)] == [DAY + DAY_S]


async def test_a_refused_commit_counts_nothing() -> None:
    async with open_backend(":memory:") as backend:
        of = thread()
        r = run(of, "completed")
        await backend.records.commit([Insert(of), Insert(r)], durable=False)
        usage = CountUsage("ann", DAY, "m", "run", 1, 10, 5)
        end = Patch("run", r.id, "ann", {"status": "failed"}, only_if=frozenset({"in_progress"}))
        with pytest.raises(StatusConflict):
            await backend.records.commit([usage, end], durable=True)
        assert await backend.usage.usage(0, DAY + DAY_S) == []
