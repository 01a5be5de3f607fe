"""Items of a thread: a run's exchange with its model is stored in the thread's order, and later runs see it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from graphs.drafts import RunChoices
from store.ports import PageQuery, Row
from store.sqlite.migrations import MIGRATIONS
from tests.graphs.harness import OWNER, TIME, WEATHER, Harness, harness, text_of
from tests.upstream import Hang, Raw, Reply, ScriptedUpstream
from wire.runs import RunCreate

ROME = ("getWeather", {"place": "Rome"}, "up1")
NOON = ("getTime", {}, "up2")


async def entries(small: Harness, thread_id: str) -> list[Row]:
    page = await small.store.page("entry", OWNER, PageQuery(limit=100, order="asc"), thread_id=thread_id)
    return page.rows


def shapes(rows: list[Row]) -> list[str]:
    return [row.body["role"] if row.kind == "message" else row.body["type"] for row in rows]


async def answer(small: Harness, started: Any, *outputs: str) -> Any:
    action = (await small.run(started))["required_action"]
    calls = action["submit_tool_outputs"]["tool_calls"]
    given = [{"tool_call_id": call["id"], "output": output} for call, output in zip(calls, outputs, strict=True)]
    return await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, given)


async def continue_thread(small: Harness, started: Any, text: str, **fields: Any) -> Any:
    """Run again in the thread of a run that has ended."""
    asked = [{"role": "user", "content": text}]
    run = started.run
    return await small.start(run["thread_id"], run["assistant_id"], additional_messages=asked, **fields)


async def called(small: Harness, upstream: ScriptedUpstream, **fields: Any) -> Any:
    """Complete a run with a text, two calls and an answer."""
    upstream.script(Reply("Let me see.", tool_calls=[ROME, NOON]), Reply("Sunny at noon."))
    started = await small.start_run("How is Rome?", tools=[WEATHER, TIME], **fields)
    await small.events(started.run_id)
    again = await answer(small, started, "sunny", "noon")
    assert text_of(await small.events(again.run_id, after=again.after)) == "Sunny at noon."
    return again


async def test_calls_and_outputs_are_items_between_the_messages(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        started = await called(small, upstream)
        rows = await entries(small, started.run["thread_id"])
        kinds = ["function_call"] * 2 + ["function_call_output"] * 2
        assert shapes(rows) == ["user", "assistant", *kinds, "assistant"]
        steps = await small.rows("step", started)
        shown = next(step for step in steps if step["type"] == "tool_calls")["step_details"]["tool_calls"]
        for call, item, output in zip(shown, rows[2:4], rows[4:6], strict=True):
            assert (item.body["call_id"], item.body["arguments"]) == (call["id"], call["function"]["arguments"])
            assert (output.body["call_id"], output.body["output"]) == (call["id"], call["function"]["output"])
        assert {row.run_id for row in rows[1:]} == {started.run_id}
        assert [row["role"] for row in await small.rows("message", started)] == ["user", "assistant", "assistant"]


async def test_a_run_without_calls_has_no_items(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        assert shapes(await entries(small, started.run["thread_id"])) == ["user", "assistant"]


async def test_the_reasoning_of_a_reply_is_an_item_before_its_message(upstream: ScriptedUpstream) -> None:
    deltas: list[dict[str, str]] = [{"reasoning_content": "Hm, "}, {"reasoning_content": "noon."}, {"content": "Noon."}]
    chunks = [json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() for delta in deltas]
    upstream.script(Raw([b"data: %b\n\n" % chunk for chunk in (*chunks, b"[DONE]")]))
    async with harness(upstream) as small:
        started = await small.start_run()
        await small.events(started.run_id)
        rows = await entries(small, started.run["thread_id"])
        assert shapes(rows) == ["user", "reasoning", "assistant"]
        assert rows[1].body["content"] == [{"type": "reasoning_text", "text": "Hm, noon."}]


async def test_a_later_run_sees_the_calls_of_earlier_ones(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        started = await called(small, upstream)
        later = await continue_thread(small, started, "And tomorrow?")
        await small.events(later.run_id)
    prompt = upstream.requests[-1].body["messages"]
    assert [message["role"] for message in prompt] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert prompt[1]["content"] == "Let me see."
    asked = [call["function"]["name"] for call in prompt[1]["tool_calls"]]
    assert asked == ["getWeather", "getTime"]
    assert [output["content"] for output in prompt[2:4]] == ["sunny", "noon"]
    assert [output["tool_call_id"] for output in prompt[2:4]] == [call["id"] for call in prompt[1]["tool_calls"]]


async def test_a_run_without_tools_is_shown_the_messages_only(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        started = await called(small, upstream)
        await small.events((await continue_thread(small, started, "And tomorrow?", tools=[])).run_id)
    prompt = upstream.requests[-1].body["messages"]
    assert [message["role"] for message in prompt] == ["user", "assistant", "assistant", "user"]


async def test_a_model_without_tool_calls_can_repeat_an_earlier_call(upstream: ScriptedUpstream) -> None:
    upstream.tools = "refused"

    def respond(body: Any) -> Reply:
        asked = body["messages"][-1]["content"]
        if "response_format" not in body:
            return Reply("At noon." if "noon" in asked else "Hm.")
        return Reply('{"function": "none"}' if "noon" in asked.split("again")[-1] else '{"function": "getTime"}')

    async with harness(upstream) as small:
        thread_id, assistant_id = await small.thread("What time is it?"), await small.assistant(tools=[TIME])
        for text in ("", "And what time is it again?"):
            upstream.default = respond
            asked = [{"role": "user", "content": text}] if text else None
            started = await small.start(thread_id, assistant_id, additional_messages=asked)
            await small.events(started.run_id)
            assert (await small.run(started))["status"] == "requires_action"
            again = await answer(small, started, "noon")
            await small.events(again.run_id, after=again.after)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_unanswered_calls_of_an_ended_run_are_not_sent(upstream: ScriptedUpstream, end: str) -> None:
    upstream.script(Reply(tool_calls=[ROME]))
    async with harness(upstream, expiry_s=60) as small:
        started = await small.start_run("How is Rome?", tools=[WEATHER])
        await small.events(started.run_id)
        if end == "cancelled":
            await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        else:
            small.clock.now += 61
            with pytest.raises(Exception, match="expired"):
                await answer(small, started, "sunny")
        assert (await small.run(started))["status"] == end
        assert shapes(await entries(small, started.run["thread_id"])) == ["user", "function_call"]
        await small.events((await continue_thread(small, started, "Hello?")).run_id)
    assert [message["role"] for message in upstream.requests[-1].body["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    ("last", "roles"),
    [(2, ["assistant", "user"]), (3, ["assistant", "tool", "tool", "assistant", "user"])],
    ids=["after the calls", "before the calls"],
)
async def test_the_last_messages_keep_the_calls_that_follow_them(
    upstream: ScriptedUpstream, last: int, roles: list[str]
) -> None:
    async with harness(upstream) as small:
        started = await called(small, upstream)
        strategy = {"type": "last_messages", "last_messages": last}
        await small.events(
            (await continue_thread(small, started, "And tomorrow?", truncation_strategy=strategy)).run_id
        )
    assert [message["role"] for message in upstream.requests[-1].body["messages"]] == roles


async def test_replaced_messages_take_the_later_items_with_them(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        started = await called(small, upstream)
        first = (await small.rows("message", started))[0]["id"]
        request = RunCreate.model_validate(
            {"assistant_id": started.run["assistant_id"], "additional_messages": [{"role": "user", "content": "Anew"}]}
        )
        again = await small.runner.start(OWNER, started.run["thread_id"], request, replaces=first)
        await small.events(again.run_id)
        assert shapes(await entries(small, started.run["thread_id"])) == ["user", "assistant"]


async def test_client_calls_can_end_a_run_and_later_ones_continue(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[ROME]))
    async with harness(upstream) as small:
        thread_id, assistant_id = await small.thread("How is Rome?"), await small.assistant(tools=[WEATHER])
        request = RunCreate(assistant_id=assistant_id)
        started = await small.runner.start(OWNER, thread_id, request, RunChoices(client_calls="end"))
        events = await small.events(started.run_id)
        assert events[-1].name == "thread.run.completed"
        run = await small.run(started)
        assert (run["status"], run["required_action"]) == ("completed", None)
        (step,) = await small.rows("step", started)
        assert step["status"] == "completed"
        assert step["step_details"]["tool_calls"][0]["function"]["output"] is None
        assert step["usage"] == run["usage"] != None  # noqa: E711
        (call,) = (row for row in await entries(small, thread_id) if row.kind == "item")
        assert call.body["type"] == "function_call"
        await small.events((await small.start(thread_id, assistant_id)).run_id)  # the thread is not locked
    assert [message["role"] for message in upstream.requests[-1].body["messages"]] == ["user"]


async def test_a_regenerated_reply_has_its_items_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(tool_calls=[ROME]), Hang())
    async with harness(upstream, tmp_path / "t.db") as small:
        started = await small.start_run("How is Rome?", tools=[WEATHER])
        await small.events(started.run_id)
        again = await answer(small, started, "sunny")
        await upstream.eventually(lambda up: len(up.requests) == 2)
        before = await entries(small, again.run["thread_id"])
    upstream.script(Reply("Sunny."))
    async with harness(upstream, tmp_path / "t.db") as small:
        assert text_of(await small.events(started.run_id, after=again.after)) == "Sunny."
        rows = await entries(small, started.run["thread_id"])
        assert shapes(rows) == ["user", "function_call", "function_call_output", "assistant"]
        assert rows[:3] == before


async def test_items_of_a_discarded_reply_are_replaced(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply("One.", tool_calls=[ROME]), Reply("Two.", tool_calls=[ROME, NOON]))
    async with harness(upstream, tmp_path / "t.db") as small:
        started = await small.start_run("How is Rome?", tools=[WEATHER, TIME])
        await small.events(started.run_id)
        before = await entries(small, started.run["thread_id"])
    with closing(sqlite3.connect(tmp_path / "t.db")) as conn:  # as if the process had died before the first checkpoint
        body = "json_set(body, '$.status', 'in_progress', '$.required_action', NULL)"
        conn.execute(f"UPDATE runs SET status = 'in_progress', body = {body}")
        conn.execute("DELETE FROM checkpoints")
        conn.commit()
    async with harness(upstream, tmp_path / "t.db") as small:
        await small.events(started.run_id)
        rows = await entries(small, started.run["thread_id"])
        assert shapes(rows) == ["user", "assistant", "function_call", "function_call"]
        assert [row.id for row in rows[:3]] == [row.id for row in before]
        await answer(small, started, "sunny", "noon")


def former(path: Path) -> None:
    """Write the store of the previous revision."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        MIGRATIONS.apply(Database(conn), stop_before="m010_processes")
        conn.executescript(Path(__file__).with_name("run_of_8c8ddf0.sql").read_text())


async def test_a_store_of_the_previous_revision_can_be_used(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    former(tmp_path / "t.db")
    upstream.script(Reply("Noon again."), Reply(tool_calls=[NOON]), Reply("Late."))
    async with harness(upstream, tmp_path / "t.db") as small:
        (waiting,) = await small.store.unfinished()
        row = await small.store.get("run", waiting.id, OWNER)
        assert row is not None
        calls = row.body["required_action"]["submit_tool_outputs"]["tool_calls"]
        given = [{"tool_call_id": call["id"], "output": "noon"} for call in calls]
        started = await small.runner.submit(OWNER, waiting.thread_id, waiting.id, given)
        assert text_of(await small.events(started.run_id, after=started.after)) == "Noon again."
        assert shapes(await entries(small, waiting.thread_id)) == ["user", "function_call_output", "assistant"]
        (ended,) = (await small.store.page("thread", OWNER, PageQuery(limit=1, order="asc"))).rows
        assert shapes(await entries(small, ended.id)) == ["user", "assistant"]
        later = await small.start(ended.id, row.body["assistant_id"])
        await small.events(later.run_id)
        later = await answer(small, later, "noon")
        assert text_of(await small.events(later.run_id, after=later.after)) == "Late."
        kinds = ["function_call", "function_call_output"]
        assert shapes(await entries(small, ended.id)) == ["user", "assistant", *kinds, "assistant"]
