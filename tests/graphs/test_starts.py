"""Runs without a stored assistant, and what a start adds to the thread: one commit, in the thread's order."""

from dataclasses import replace
from typing import Any

import pytest

from chains.chat_types import NamedFunction
from graphs.admission import Limits
from graphs.drafts import DEFAULTS, SpecRun, draft_run
from graphs.machine.spec import RunSpec
from store.ports import PageQuery
from tests.graphs.harness import OWNER, TIME, WEATHER, Harness, harness, text_of
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import InvalidRequest, NotFound
from wire.ids import new_id
from wire.items import FunctionCall, FunctionCallOutput, Item, reasoning_item
from wire.messages import MessageCreate
from wire.model_options import ModelOptions
from wire.threads import ThreadCreate

ROME = ("getWeather", {"place": "Rome"}, "up1")


def user(text: str) -> MessageCreate:
    return MessageCreate(role="user", content=text)


def call(call_id: str, name: str = "getWeather") -> FunctionCall:
    id = new_id("fc")
    return {
        "id": id,
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": "{}",
    }


def output(call_id: str, text: str) -> FunctionCallOutput:
    id = new_id("fco")
    return {"id": id, "type": "function_call_output", "status": "completed", "call_id": call_id, "output": text}


def spec(**fields: Any) -> RunSpec:
    return RunSpec(**{"model": "m", "instructions": "Be short.", "tools": [WEATHER, TIME], **fields})


async def shapes(small: Harness, thread_id: str) -> list[str]:
    page = await small.store.page("entry", OWNER, PageQuery(limit=100, order="asc"), thread_id=thread_id)
    return [row.body["role"] if row.kind == "message" else row.body["type"] for row in page.rows]


def prompt(upstream: ScriptedUpstream) -> list[Any]:
    """What the newest request shows the model: a role with its text, or the names of its calls."""
    return [
        (each["role"], [one["function"]["name"] for one in each.get("tool_calls") or ()] or each["content"])
        for each in upstream.requests[-1].body["messages"]
    ]


SPECS = {
    "defaults": RunSpec(model="m"),
    "instructions and tools": spec(),
    "options": spec(options=ModelOptions(temperature=0.2, top_p=0.5, reasoning_effort="low")),
    "one option": spec(options=ModelOptions(top_p=1.0)),
    "budgets": spec(max_prompt_tokens=500, max_completion_tokens=50),
    "choices": spec(
        tool_choice=NamedFunction(type="function", function={"name": "getWeather"}),
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        truncation_strategy={"type": "last_messages", "last_messages": 3},
    ),
    "calls end it": spec(client_calls="end"),
}


@pytest.mark.parametrize("given", SPECS.values(), ids=SPECS)
def test_a_drafted_run_has_its_spec_again(given: RunSpec) -> None:
    draft = draft_run(SpecRun(given), None, OWNER, "thread_1", DEFAULTS, now=1, expiry_s=600)
    private = draft.row.private
    read = RunSpec.of_run(
        draft.run,
        tools=private["tools"],
        sampling=private["sampling"],
        max_tool_rounds=given.max_tool_rounds,
        client_calls=private["client_calls"],
    )
    assert read == replace(given, id=draft.row.id, tools=list(given.tools))


def test_the_secrets_of_a_spec_s_actions_are_private() -> None:
    action = {"type": "action", "data": {"headers": {"x-key": "s3cret"}}}
    draft = draft_run(SpecRun(spec(tools=[action])), None, OWNER, "thread_1", DEFAULTS, now=1, expiry_s=600)
    assert draft.row.private["tools"] == [action]
    assert "s3cret" not in str(draft.run)


async def test_a_run_needs_no_stored_assistant(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("Sunny."))
    async with harness(upstream) as small:
        thread_id = await small.thread("How is Rome?")
        request = SpecRun(spec(options=ModelOptions(temperature=0.3)), metadata={"a": "b"})
        started = await small.runner.start(OWNER, thread_id, request)
        assert text_of(await small.events(started.run_id)) == "Sunny."
        run = await small.run(started)
        assert (run["status"], run["model"], run["metadata"]) == ("completed", "m", {"a": "b"})
        assert run["assistant_id"].startswith("asst_")
        assert (await small.store.page("assistant", OWNER, PageQuery())).rows == []
        (message,) = (each for each in await small.rows("message", started) if each["role"] == "assistant")
        assert message["assistant_id"] == run["assistant_id"]
    body = upstream.requests[-1].body
    assert (body["model"], body["temperature"]) == ("m", 0.3)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["getWeather", "getTime"]
    assert prompt(upstream) == [("system", "Be short."), ("user", "How is Rome?")]


async def test_it_shows_the_same_assistant_id_for_the_same_values(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        ids = []
        for given in (spec(), spec(), spec(model="n"), spec(instructions="")):
            started = await small.runner.create_and_start(OWNER, SpecRun(given, [user("Hi")]))
            await small.events(started.run_id)
            ids.append(started.run["assistant_id"])
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_items_join_the_thread_in_its_order_with_the_run(upstream: ScriptedUpstream) -> None:
    entries: list[MessageCreate | Item] = [
        user("How is Rome?"),
        reasoning_item("msg_x", "They ask about Rome."),
        call("call_a"),
        call("call_b", "getTime"),
        output("call_a", "sunny"),
        output("call_b", "noon"),
        MessageCreate(role="assistant", content="Sunny at noon."),
        user("And Paris?"),
        call("call_c"),
        output("call_c", "rain"),
    ]
    async with harness(upstream) as small:
        upstream.script(Reply("Rain."))
        thread = ThreadCreate(messages=[user("Hello")], metadata={"a": "b"})
        started = await small.runner.create_and_start(OWNER, SpecRun(spec(), entries, thread=thread))
        assert text_of(await small.events(started.run_id)) == "Rain."
        thread_id = started.run["thread_id"]
        calls = ["function_call"] * 2 + ["function_call_output"] * 2
        turn = ["user", "function_call", "function_call_output", "assistant"]
        assert await shapes(small, thread_id) == ["user", "user", "reasoning", *calls, "assistant", *turn]
        shown = [
            ("system", "Be short."),
            ("user", "Hello"),
            ("user", "How is Rome?"),
            ("assistant", ["getWeather", "getTime"]),
            ("tool", "sunny"),
            ("tool", "noon"),
            ("assistant", "Sunny at noon."),
            ("user", "And Paris?"),
            ("assistant", ["getWeather"]),
            ("tool", "rain"),
        ]
        assert prompt(upstream) == shown
        upstream.script(Reply("Bye."))
        again = await small.runner.start(OWNER, thread_id, SpecRun(spec(), [user("Bye")]))
        await small.events(again.run_id)
    assert prompt(upstream) == [*shown, ("assistant", "Rain."), ("user", "Bye")]


async def test_outputs_continue_the_run_that_its_calls_ended(upstream: ScriptedUpstream) -> None:
    given = spec(client_calls="end")
    upstream.script(Reply("Let me see.", tool_calls=[ROME]))
    async with harness(upstream) as small:
        first = await small.runner.create_and_start(OWNER, SpecRun(given, [user("How is Rome?")]))
        events = await small.events(first.run_id)
        assert events[-1].name == "thread.run.completed"
        (step,) = (each for each in await small.rows("step", first) if each["type"] == "tool_calls")
        call_id = step["step_details"]["tool_calls"][0]["id"]
        upstream.script(Reply("Sunny."))
        second = await small.runner.start(
            OWNER, first.run["thread_id"], SpecRun(given, [output(call_id, "x" * 60_000)])
        )
        assert text_of(await small.events(second.run_id)) == "Sunny."
        calls = ["function_call", "function_call_output"]
        assert await shapes(small, first.run["thread_id"]) == ["user", "assistant", *calls, "assistant"]
    shown = upstream.requests[-1].body["messages"]
    assert [each["role"] for each in shown] == ["system", "user", "assistant", "tool"]
    assert shown[2]["content"] == "Let me see."
    assert shown[2]["tool_calls"][0]["id"] == shown[3]["tool_call_id"] == "up1"
    assert shown[3]["content"] == "x" * 60_000


async def test_a_thread_can_begin_with_calls(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("Sunny."))
    async with harness(upstream) as small:
        entries = [call("call_a"), output("call_a", "sunny")]
        started = await small.runner.create_and_start(OWNER, SpecRun(spec(instructions=""), entries))
        await small.events(started.run_id)
        assert prompt(upstream) == [("assistant", ["getWeather"]), ("tool", "sunny")]
        again = await small.runner.start(OWNER, started.run["thread_id"], SpecRun(spec(instructions=""), [user("Hm")]))
        await small.events(again.run_id)
    assert prompt(upstream)[:2] == [("assistant", ["getWeather"]), ("tool", "sunny")]


async def test_a_refused_run_adds_nothing_to_its_thread(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        upstream.script(Reply(tool_calls=[ROME]))
        waiting = await small.runner.create_and_start(OWNER, SpecRun(spec(), [user("How is Rome?")]))
        await small.events(waiting.run_id)
        thread_id = waiting.run["thread_id"]
        before = await shapes(small, thread_id)
        entries = [call("call_a"), output("call_a", "sunny")]
        with pytest.raises(InvalidRequest, match="already has an active run"):
            await small.runner.start(OWNER, thread_id, SpecRun(spec(), entries))
        assert await shapes(small, thread_id) == before
        with pytest.raises(NotFound):
            await small.runner.start(OWNER, "thread_none", SpecRun(spec(), entries))


async def test_a_queued_run_from_a_spec_reads_its_items_again(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("One."), Reply("Two."))
    async with harness(upstream, limits=Limits(max_executing=1)) as small:
        first = await small.runner.create_and_start(OWNER, SpecRun(spec(), [user("Wait")]))
        entries = [user("How is Rome?"), call("call_a"), output("call_a", "sunny")]
        second = await small.runner.create_and_start(OWNER, SpecRun(spec(), entries))
        await small.events(first.run_id)
        await small.events(second.run_id)
    assert prompt(upstream)[1:] == [("user", "How is Rome?"), ("assistant", ["getWeather"]), ("tool", "sunny")]
