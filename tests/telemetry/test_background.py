"""Unexpected errors of background tasks end neither other tasks nor the server."""

import asyncio
import logging

import pytest

from telemetry.background import log_errors, restart_on_error


async def test_an_error_ends_only_its_task(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise TypeError("a defect")

    done = asyncio.Event()

    async def finish() -> None:
        await asyncio.sleep(0.01)
        done.set()

    with caplog.at_level(logging.ERROR, "threadhold"):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log_errors("the first task", fail))
            tasks.create_task(log_errors("the second task", finish))
    assert done.is_set()
    assert [record.getMessage() for record in caplog.records] == ["the first task failed unexpectedly"]
    assert "a defect" in caplog.text


async def test_a_task_that_is_cancelled_before_it_starts_leaves_nothing() -> None:
    async def work() -> None:
        raise AssertionError("it was cancelled")

    task = asyncio.create_task(log_errors("the task", work))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_background_work_starts_again_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    starts = []

    async def work() -> None:
        starts.append(len(starts))
        if len(starts) < 3:
            raise TypeError("a defect")

    with caplog.at_level(logging.ERROR, "threadhold"):
        await restart_on_error(work, retry_s=0.01)
    assert starts == [0, 1, 2]
    assert len(caplog.records) == 2


async def test_background_work_can_be_cancelled_while_it_waits() -> None:
    async def work() -> None:
        raise TypeError("a defect")

    task = asyncio.create_task(restart_on_error(work, retry_s=60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_a_failed_task_ends_after_its_pause() -> None:
    async def fail() -> None:
        raise TypeError("a defect")

    since = asyncio.get_running_loop().time()
    await log_errors("the task", fail, pause_s=0.05)
    assert asyncio.get_running_loop().time() - since >= 0.05
