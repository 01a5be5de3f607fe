"""Commits of other processes wake subscribers."""

import asyncio
from typing import Any

import pytest

from store.ports import Notify
from tests.store.processes.conftest import Pair


@pytest.mark.parametrize("topic", ["runs", "files"])
async def test_commits_of_other_processes_wake_subscribers(pair: Pair, topic: Any) -> None:
    a, b = pair
    woken = asyncio.Event()
    b.processes.notifications.subscribe(topic, woken.set)
    await a.records.commit([Notify(topic)], durable=True)
    await asyncio.wait_for(woken.wait(), 5)
