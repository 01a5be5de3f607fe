"""A run's tool calls and outputs have limits, so that no checkpoint, step, event or prompt grows without bound."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from chains.call_chunks import chunk_of_calls
from graphs.machine.deltas import ReplyParts
from graphs.machine.exchange import (
    CALL_BYTES,
    LEFT_OUT,
    MAX_CALLS_BYTES,
    MAX_EXCHANGE_BYTES,
    MAX_REPLY_CHARS,
    MAX_SUBMITTED_BYTES,
    fit_outcome,
    json_bytes,
    share_of_left,
)
from graphs.machine.stream_parts import CallAnswered, CallsMade, CallsOpened
from graphs.tools.port import Outcome
from retrieval.grounding import Source
from store.ports import Patch
from tests.graphs.harness import OWNER, TIME, Harness, harness, names, until
from tests.graphs.test_actions import action, outputs_in
from tests.graphs.test_record import USAGE, Rows, record, recorder
from tests.graphs.test_runner import answer
from tests.graphs.tools.apis import Answer, Api, Seen
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import InvalidRequest, RunError

ASKS = Reply(tool_calls=[("getTime", {})])
MANY = 60


@pytest.mark.parametrize(
    "outputs",
    [["x" * (MAX_SUBMITTED_BYTES + 1)], ["x" * 200_000] * 3, ["é" * (MAX_SUBMITTED_BYTES // 2 + 1)]],
    ids=["one", "several", "bytes"],
)
async def test_outputs_of_one_request_are_limited(upstream: ScriptedUpstream, outputs: list[str]) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})] * len(outputs)), Reply("Noon."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        with pytest.raises(InvalidRequest, match=f"512kb.*{MAX_SUBMITTED_BYTES}.*Submit shorter") as refused:
            await answer(small, started, *outputs)
        assert (refused.value.param, refused.value.code) == ("tool_outputs", "invalid_value")
        assert (await small.run(started))["status"] == "requires_action", "an output was accepted"
        again = await answer(small, started, *["noon"] * len(outputs))
        assert names(await small.events(started.run_id, again.after))[-1] == "run.completed"


@pytest.mark.parametrize("output", ["y" * 500_000, "\x01" * 85_000], ids=["letters", "escaped"])
async def test_outputs_of_all_rounds_are_limited(upstream: ScriptedUpstream, output: str) -> None:
    upstream.script(*[ASKS] * 7, Reply("Noon."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        after, rounds = -1, 0
        with pytest.raises(InvalidRequest, match=f"left of the {MAX_EXCHANGE_BYTES}") as refused:
            while rounds < 7:
                await small.events(started.run_id, after)
                after = (await answer(small, started, f"{rounds}{output}")).after  # a model in a loop is stopped
                rounds += 1
        assert rounds == MAX_EXCHANGE_BYTES // json_bytes(output)
        assert (refused.value.param, refused.value.code) == ("tool_outputs", "invalid_value")
        assert len(await checkpoints(small)) <= 2, "large outputs are kept"
        assert max(await checkpoints(small)) < MAX_EXCHANGE_BYTES + MAX_SUBMITTED_BYTES
        row = await small.store.get("run", started.run_id, OWNER)
        assert row is not None
        assert not row.private["submitted"], "a paused run's row contains outputs"
        again = await answer(small, started, "z" * (MAX_EXCHANGE_BYTES - row.private["exchange_bytes"] - 100))
        assert names(await small.events(started.run_id, again.after))[-1] == "run.completed"
        assert "tools" not in upstream.requests[-1].body, "the model is still offered calls"


async def checkpoints(small: Harness) -> list[int]:
    """Return the sizes of the checkpoints in the store."""
    await small.store.engine.pending.wait_for_all()
    return await small.store.engine.read(
        lambda conn: [size for (size,) in conn.execute("SELECT length(checkpoint) FROM checkpoints")]
    )


@pytest.mark.parametrize(
    "calls",
    [
        [("getTime", {"a": "x" * (MAX_CALLS_BYTES + 1)})],
        [("getTime", {"a": "x" * 300_000})] * 4,
        [("getMoon", {"a": "x" * (MAX_CALLS_BYTES + 1)})],
        [("getTime", {"a": "\x01" * (MAX_CALLS_BYTES // 6 + 1)})],
    ],
    ids=["one", "several", "unknown", "escaped"],
)
async def test_calls_of_one_reply_are_limited(upstream: ScriptedUpstream, calls: list[tuple[str, Any]]) -> None:
    upstream.script(Reply(tool_calls=calls))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        assert names(await small.events(started.run_id))[-1] == "run.failed"
        error = (await small.run(started))["last_error"]
        assert error["code"] == "server_error"
        assert "tool calls are too large" in error["message"]
        assert str(MAX_CALLS_BYTES) in error["message"]
        assert sum(json_bytes(step) for step in await small.rows("step", started)) < 2 * MAX_CALLS_BYTES


@pytest.mark.parametrize("offered", [["getTime"], []], ids=["offered", "unknown"])
def test_calls_without_arguments_are_limited(offered: list[str]) -> None:
    parts = ReplyParts("run_1", 0, offered)
    with pytest.raises(RunError, match=f"{CALL_BYTES} for each call"):
        for index in range(MAX_CALLS_BYTES // CALL_BYTES + 1):
            call = tool_call_chunk(name="getTime", args="", id=f"c{index}", index=index)
            list(parts.feed(chunk_of_calls([call])))


@pytest.mark.parametrize("delta", ["content", "refusal"])
def test_a_reply_s_text_is_limited(delta: str) -> None:
    parts = ReplyParts("run_1", 0, [])
    block = "x" * (MAX_REPLY_CHARS // 4)
    chunk = AIMessageChunk(block) if delta == "content" else AIMessageChunk("", additional_kwargs={"refusal": block})
    for _ in range(4):
        list(parts.feed(chunk))
    with pytest.raises(RunError, match=f"more than {MAX_REPLY_CHARS} characters"):
        list(parts.feed(chunk))


async def test_outputs_of_actions_share_the_remaining_limit(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getCity", {})] * MANY), Reply("Done."))
    with Api(lambda _: Answer(body=b"y" * 90_000)) as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api)])
            assert names(await small.events(started.run_id))[-1] == "run.completed"
            assert outputs_in(upstream.requests[-1].body) == [LEFT_OUT] * MANY
            (step, _) = await small.rows("step", started)
            shown = [call["function"]["output"] for call in step["step_details"]["tool_calls"]]
            assert shown == [LEFT_OUT] * MANY


async def test_outputs_within_the_limit_reach_the_model_unchanged(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getCity", {})] * 20), Reply("Done."))
    with Api(lambda _: Answer(body=b"y" * 90_000)) as api:
        async with harness(upstream) as small:
            started = await small.start_run(tools=[action(api)])
            assert names(await small.events(started.run_id))[-1] == "run.completed"
            assert {len(output) for output in outputs_in(upstream.requests[-1].body)} == {90_000}


@pytest.mark.parametrize(("chars", "cited"), [(100, 20), (4_000, 20), (40_000, 0)], ids=["small", "some", "none"])
def test_search_results_stay_within_their_share(chars: int, cited: int) -> None:
    asked = "why" * 1_333
    sources = {f"0:{index}": Source(file_id="file_1", text="t" * chars, asked=asked) for index in range(20)}
    max_bytes = 20 * (chars + 4_200) if cited else 30_000
    shown = Outcome("o" * 10 * chars, {"results": [{}]}, [[]], sources)
    found, added = fit_outcome(shown, max_bytes - 10 * chars, lambda _: True)
    kept = json_bytes(found.output) + sum(map(json_bytes, found.passages.values()))
    assert kept <= max(max_bytes, len(LEFT_OUT) + 2)
    assert len(found.passages) <= cited
    assert bool(found.details) is bool(cited)
    assert added <= max_bytes


@pytest.mark.parametrize(("used", "calls"), [(0, 1), (MAX_EXCHANGE_BYTES - 10, 3), (MAX_EXCHANGE_BYTES + 9, 2), (0, 0)])
def test_shares_of_the_remaining_bytes_exceed_no_limit(used: int, calls: int) -> None:
    assert 0 <= share_of_left(used, calls) * calls <= max(0, MAX_EXCHANGE_BYTES - used)


@pytest.mark.parametrize("kind", ["function", "file_search"])
def test_writes_of_a_step_are_linear_in_its_size(kind: Any) -> None:
    books, rows_after = recorder(), Rows()
    calls: list[Any] = [
        {"id": f"call_{n}", "upstream_id": "u", "name": "f", "arguments": "{}", "kind": kind} for n in range(300)
    ]
    rows_after.apply(record(books, CallsOpened("step_1"), CallsMade("step_1", tuple(calls), USAGE)))
    written = 0
    for call in calls:
        found: tuple[Any, Any] = (
            {"results": [{"file_id": "file_1", "file_name": "a.txt", "score": 1.0}]},
            [[{"type": "text", "text": "y" * 6_000}]],
        )
        part = CallAnswered("step_1", call["id"], "y" * 6_000, *(found if kind == "file_search" else ()))
        done = record(books, part)
        written += sum(json_bytes([each.body, each.private]) for each in done.changes if isinstance(each, Patch))
        rows_after.apply(done)
    assert written < 8 * 300 * 6_000
    rows_after.apply(books.transition("requires_action"))
    key = "output" if kind == "function" else "results"
    assert all(call[kind][key] for call in rows_after.bodies["step_1"]["step_details"]["tool_calls"]), (
        "a pause did not write all outputs"
    )


def test_small_steps_are_written_after_each_answer() -> None:
    books, rows_after = recorder(), Rows()
    calls: list[Any] = [{"id": f"call_{n}", "upstream_id": "u", "name": "f", "arguments": "{}"} for n in range(9)]
    record(books, CallsOpened("step_1"), CallsMade("step_1", tuple(calls), USAGE))
    for call in calls:
        rows_after.apply(record(books, CallAnswered("step_1", call["id"], "")))
        outputs = [each["function"]["output"] for each in rows_after.bodies["step_1"]["step_details"]["tool_calls"]]
        assert outputs[: calls.index(call) + 1] == [""] * (calls.index(call) + 1)


async def test_outputs_before_a_stop_are_in_the_step(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A large step is not rewritten for small outputs until the server stops."""
    called: list[str] = []
    stopped = threading.Event()

    def slow_last(seen: Seen) -> Answer:
        called.append(seen.path)
        if len(called) == 3:
            stopped.wait(20)
        return Answer(body=b"small")

    big = {"note": "x" * 50_000}
    upstream.script(Reply(tool_calls=[("getCity", big), ("getCity", big), ("getCity", big)]))
    with Api(slow_last) as api:
        async with harness(upstream, tmp_path / "t.db") as small:
            started = await small.start_run(tools=[action(api)])
            await until(lambda: len(called) == 3)
            await asyncio.sleep(0.1)
            (step,) = await small.rows("step", started)
            assert not any(call["function"]["output"] for call in step["step_details"]["tool_calls"]), (
                "the small output was already written"
            )
            await small.runner.drain(0)
            (step,) = await small.rows("step", started)
            outputs = [call["function"]["output"] for call in step["step_details"]["tool_calls"]]
            assert [output is None for output in outputs].count(True) == 1
            stopped.set()
