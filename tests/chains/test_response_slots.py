"""Large answers of upstreams take fair scheduling by owner, from their first 256 KB until they are passed on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from chains import ModelRouter, OpenAIBackend, RoutedUpstream, Upstream
from chains.embedding_router import EmbeddingRouter
from chains.forwarding import CHAT, EMBEDDINGS
from chains.response_slots import LARGE_BYTES
from chains.upstream_response import UpstreamResponse
from telemetry.context import set_current_owner
from tests.chains.conftest import Connect
from tests.upstream import Raw, ScriptedUpstream
from wire.embeddings import EmbeddingCreate
from wire.errors import UpstreamProblem

BODY = {"model": "test-model", "messages": [{"role": "user", "content": "hi"}]}
SMALL = orjson.dumps({"data": []})
LARGE = orjson.dumps({"data": "A" * 2 * LARGE_BYTES})
ALONE = 2
"""Large answers that one owner has at the same time if no other owner has any."""

Asks = Callable[..., "list[asyncio.Task[UpstreamResponse]]"]


@pytest.fixture
async def asks(up: ScriptedUpstream, connect: Connect) -> AsyncIterator[Asks]:
    """Ask an upstream for several answers at the same time, as an owner."""
    upstream = await connect(up.url)
    tasks: list[asyncio.Task[UpstreamResponse]] = []

    async def one(owner: str, path: str) -> UpstreamResponse:
        set_current_owner(owner)
        return await upstream.pass_through(BODY, path)

    def ask(
        answer: Raw, count: int = 1, owner: str = "ann", path: str = EMBEDDINGS
    ) -> "list[asyncio.Task[UpstreamResponse]]":
        up.raw["/v1" + path] = answer
        if path == CHAT:
            up.script(*[answer] * count)
        created = [asyncio.create_task(one(owner, path)) for _ in range(count)]
        tasks.extend(created)
        return created

    yield ask
    for task in tasks:
        task.cancel()
    for response in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(response, UpstreamResponse):
            response.close()


def answer(body: bytes, *, then: Any = "end") -> Raw:
    return Raw([body], content_type="application/json", then=then)


async def read(tasks: "list[asyncio.Task[UpstreamResponse]]", count: int) -> "list[asyncio.Task[UpstreamResponse]]":
    """Wait until `count` answers are read, and check that no more are."""
    async with asyncio.timeout(10):
        while sum(task.done() for task in tasks) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    done = [task for task in tasks if task.done()]
    assert len(done) == count
    return done


@pytest.mark.parametrize("path", [EMBEDDINGS, CHAT, "/completions", "/images/generations"])
async def test_one_owner_holds_few_large_answers(asks: Asks, path: str) -> None:
    tasks = asks(answer(LARGE), 6, path=path)
    held = await read(tasks, ALONE)
    held[0].result().close()
    await read(tasks, ALONE + 1)


async def test_small_answers_and_other_owners_do_not_wait(asks: Asks) -> None:
    await read(asks(answer(LARGE), 6), ALONE)
    await read(asks(answer(SMALL), 6), 6)
    await read(asks(answer(LARGE), 1, owner="bob"), 1)


async def test_a_cancelled_wait_takes_no_turn(asks: Asks) -> None:
    tasks = asks(answer(LARGE), ALONE + 2)
    held = await read(tasks, ALONE)
    waiting = next(task for task in tasks if task not in held)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held[0].result().close()
    await read(tasks, ALONE + 2)


async def test_a_lost_answer_gives_up_its_turn(up: ScriptedUpstream, connect: Connect) -> None:
    up.raw["/v1/embeddings"] = answer(LARGE)
    upstream = await connect(up.url)
    async with asyncio.timeout(10):
        for _ in range(ALONE + 2):
            await upstream.pass_through(BODY, EMBEDDINGS)


@pytest.mark.parametrize("then", ["drop", "hang"])
async def test_a_broken_large_answer_gives_up_its_turn(asks: Asks, then: str) -> None:
    broken = asks(answer(LARGE, then=then), ALONE)
    await asyncio.sleep(0.3)
    if then == "hang":
        for task in broken:
            task.cancel()
    failed = await asyncio.gather(*broken, return_exceptions=True)
    assert all(isinstance(one, UpstreamProblem | asyncio.CancelledError) for one in failed)
    await read(asks(answer(LARGE), ALONE), ALONE)


async def embedded(router: EmbeddingRouter, owner: str, texts: int) -> int:
    set_current_owner(owner)
    request = EmbeddingCreate.model_validate({"model": "test-model", "input": ["x"] * texts})
    return (await router.answer(request, owner)).status


def router_to(upstream: Upstream) -> EmbeddingRouter:
    return EmbeddingRouter(ModelRouter([RoutedUpstream("", upstream, OpenAIBackend(upstream))]), None)


async def test_large_embeddings_all_arrive_in_turn(up: ScriptedUpstream, connect: Connect) -> None:
    vector = [0.1234567890123456] * 3_072
    up.extra["/v1/embeddings"] = lambda body: {"data": [{"index": 0, "embedding": vector} for _ in body["input"]]}
    router = router_to(await connect(up.url))
    async with asyncio.timeout(20):
        assert await asyncio.gather(*[embedded(router, "ann", 12) for _ in range(9)]) == [200] * 9


async def test_one_owner_sends_few_concurrent_requests_for_embeddings(up: ScriptedUpstream, connect: Connect) -> None:
    up.raw["/v1/embeddings"] = Raw([b"{"], content_type="application/json", then="hang")
    router = router_to(await connect(up.url))
    asked = [asyncio.create_task(embedded(router, "ann", 1)) for _ in range(60)]
    await asyncio.sleep(1)
    assert len(up.raw_seen) == 40
    other = asyncio.create_task(embedded(router, "bob", 1))
    await asyncio.sleep(0.5)
    assert len(up.raw_seen) == 41
    for task in (*asked, other):
        task.cancel()
    await asyncio.gather(*asked, other, return_exceptions=True)
