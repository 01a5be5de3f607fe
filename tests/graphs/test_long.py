"""A long conversation with a small context continues without end, and reports the messages that are left out."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from store.ports import Insert, Row
from tests.chains.test_context_window import serve_llama
from tests.graphs.harness import OWNER, Harness, harness
from tests.objects import check
from tests.upstream import Reply, ScriptedUpstream
from wire.ids import new_id
from wire.messages import MessageCreate, new_message
from wire.runs import Run

CONTEXT = 2048


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(context=CONTEXT) as scripted:
        yield scripted


async def add(deps: Harness, thread_id: str, text: str) -> None:
    body = new_message(MessageCreate(role="user", content=text), id=new_id("msg"), thread_id=thread_id, now=1)
    await deps.store.commit([Insert(Row("message", body["id"], OWNER, body, thread_id))], durable=True)


def refused(upstream: ScriptedUpstream) -> int:
    """Return how many requests were longer than the context."""
    return sum(upstream._overflow(seen.body) is not None for seen in upstream.requests)


@pytest.mark.parametrize("engine", ["tells", pytest.param("is silent", marks=pytest.mark.soak)])
async def test_a_conversation_of_a_hundred_turns_never_fails_for_its_length(
    upstream: ScriptedUpstream, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    if engine == "tells":
        serve_llama(upstream, CONTEXT, chars_per_token=4)
    upstream.default = lambda body: Reply(f"Answer to: {body['messages'][-1]['content'][:20]} " + "word " * 40)
    caplog.set_level(logging.INFO, "threadhold.runs")
    async with harness(upstream) as deps:
        assistant, thread = await deps.assistant(instructions="Be brief."), await deps.thread()
        for turn in range(110):
            await add(deps, thread, f"Question {turn}: " + "why " * (20 + turn % 60))
            started = await deps.start(thread, assistant)
            events = await deps.events(started.run_id)
            run = await deps.run(started)
            assert (run["status"], run["last_error"]) == ("completed", None), turn
            check(Run, run)
            sent = upstream.requests[-1].body["messages"]
            assert sent[0] == {"role": "system", "content": "Be brief."}
            assert sent[-1]["content"].startswith(f"Question {turn}:")
            assert sent[1]["role"] == "user"
        assert refused(upstream) <= (0 if engine == "tells" else 3)
        result = run["threadhold"]
        assert result["left_out_messages"] > 20
        assert result["context_limit"] == CONTEXT
        shown = [event.data() for event in events if event.name == "threadhold.context"]
        assert {name: shown[-1][name] for name in result} == result
        used = upstream._overflow({"messages": sent})
        assert used is None
        assert len(sent) > 10  # it is not shortened more than necessary
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert lines
    assert f"{result['left_out_messages']} messages" in lines[-1]
    assert "Question" not in "".join(lines)
    assert "why why" not in "".join(lines)  # one digit alone can be part of an id


async def test_messages_that_fit_are_not_reported_as_left_out(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as deps:
        started = await deps.start_run("Hello")
        events = await deps.events(started.run_id)
        assert "threadhold" not in await deps.run(started)
        assert not [event for event in events if event.name.startswith("threadhold.")]


async def test_unread_messages_are_reported_with_at_least(upstream: ScriptedUpstream) -> None:
    serve_llama(upstream, CONTEXT, chars_per_token=4)
    async with harness(upstream) as deps:
        await deps.events((await deps.start_run()).run_id)  # the context is known from now on
        thread = await deps.thread(*("why " * 500 for _ in range(30)))
        started = await deps.start(thread, await deps.assistant())
        await deps.events(started.run_id)
        result: dict[str, Any] = (await deps.run(started))["threadhold"]
        assert result["at_least"] is True
        assert 3 < result["left_out_messages"] < 30
