"""The memory of executing runs is limited per owner and in total; further runs wait, but none forever."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from graphs.admission import Admission, Limits, QueuedRun
from graphs.machine.exchange import NO_MEMORY
from graphs.run_memory import UNKNOWN_BYTES, exchange_memory, history_memory
from tests.graphs.harness import OWNER, TIME, Harness, harness, names, until
from tests.graphs.test_actions import action, outputs_in
from tests.graphs.test_runner import answer
from tests.graphs.tools.apis import Answer, Api
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream
from wire.runs import ThreadRunCreate
from wire.threads import ThreadCreate

MB = 1024 * 1024
TEN = Limits(memory_bytes=10 * MB, share=0.5)


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(value: str, annotations: int = 0) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": [{}] * annotations}}


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "minimum", "maximum"),
    [
        ([message(text("x" * MB))], 3 * MB, 5 * MB),
        ([message(text("\U0001f40b" * MB))], 15 * MB, 17 * MB),
        ([message(text("x" * MB + "\U0001f40b"))], 15 * MB, 17 * MB),
        ([message({"type": "refusal", "refusal": "x" * MB})], 3 * MB, 5 * MB),
        ([message({"type": "text", "text": "x" * MB})], 3 * MB, 5 * MB),
        ([message({"type": "image_url", "image_url": {"url": "data:" + "A" * MB}})], 2 * MB, 3 * MB),
        ([message(text("x"))] * 2_000, 4 * MB, 16 * MB),
        ([message(*[text("x")] * 10_000)], 4 * MB, 16 * MB),
        ([message(text("x", annotations=10_000))], 4 * MB, 16 * MB),
        ([message(text("hello"))], 1, 16 * 1024),
    ],
    ids=["ascii", "wide", "mixed", "refusal", "plain", "image", "messages", "parts", "annotations", "small"],
)
def test_a_history_counts_with_all_its_contents(messages: list[dict[str, Any]], minimum: int, maximum: int) -> None:
    assert minimum <= history_memory(messages) <= maximum
    for each in messages[:1]:
        for part in each["content"]:
            str(part).encode()  # a text's UTF-8 form, which is kept with it, does not count again
    assert minimum <= history_memory(messages) <= maximum


# --- whose turn it is -------------------------------------------------------------------------------------------------


def test_memory_is_limited_per_owner_and_in_total() -> None:
    admission = Admission(TEN)
    admission.admit("ann", memory=4 * MB)
    assert [admission.is_free("ann", memory=size * MB) for size in (1, 2)] == [True, False]
    admission.admit("bob", memory=5 * MB)
    assert [admission.is_free("eve", memory=size * MB) for size in (1, 2)] == [True, False]
    assert admission.is_free("eve"), "a run without memory was not allowed"
    admission.release("ann", memory=4 * MB)
    assert admission.is_free("eve", memory=5 * MB)


def test_a_run_larger_than_a_share_runs_alone() -> None:
    admission = Admission(TEN)
    assert admission.is_free("ann", memory=90 * MB)
    admission.admit("ann", memory=90 * MB)
    assert not admission.is_free("bob", memory=1)
    admission.release("ann", memory=90 * MB)
    admission.admit("bob", memory=1)
    assert not admission.is_free("ann", memory=90 * MB)
    admission.release("bob", memory=1)
    assert admission.is_free("ann", memory=90 * MB)


@pytest.mark.parametrize("sizes", [[90, 90, 90], [1, 90, 1], [6, 6, 6, 6], [0, 90, 0]], ids=str)
def test_every_queued_run_gets_its_turn(sizes: list[int]) -> None:
    admission = Admission(TEN)
    for number, size in enumerate(sizes):
        admission.enqueue(QueuedRun(f"run_{number}", f"owner{number % 2}", "thread_1", 1, memory=size * MB))
    order = []
    while (run := admission.admit_next()) is not None:
        order.append(run.run_id)
        admission.remove(run.run_id)
        admission.release(run.owner, run.weight, run.memory)
    assert len(order) == len(sizes)
    assert admission.is_free("ann", memory=5 * MB)
    assert admission.is_free("bob", memory=5 * MB)


def test_a_large_run_does_not_overtake_queued_runs() -> None:
    admission = Admission(TEN)
    admission.admit("ann", memory=4 * MB)
    admission.enqueue(QueuedRun("run_1", "ann", "thread_1", 1, memory=5 * MB))
    assert not admission.is_free("ann", memory=MB + 1)
    assert admission.is_free("ann", memory=MB)
    assert admission.is_free("bob", memory=2 * MB)


def test_a_run_smaller_than_expected_frees_memory() -> None:
    admission = Admission(TEN)
    for number in range(2):
        admission.enqueue(QueuedRun(f"run_{number}", "ann", "thread_1", 1, memory=UNKNOWN_BYTES))
    assert admission.admit_next() is not None
    assert admission.admit_next() is None, "two histories are read at a time"
    admission.resize("ann", MB - UNKNOWN_BYTES)
    assert admission.admit_next() is None, "the owner got more than a share"
    admission.resize("ann", -MB)
    assert admission.admit_next() is not None


# --- runs -------------------------------------------------------------------------------------------------------------


def is_free(w: Harness) -> bool:
    """Return whether no run holds memory."""
    return w.runner._execution.admission.has_memory(OWNER, 6 * MB)


async def started(w: Harness, kind: str, assistant: str) -> str:
    """Start a run that holds about 4 MB; return its status."""
    if kind == "new thread":
        thread = ThreadCreate(messages=[{"role": "user", "content": "x" * 250_000}] * 4)  # type: ignore[list-item]
        request = ThreadRunCreate(assistant_id=assistant, thread=thread)
        return str((await w.run(await w.runner.create_and_start(OWNER, request)))["status"])
    thread_id = await w.thread(*["x" * 250_000] * 4)
    return str((await w.run(await w.start(thread_id, assistant)))["status"])


@pytest.mark.parametrize("kind", ["thread", "new thread"])
async def test_runs_beyond_the_memory_limit_are_queued(upstream: ScriptedUpstream, kind: str) -> None:
    upstream.script(Hang())
    upstream.default = lambda _: Reply("Hi.")
    async with harness(upstream, limits=Limits(memory_bytes=6 * MB)) as w:
        assistant = await w.assistant()
        assert await started(w, kind, assistant) == "in_progress"
        await upstream.eventually(lambda up: len(up.requests) == 1)
        assert [await started(w, kind, assistant) for _ in range(2)] == ["queued"] * 2
        light = await w.start_run()
        assert names(await w.events(light.run_id))[-1] == "run.completed", "other runs do not continue"
        waiting = [run for run in await w.store.unfinished() if run.status == "queued"]
        active = [run for run in await w.store.unfinished() if run.status == "in_progress"]
        await w.runner.cancel(OWNER, active[0].thread_id, active[0].id)
        for run in waiting:
            assert names(await w.events(run.id))[-1] == "run.completed"
        await until(lambda: is_free(w))


async def test_starts_beyond_the_memory_limit_read_in_turn(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda _: Reply("Hi.")
    async with harness(upstream, limits=Limits(memory_bytes=6 * MB)) as w:
        assistant = await w.assistant()
        threads = [await w.thread(*["x" * 250_000] * 4) for _ in range(5)]
        async with asyncio.TaskGroup() as starts:
            runs = [starts.create_task(w.start(thread, assistant)) for thread in threads]
        for run in runs:
            assert names(await w.events(run.result().run_id))[-1] == "run.completed"
        await until(lambda: is_free(w))


async def test_a_waiting_run_holds_no_memory_until_it_continues(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Hang())
    upstream.default = lambda _: Reply("Hi.")
    async with harness(upstream, limits=Limits(memory_bytes=6 * MB)) as w:
        assistant = await w.assistant(tools=[TIME])
        first = await w.start(await w.thread(*["x" * 250_000] * 4), assistant)
        await w.events(first.run_id)
        await until(lambda: is_free(w))
        assert await started(w, "thread", assistant) == "in_progress"
        again = await answer(w, first, "noon")
        assert (await w.run(first))["status"] == "queued"
        other = next(run for run in await w.store.unfinished() if run.status == "in_progress")
        await w.runner.cancel(OWNER, other.thread_id, other.id)
        assert names(await w.events(first.run_id, again.after))[-1] == "run.completed"
        await until(lambda: is_free(w))


async def test_runs_resumed_after_a_restart_are_counted(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.default = lambda _: Hang()
    path = tmp_path / "a.db"
    async with harness(upstream, path) as w:
        assistant = await w.assistant()
        for _ in range(3):
            await started(w, "thread", assistant)
        await w.runner.drain(0)
    upstream.default = lambda _: Reply("Hi.", start_s=0.2)
    async with harness(upstream, path, limits=Limits(memory_bytes=6 * MB)) as w:
        maximum = 0
        while runs := await w.store.unfinished():
            maximum = max(maximum, w.runner.executing)
            await asyncio.sleep(0.01)
        assert not runs
        assert maximum == 1
        await until(lambda: is_free(w))


async def test_action_outputs_without_free_memory_are_omitted(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang(), Reply(tool_calls=[("getCity", {}), ("getCity", {"a": 1})]), Reply("Done."))
    small = [b"y" * 90_000, b"z" * 90]
    with Api(lambda _: Answer(body=small.pop(0))) as api:
        async with harness(upstream, limits=Limits(memory_bytes=4_100_000)) as w:
            await started(w, "thread", await w.assistant())
            await upstream.eventually(lambda up: len(up.requests) == 1)
            run = await w.start_run(tools=[action(api)])
            assert names(await w.events(run.run_id))[-1] == "run.completed"
            outputs = outputs_in(upstream.requests[-1].body)
            assert [output == NO_MEMORY for output in outputs].count(True) == 1, "the small output was dropped"


async def test_a_single_run_keeps_its_outputs(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getCity", {})]), Reply("Done."))
    with Api(lambda _: Answer(body=b"y" * 90_000)) as api:
        async with harness(upstream, limits=Limits(memory_bytes=exchange_memory(1_000))) as w:
            run = await w.start_run(tools=[action(api)])
            assert names(await w.events(run.run_id))[-1] == "run.completed"
            assert len(outputs_in(upstream.requests[-1].body)[0]) == 90_000


async def test_small_runs_resumed_after_a_restart_run_concurrently(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.default = lambda _: Hang()
    path = tmp_path / "a.db"
    async with harness(upstream, path) as w:
        for _ in range(3):
            await w.start_run()
        await w.runner.drain(0)
    before = len(upstream.requests)
    async with harness(upstream, path, limits=Limits(memory_bytes=6 * MB)):
        await upstream.eventually(lambda up: len(up.requests) == before + 3)


# --- after a run ------------------------------------------------------------------------------------------------------


def long_texts() -> int:
    """Return how many objects of this process contain a long text of the test's thread."""
    return sum(isinstance(each, HumanMessage) and len(each.content) > 10_000 for each in gc.get_objects())


@pytest.mark.parametrize(
    "tools", [pytest.param([], id="without tools", marks=pytest.mark.soak), pytest.param([TIME], id="with tools")]
)
@pytest.mark.parametrize(
    "step", [Reply("Hello"), Fail(400), Raw([b'data: {"x":\n\n'])], ids=["completed", "refused", "broken off"]
)
async def test_the_history_is_not_kept_after_a_run(upstream: ScriptedUpstream, step: Any, tools: list[Any]) -> None:
    """An error refers to the frames that it passed through, and they refer to the prompt."""
    async with harness(upstream) as small:
        upstream.script(*[step] * 20)
        started = await small.start_run("word " * 4_000, tools=tools)  # imports and caches
        await small.events(started.run_id)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                started = await small.start_run("word " * 4_000, tools=tools)
                assert (await small.events(started.run_id))[-1].name.startswith("thread.run.")
                await asyncio.sleep(0.05)
            assert long_texts() == 0
        finally:
            gc.enable()
