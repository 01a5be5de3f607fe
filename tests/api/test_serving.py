"""The server's start and end around the app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from api.connection_limit import limit_connections
from api.serving import open_port, serve


def test_one_task_opens_and_closes_the_app() -> None:
    tasks: list[asyncio.Task[object] | None] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks.append(asyncio.current_task())
        try:
            yield
        finally:
            tasks.append(asyncio.current_task())

    def stop(_: FastAPI) -> None:
        raise ValueError("no address to announce")

    with open_port("127.0.0.1", 0) as listening, pytest.raises(ValueError, match="no address to announce"):
        limit = limit_connections(10)
        serve(lambda: FastAPI(lifespan=lifespan), listening, connection_limit=limit, drain_s=0, version="1", ready=stop)
    opened, closed = tasks
    assert opened is closed is not None


def test_an_app_whose_task_fails_ends_the_server() -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def fail() -> None:
            raise ValueError("a defect in a task of the app")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            yield

    with open_port("127.0.0.1", 0) as listening, pytest.raises(ExceptionGroup) as caught:
        limit = limit_connections(10)
        serve(
            lambda: FastAPI(lifespan=lifespan),
            listening,
            connection_limit=limit,
            drain_s=0,
            version="1",
            ready=lambda _: None,
        )
    assert caught.group_contains(ValueError, match="a defect")
