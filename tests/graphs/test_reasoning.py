"""Reasoning in a run: in the log, under the message's id; not in the message, and not in the next prompt."""

from typing import Any

from store.ports import Retract
from tests.graphs.harness import WEATHER, harness, names, text_of
from tests.upstream import Reply, ScriptedUpstream


def reasoning_of(events: Any) -> str:
    return "".join(event.data()["text"] for event in events if event.name == "threadhold.reasoning.delta")


async def test_reasoning_is_shown_and_never_sent_again(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["<think>", "let me", " see</think>", "4", "2"]))
    async with harness(upstream) as deps:
        started = await deps.start_run("6 x 7?")
        events = await deps.events(started.run_id)
        assert names(events)[3:] == [
            "threadhold.reasoning.delta",
            "run.step.created",
            "run.step.in_progress",
            "message.created",
            "message.in_progress",
            "message.delta",
            "message.completed",
            "run.step.completed",
            "run.completed",
        ]
        assert (reasoning_of(events), text_of(events)) == ("let me see", "42")
        message = (await deps.rows("message", started))[-1]
        assert message["content"][0]["text"]["value"] == "42"
        result = next(event.data() for event in events if event.name == "threadhold.reasoning.delta")
        assert (result["id"], result["run_id"]) == (message["id"], started.run_id)
        assert (result["object"], result["event"]) == ("threadhold.reasoning.delta",) * 2
        again = await deps.start(started.run["thread_id"], started.run["assistant_id"])
        await deps.events(again.run_id)
        assert upstream.requests[-1].body["messages"][-1] == {"role": "assistant", "content": "42"}
        # A reply that a crash interrupted is dropped by its message's id, including its reasoning.
        await deps.store.commit([Retract(started.run_id, frozenset({message["id"]}))], durable=True)
        assert reasoning_of(await deps.store.events(started.run_id, after=-1, limit=99)) == ""


async def test_reasoning_before_a_call_opens_no_message(upstream: ScriptedUpstream) -> None:
    upstream.script(
        Reply(chunks=["<think>rain?</think>"], tool_calls=[("getWeather", {"place": "Pau"})]), Reply("Dry.")
    )
    async with harness(upstream) as deps:
        started = await deps.start_run("Rain?", tools=[WEATHER])
        events = await deps.events(started.run_id)
        assert "message.created" not in names(events)
        assert reasoning_of(events) == "rain?"
        assert (await deps.run(started))["status"] == "requires_action"
        assert "rain?" not in str(await deps.rows("step", started))


async def test_text_reclassified_as_reasoning_leaves_the_message(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["let me", " see\n", "</think>", "\n\n42"]))
    async with harness(upstream) as deps:
        started = await deps.start_run("6 x 7?")
        events = await deps.events(started.run_id)
        result = [event.data() for event in events if event.name == "threadhold.reasoning.delta"]
        assert [(one["text"], one.get("taken")) for one in result] == [("let me see\n", True)]
        message = (await deps.rows("message", started))[-1]
        assert message["content"][0]["text"]["value"] == "42"
        completed = next(event for event in events if event.name == "thread.message.completed")
        assert completed.data()["content"][0]["text"]["value"] == "42"


async def test_reasoning_is_stored_in_batches(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["<think>", *["hm "] * 500, "</think>", "42"]))
    seen: list[str] = []
    async with harness(upstream, trace=seen.append) as deps:
        started = await deps.start_run("6 x 7?")
        events = await deps.events(started.run_id)
        assert reasoning_of(events) == "hm " * 500
        stored = await deps.store.events(started.run_id, after=-1, limit=1000)
        assert stored == events
    assert seen.count("COMMIT") < 50
