"""The real engine under crashes, hangs and load: only its current requests fail, and owners are scheduled fairly."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chains import Builtin, CallLimits, EngineConfig, OpenAIBackend, ReplyCall
from telemetry.context import set_current_owner
from tests.chains.test_builtin import busy_slots, children, eventually
from wire.errors import InvalidRequest, PromptRefused, RateLimited, TooManyRequests, UpstreamFailed, UpstreamProblem

pytestmark = [pytest.mark.timeout(270), pytest.mark.xdist_group("engine")]

ASK = [{"role": "user", "content": "Say hello."}]
LONG = "word " * 300 + "Say hello."
"""Takes the engine so long that a test sees it busy, and can end it before an answer begins."""


@contextlib.asynccontextmanager
async def opened(*, parallel: int = 2, idle_s: float = 60.0, is_shared: bool = False) -> AsyncIterator[Builtin]:
    config = EngineConfig(context_size=1024, parallel=parallel, threads=1, max_reply_tokens=16)
    builtin = Builtin(None, config=config, limits=CallLimits(idle_s=idle_s), is_shared=is_shared)
    await builtin.open()
    try:
        yield builtin
    finally:
        await builtin.close()


async def busy(builtin: Builtin, count: int) -> None:
    upstream = await builtin.load_upstream("")

    async def are_busy() -> bool:
        return await busy_slots(upstream) == count

    await eventually(20, are_busy)


async def crash(builtin: Builtin, by: signal.Signals = signal.SIGSEGV) -> None:
    """End the engine's process, and wait until its end is detected."""
    before = builtin.engine_ends.total()
    os.kill(children()[-1], by)

    async def is_noticed() -> bool:
        return builtin.engine_ends.total() > before

    await eventually(10, is_noticed)


async def finished(builtin: Builtin, text: str, **fields: Any) -> bool:
    """Send a request as a run does, and return whether the answer is complete."""
    call = ReplyCall(model="", messages=[HumanMessage(text)], max_tokens=8, **fields)
    chunks = [chunk async for chunk in OpenAIBackend(builtin).stream(call)]
    return any(chunk.response_metadata.get("finish_reason") for chunk in chunks)


async def test_a_crash_fails_no_run_that_has_shown_nothing() -> None:
    async with opened() as builtin:
        await builtin.load_upstream("")
        runs = [asyncio.create_task(finished(builtin, f"{LONG}{number}")) for number in range(3)]
        await busy(builtin, 2)
        await crash(builtin)
        assert all(await asyncio.gather(*runs))
        assert builtin.engine_ends == {("crashed",): 1}


@pytest.mark.soak
async def test_a_run_whose_engine_crashes_twice_fails_with_a_message() -> None:
    async with opened() as builtin:
        await builtin.load_upstream("")
        run = asyncio.create_task(finished(builtin, LONG))
        for _ in range(2):
            await busy(builtin, 1)
            await crash(builtin)
        with pytest.raises(UpstreamFailed, match=r"engine ended while it ran .*exit code -11"):
            await run
        assert await finished(builtin, "Say hello.")
        assert builtin.engine_ends == {("crashed",): 2}


async def ask_as(owner: str, builtin: Builtin, way: str, text: str = "Say hello.") -> None:
    set_current_owner(owner)
    if way == "run":
        await finished(builtin, text)
        return
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "stream": way == "stream"}
    (await builtin.pass_through(body)).close()


async def crash_under(builtin: Builtin, requests: int) -> None:
    await busy(builtin, requests)
    await crash(builtin)


@pytest.mark.parametrize("way", ["run", pytest.param("whole", marks=pytest.mark.soak)])
async def test_an_owner_whose_request_ends_the_engine_twice_is_suspended(way: str) -> None:
    async with opened(is_shared=True) as builtin:
        await builtin.load_upstream("")
        asked = asyncio.create_task(ask_as("alice", builtin, way, LONG))
        for _ in range(2):
            await crash_under(builtin, 1)
        with pytest.raises((UpstreamFailed, UpstreamProblem), match="engine ended"):
            await asked
        with pytest.raises(RateLimited, match=r"again in \d+ s"):
            await asyncio.create_task(ask_as("alice", builtin, "run"))
        with pytest.raises(TooManyRequests, match=r"again in \d+ s") as refused:
            await asyncio.create_task(ask_as("alice", builtin, "whole"))
        assert 0 < int(refused.value.headers["Retry-After"]) <= 60
        for each in ("run", "whole", "stream"):
            await asyncio.create_task(ask_as("bob", builtin, each))
        assert builtin.engine_ends == {("crashed",): 2}


@pytest.mark.soak
async def test_waiting_requests_of_a_suspended_owner_do_not_reach_the_engine() -> None:
    async with opened(parallel=1, is_shared=True) as builtin:
        await builtin.load_upstream("")
        asked = [asyncio.create_task(ask_as("alice", builtin, "run", f"{LONG}{n}")) for n in range(5)]
        together = asyncio.gather(*asked, return_exceptions=True)
        while not together.done():
            attempt = asyncio.create_task(crash_under(builtin, 1))
            await asyncio.wait([together, attempt], return_when=asyncio.FIRST_COMPLETED)
            attempt.cancel()
        await asyncio.create_task(ask_as("bob", builtin, "run"))
        kinds = sorted(type(error).__name__ for error in together.result())
        assert kinds == ["EngineEnded", *["OwnerSuspended"] * 4]
        assert builtin.engine_ends.total() <= 3, "the first request, perhaps the next one, and a retry of one of them"


@pytest.mark.soak
async def test_an_end_under_two_owners_suspends_neither() -> None:
    async with opened(parallel=3, is_shared=True) as builtin:
        await builtin.load_upstream("")
        os.kill(children()[-1], signal.SIGSTOP)  # so that both are in progress when it ends
        asked = [asyncio.create_task(ask_as(owner, builtin, "run")) for owner in ("alice", "bob")]
        await asyncio.sleep(0.5)
        await crash(builtin, signal.SIGKILL)
        await asyncio.gather(*asked)
        for owner in ("alice", "bob"):
            await asyncio.create_task(ask_as(owner, builtin, "whole"))


@pytest.mark.soak
async def test_a_single_owner_is_not_suspended() -> None:
    async with opened() as builtin:
        await builtin.load_upstream("")
        asked = asyncio.create_task(ask_as("alice", builtin, "whole", LONG))
        for _ in range(2):
            await crash_under(builtin, 1)
        with pytest.raises(UpstreamProblem, match="engine ended"):
            await asked
        await asyncio.create_task(ask_as("alice", builtin, "whole"))


@pytest.mark.soak
async def test_concurrent_retries_keep_their_slots() -> None:
    async with opened(parallel=3, is_shared=True) as builtin:
        await builtin.load_upstream("")
        os.kill(children()[-1], signal.SIGSTOP)  # so that nothing is shown before the crash
        long = {"messages": ASK, "max_tokens": 900, "ignore_eos": True, "stream": True}
        both = asyncio.create_task(builtin.pass_through({**long, "n": 2}))
        await asyncio.sleep(0.3)
        await crash(builtin, signal.SIGKILL)
        response = await both
        third = asyncio.create_task(builtin.pass_through({"messages": ASK, "max_tokens": 1}))
        await asyncio.sleep(1)
        assert not third.done()
        response.close()
        assert (await third).status == 200


@pytest.mark.soak
async def test_a_hanging_engine_is_ended_and_its_work_repeated() -> None:
    async with opened(idle_s=8) as builtin:
        await builtin.load_upstream("")
        asked = asyncio.create_task(finished(builtin, LONG))
        await busy(builtin, 1)
        os.kill(children()[-1], signal.SIGSTOP)
        assert await asked
        assert builtin.engine_ends == {("stuck",): 1}


@pytest.mark.soak
async def test_requests_that_can_hang_the_engine_are_not_retried() -> None:
    async with opened(idle_s=8) as builtin:
        await builtin.load_upstream("")
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        asked = asyncio.create_task(finished(builtin, LONG, response_format=wanted))
        await busy(builtin, 1)
        os.kill(children()[-1], signal.SIGSTOP)
        with pytest.raises(UpstreamFailed, match="and was ended"):
            await asked
        assert builtin.engine_ends == {("stuck",): 1}


async def test_one_owner_s_requests_do_not_delay_another_s() -> None:
    async with opened(parallel=1) as builtin:
        await builtin.load_upstream("")
        ended: list[str] = []

        async def ask(owner: str, *, client: bool) -> None:
            set_current_owner(owner)
            if client:
                await builtin.pass_through({"messages": ASK, "max_tokens": 4})
            else:
                await finished(builtin, "Say hello.")
            ended.append(owner)

        async with asyncio.TaskGroup() as group:
            for index in range(8):
                group.create_task(ask("alice", client=index % 2 == 0))
            await asyncio.sleep(0.05)
            group.create_task(ask("bob", client=True))
            group.create_task(ask("carol", client=False))
        assert {"bob", "carol"} <= set(ended[:5])


COSTLY = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": list(range(30_000))}}}


async def test_a_costly_schema_is_refused_in_runs_and_for_clients() -> None:
    async with opened() as builtin:
        with pytest.raises(PromptRefused, match=r"enum values: 30000; at most 2000"):
            await finished(builtin, "Say hello.", response_format=COSTLY)
        with pytest.raises(InvalidRequest, match=r"enum values: 30000; at most 2000"):
            await builtin.pass_through({"messages": ASK, "response_format": COSTLY})


TEXT = {"type": "string"}
CRASHING: dict[str, Any] = {
    "open": {"properties": {"n" * 59_000: TEXT}, "additionalProperties": TEXT},
    "open to all": {"properties": {"n" * 59_000: TEXT}, "additionalProperties": {}},
    "closed, no letters": {"properties": {"_" * 59_000: TEXT}},
    "required, no ASCII": {"properties": {"é" * 30_000: TEXT}, "required": ["é" * 30_000]},
    "inside additionalProperties": {"additionalProperties": {"properties": {"_" * 59_000: TEXT}}},
}


async def test_names_that_crash_llama_cpp_are_refused() -> None:
    async with opened() as builtin:
        for schema in CRASHING.values():
            wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", **schema}}}
            with pytest.raises(InvalidRequest, match=r"characters; at most 256 are allowed"):
                await builtin.pass_through({"messages": ASK, "response_format": wanted})
            tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
            assert (await builtin.pass_through({"messages": ASK, "max_tokens": 1})).status == 200
            with pytest.raises(InvalidRequest, match=r"function 'f': .*at most 256"):
                await builtin.pass_through({"messages": ASK, "tools": [tool]})
        assert not builtin.engine_ends


@pytest.mark.soak
async def test_the_longest_names_do_not_crash_llama_cpp() -> None:
    inner: dict[str, Any] = TEXT
    for _ in range(8):
        properties = {"_" * 256: inner, "a" * 256: TEXT, "b" * 256: TEXT}
        inner = {"type": "object", "properties": properties, "additionalProperties": TEXT}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": inner}}
    async with opened() as builtin:
        response = await builtin.pass_through({"messages": ASK, "max_tokens": 2, "response_format": wanted})
        assert response.status == 200
        assert not builtin.engine_ends


@pytest.mark.parametrize("fields", [{"prompt": ["One,", "Two,", "Three,"]}, {"prompt": "One,", "n": 2}], ids=["3", "n"])
async def test_parallel_completions_release_their_slots(fields: dict[str, Any]) -> None:
    async with opened() as builtin:
        for _ in range(3):
            response = await builtin.pass_through({**fields, "max_tokens": 2}, "/completions")
            assert response.status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_readers_that_leave_give_their_slots_back(stream: bool) -> None:
    async with opened(parallel=1) as builtin:
        await builtin.load_upstream("")
        for _ in range(2):
            asked = asyncio.create_task(builtin.pass_through({"messages": ASK, "stream": stream}))
            if stream:
                (await asked).close()
            else:
                await asyncio.sleep(0.1)
                asked.cancel()
        response = await asyncio.wait_for(builtin.pass_through({"messages": ASK, "max_tokens": 1}), 20)
        assert response.status == 200
