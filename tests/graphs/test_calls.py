"""Function calls in runs: an invalid strict call is an error for the model, and the client never sees it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.graphs.harness import TIME, WEATHER, Harness, harness, text_of
from tests.process import ROOT
from tests.upstream import Hang, Raw, Reply, ScriptedUpstream

ROME = ("getWeather", {"place": "Rome"}, "up1")
WRONG = ("getWeather", {"city": "Rome"}, "up1")
STRICT: dict[str, Any] = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}


async def answer(small: Harness, started: Any, output: str) -> Any:
    run = await small.run(started)
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    given = [{"tool_call_id": call["id"], "output": output} for call in calls]
    return await small.runner.submit("default", started.run["thread_id"], started.run_id, given)


async def test_only_the_model_sees_a_strict_call_that_stays_invalid(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Reply(tool_calls=[WRONG]), Reply(tool_calls=[WRONG]), Reply("Where?"))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[STRICT])
        events = await small.events(started.run_id)
        assert not [event.name for event in events if "requires_action" in event.name]
        assert text_of(events) == "Where?"
        run = await small.run(started)
        assert run["status"] == "completed"
        assert run["usage"]["completion_tokens"] == 3
        assert [step["type"] for step in await small.rows("step", started)] == ["message_creation"]
    result = upstream.requests[-1].body["messages"][-2:]
    assert json.loads(result[0]["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}
    assert result[1]["tool_call_id"] == result[0]["tool_calls"][0]["id"] == "up1"
    assert "'place' is a required property" in result[1]["content"]


async def test_of_several_strict_calls_the_client_gets_the_valid_ones(upstream: ScriptedUpstream) -> None:
    fly = ("fly", {"to": "Rome"}, "up2")
    upstream.script(Reply(tool_calls=[WRONG, fly, ("getTime", {}, "up3")]), Reply("no"), Reply("Done."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[STRICT, TIME])
        await small.events(started.run_id)
        (call,) = (await small.run(started))["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert call["function"]["name"] == "getTime"
        again = await answer(small, started, "noon")
        assert text_of(await small.events(again.run_id, after=again.after)) == "Done."
    outputs = {message["tool_call_id"]: message["content"] for message in upstream.requests[-1].body["messages"][-3:]}
    assert outputs["up3"] == "noon"
    assert "'place' is a required property" in outputs["up1"]
    assert "no function named `fly`" in outputs["up2"]


LOOSE = {
    # name: (the function's properties, the arguments as the model makes them, how often the model is asked for them)
    "a missing property": ({"place": {"type": "string"}}, '{"city": "Rome"}', 2),
    "a wrong type": ({"place": {"type": "string"}}, '{"place": 5}', 2),
    "no value of the enum": ({"place": {"enum": ["Rome"]}}, '{"place": "Pau"}', 2),
    "one property too many": ({"place": {}}, '{"place": "Rome", "more": 1}', 2),
    "no JSON": ({"place": {}}, "Rome", 2),
    "no object": ({"place": {}}, '["Rome"]', 2),
    "a schema that nothing fits": ({"place": {"allOf": [{"type": "string"}, {"type": "number"}]}}, '{"place": 1}', 2),
    "null for what is optional": ({"place": {}, "unit": {"type": "string"}}, '{"place": "Rome", "unit": null}', 1),
    "null for what is optional, deeper": (
        {"place": {"anyOf": [{"type": "object", "properties": {"x": {"enum": ["a"]}}}, {"type": "string"}]}},
        '{"place": {"x": null}}',
        1,
    ),
    "null for what is required": ({"place": {"type": "string"}}, '{"place": null}', 2),
}


@pytest.mark.parametrize(("properties", "arguments", "requests"), LOOSE.values(), ids=LOOSE)
async def test_invalid_arguments_reach_the_client_unchanged(
    upstream: ScriptedUpstream, properties: Any, arguments: str, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = {"type": "object", "properties": properties, "required": ["place"], "additionalProperties": False}
    tool = {**WEATHER, "function": {"name": "getWeather", "parameters": parameters}}
    upstream.script(*[Reply(tool_calls=[("getWeather", arguments, "up1")])] * requests, Reply("Well."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[tool])
        await small.events(started.run_id)
        (call,) = (await small.run(started))["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert call["function"]["arguments"] == arguments
        assert len(upstream.requests) == requests
        again = await answer(small, started, "no such place")
        assert text_of(await small.events(again.run_id, after=again.after)) == "Well."
    result = upstream.requests[-1].body["messages"][-2:]
    assert result[1]["content"] == "no such place"
    assert isinstance(json.loads(result[0]["tool_calls"][0]["function"]["arguments"]), dict)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == requests - 1
    assert "Rome" not in str(lines)


async def test_of_parallel_calls_only_the_invalid_one_is_repaired(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Reply(tool_calls=[WRONG, ("getTime", "", "up3")]), Reply(tool_calls=[WRONG]))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER, TIME])
        await small.events(started.run_id)
        calls = (await small.run(started))["required_action"]["submit_tool_outputs"]["tool_calls"]
        made = {call["function"]["name"]: call["function"]["arguments"] for call in calls}
        assert made == {"getTime": "{}", "getWeather": '{"city":"Rome"}'}
    assert len(upstream.requests) == 2


async def test_the_client_gets_a_valid_repair(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[WRONG]), Reply(tool_calls=[ROME]))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER])
        await small.events(started.run_id)
        (call,) = (await small.run(started))["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"place": "Rome"}


async def test_a_model_that_repeats_a_call_forever_is_stopped(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda body: Reply(tool_calls=[ROME]) if body.get("tools") else Reply("68, as I said.")
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER])
        after = -1
        for _ in range(2):
            await small.events(started.run_id, after=after)
            started = await answer(small, started, "68")
            after = started.after
        assert text_of(await small.events(started.run_id, after=after)) == "68, as I said."
        assert (await small.run(started))["status"] == "completed"
    assert len(upstream.requests) == 3


async def test_a_model_without_tools_repeats_an_answered_call_only_once(upstream: ScriptedUpstream) -> None:
    upstream.tools = "ignored"
    chosen = Reply('{"function": "getWeather", "calls": 1}')
    call = Reply('{"name": "getWeather", "arguments": {"place": "Rome"}}')
    upstream.script(chosen, call, chosen, call, Reply("It is 68."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER], tool_choice="required")
        await small.events(started.run_id)
        again = await answer(small, started, "68")
        assert text_of(await small.events(again.run_id, after=again.after)) == "It is 68."
    last = upstream.requests[-1].body["messages"]
    assert [message["role"] for message in last] == ["user"]
    assert last[0]["content"].startswith('Hello\n\nResult of getWeather({"place": "Rome"}):\n68')


async def test_an_invalid_call_is_not_shown_after_a_resume_either(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    path = tmp_path / "threadhold.db"
    upstream.script(Reply(tool_calls=[WRONG, ("getTime", {}, "up3")]), Reply("no"), Hang())
    async with harness(upstream, path) as small:
        started = await small.start_run(tools=[STRICT, TIME])
        await small.events(started.run_id)
        await answer(small, started, "noon")
        await upstream.eventually(lambda seen: len(seen.requests) == 3)
    upstream.script(Reply("Done."))
    async with harness(upstream, path) as small:
        events = await small.events(started.run_id)
        assert text_of(events) == "Done."
        calls_step, _ = await small.rows("step", started)
        (call,) = calls_step["step_details"]["tool_calls"]
        assert (call["function"]["name"], call["function"]["output"]) == ("getTime", "noon")
        forgotten = [id for event in events if event.name == "threadhold.reset" for id in event.data()["step_ids"]]
        assert calls_step["id"] not in forgotten
        assert sum(event.name == "thread.run.step.created" for event in events) == 2


def test_the_first_call_of_a_process_does_not_block_the_loop() -> None:
    """Its dependencies are loaded in a thread; the loop of `harness` allows no blocking call."""
    test = "tests/graphs/test_runner.py::test_a_function_call_pauses_the_run_until_its_output"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", test]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


SECRET = "s3cret-reasoning"


def thinking(number: int, *, ends: bool = False) -> Raw:
    """Return a reply of a reasoning engine: extra fields on the message and, in its continuation, on a call without
    id."""
    beside = {"x_state": f"{SECRET}-{number}", "details": [{"index": 0, "data": f"{SECRET}-d{number}"}]}
    signed = {"extra_content": {"signature": f"{SECRET}-s{number}"}}
    call = {"function": {"name": "getWeather", "arguments": f'{{"place": "{number}"}}'}, **signed}
    deltas = [beside, {"content": "Done."} if ends else {"tool_calls": [call]}, {}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"} for delta in deltas]
    return Raw([*(b"data: " + json.dumps({"choices": [each]}).encode() + b"\n\n" for each in choices)])


async def test_an_engine_s_fields_are_sent_back_within_the_run(
    upstream: ScriptedUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "threadhold.db"
    rounds = 3
    upstream.script(*[thinking(number) for number in range(rounds)], thinking(rounds, ends=True), Reply("Fine."))
    shown: list[Any] = []
    with caplog.at_level("DEBUG"):
        async with harness(upstream, path) as small:
            started = await small.start_run(tools=[WEATHER])
            shown += [event.data() for event in await small.events(started.run_id)]
        for _ in range(rounds):  # each round after a restart
            async with harness(upstream, path) as small:
                started = await answer(small, started, "68")
                shown += [event.data() for event in await small.events(started.run_id, after=started.after)]
                shown += [*await small.rows("step", started), *await small.rows("message", started)]
        async with harness(upstream, path) as small:
            assert (await small.run(started))["status"] == "completed"
            thread_id = started.run["thread_id"]
            later = await small.start(thread_id, await small.assistant(tools=[WEATHER]))
            await small.events(later.run_id)
    for number in range(rounds + 1):
        admission = [
            message for message in upstream.requests[number].body["messages"] if message["role"] == "assistant"
        ]
        assert len(admission) == number
        for index, turn in enumerate(admission):
            assert turn["x_state"] == f"{SECRET}-{index}"
            assert turn["details"] == [{"index": 0, "data": f"{SECRET}-d{index}"}]
            assert turn["tool_calls"][0]["extra_content"] == {"signature": f"{SECRET}-s{index}"}
    assert SECRET not in str(upstream.requests[-1].body)
    assert shown
    assert SECRET not in str(shown)
    assert SECRET not in caplog.text
