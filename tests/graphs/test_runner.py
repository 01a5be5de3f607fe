"""A run from its start to each of its ends: rows, events, order, locks, budgets, cancel, expiry."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from graphs.log import BLOCK
from graphs.runner import StartedRun
from store.ports import Delete, Insert, Patch, RequireNoActiveRun, Row
from tests.graphs.harness import OWNER, TIME, WEATHER, Clock, Harness, harness, names, text_of, until
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream
from wire.errors import InvalidRequest, NotFound, ThreadBusy, ThreadholdError, Unavailable
from wire.ids import new_id
from wire.messages import MessageCreate, new_message

MESSAGE = ["run.step.created", "run.step.in_progress", "message.created", "message.in_progress", "message.delta"]
START = ["run.created", "run.queued", "run.in_progress"]
WHOLE = [*START, *MESSAGE, "message.completed", "run.step.completed", "run.completed"]
CALLS = ["run.step.created", "run.step.in_progress", "run.step.delta"]


def wanted(run: dict[str, Any]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return calls


async def answer(small: Harness, started: StartedRun, *outputs: str) -> StartedRun:
    calls = wanted(await small.run(started))
    given = [{"tool_call_id": call["id"], "output": text} for call, text in zip(calls, outputs, strict=True)]
    return await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, given)


# --- normal runs ------------------------------------------------------------------------------------------------------


async def test_events_have_the_reference_order_and_the_message_s_text(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("One two three."))
    async with harness(upstream) as small:
        started = await small.start_run()
        assert started.run["status"] == "queued"
        events = await small.events(started.run_id)
        assert names(events) == WHOLE
        assert [event.number for event in events] == list(range(len(events)))
        run = await small.run(started)
        assert run["status"] == "completed"
        assert run["usage"]["completion_tokens"] > 0
        assert run["expires_at"] is None
        assert run["completed_at"] is not None
        (step,) = await small.rows("step", started)
        assert step["usage"] == run["usage"]
        messages = await small.rows("message", started)
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert messages[1]["content"][0]["text"]["value"] == text_of(events) == "One two three."
        assert messages[1]["status"] == "completed"


async def test_a_read_after_an_event_sees_at_least_its_state(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("a b c d"))
    async with harness(upstream) as small:
        started = await small.start_run()
        async for batch in small.runner.follow(started.run_id, after=-1):
            for event in batch:
                if event.name == "thread.message.created":
                    assert len(await small.rows("message", started)) == 2
                if event.name == "thread.run.completed":
                    assert (await small.run(started))["status"] == "completed"


async def test_the_log_replays_from_every_number_live_and_afterwards(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("a b c d e f", delay_s=0.01))
    async with harness(upstream) as small:
        started = await small.start_run()
        live = await asyncio.gather(*(small.events(started.run_id, after) for after in range(-1, 12)))
        whole = live[0]
        for after, seen in enumerate(live, start=-1):
            assert seen == whole[after + 1 :]
        for after in range(-1, len(whole) + 2):
            assert await small.events(started.run_id, after) == whole[after + 1 :]


async def test_texts_of_one_read_are_separate_ordered_deltas(upstream: ScriptedUpstream) -> None:
    texts = ["", "a", "b", "", " ", "ü😀", "<b>", "[c]", *(f"w{n} " for n in range(600))]
    events = [
        b"data: "
        + orjson.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
        + b"\n\n"
        for text in texts
    ]
    ended = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    upstream.script(Raw([b"".join(events) + ended]))
    async with harness(upstream) as small:
        events = await small.events((await small.start_run()).run_id)
    deltas = [event.data()["delta"]["content"] for event in events if event.name == "thread.message.delta"]
    assert [[part["text"]["value"] for part in delta] for delta in deltas] == [[text] for text in texts if text]


async def test_numbers_are_reserved_in_the_row_before_they_are_used(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["x"] * (3 * BLOCK)))
    async with harness(upstream) as small:
        started = await small.start_run()
        seen = -1
        async for batch in small.runner.follow(started.run_id, after=-1):
            seen = batch[-1].number
            row = await small.store.get("run", started.run_id, OWNER, thread_id=started.run["thread_id"])
            assert row is not None
            assert row.private["next_event"] > seen
        assert seen > 3 * BLOCK
        assert [event.number for event in await small.events(started.run_id)] == list(range(seen + 1))


async def test_a_reader_that_leaves_does_not_stop_the_run(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("a b c d e f", delay_s=0.01))
    async with harness(upstream) as small:
        started = await small.start_run()
        async for _ in small.runner.follow(started.run_id, after=-1):
            break
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
        assert upstream.closed_early == 0


async def test_the_prompt_has_instructions_history_and_additional_messages(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Reply("first"), Reply("second"))
    async with harness(upstream) as small:
        assistant = await small.assistant(instructions="Be brief.")
        thread = await small.thread("Hello")
        await small.events((await small.start(thread, assistant)).run_id)
        more = {"additional_instructions": "Be kind.", "additional_messages": [{"role": "user", "content": "Again"}]}
        await small.events((await small.start(thread, assistant, **more)).run_id)
        sent = upstream.requests[1].body["messages"]
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
        assert "Be brief." in sent[0]["content"]
        assert "Be kind." in sent[0]["content"]
        assert [message["content"] for message in sent[1:]] == ["Hello", "first", "Again"]


# --- tools ------------------------------------------------------------------------------------------------------------


async def test_a_function_call_pauses_the_run_until_its_output(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getWeather", {"place": "Paris"})]), Reply("It is 20 degrees."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER])
        first = await small.events(started.run_id)
        assert names(first) == [*START, *CALLS, "run.requires_action"]
        run = await small.run(started)
        (call,) = wanted(run)
        assert call["function"] == {"name": "getWeather", "arguments": call["function"]["arguments"]}
        again = await answer(small, started, "20")
        assert again.run["status"] == "queued"
        assert again.run["required_action"] is None
        second = await small.events(started.run_id, again.after)
        assert names(second) == [
            "run.step.completed", "run.queued", "run.in_progress",
            *MESSAGE, "message.completed", "run.step.completed", "run.completed",
        ]  # fmt: skip
        steps = await small.rows("step", started)
        assert [step["type"] for step in steps] == ["tool_calls", "message_creation"]
        assert steps[0]["step_details"]["tool_calls"][0]["function"]["output"] == "20"
        assert second[0].data()["id"] == steps[0]["id"]
        tool = upstream.requests[1].body["messages"][-1]
        assert (tool["role"], tool["content"]) == ("tool", "20")
        final = await small.run(started)
        assert final["usage"]["total_tokens"] == sum(step["usage"]["total_tokens"] for step in steps)


async def test_parallel_calls_are_answered_in_one_request_in_any_order(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getWeather", {"place": "Rome"}), ("getTime", {})]), Reply("Done."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER, TIME])
        await small.events(started.run_id)
        first, second = wanted(await small.run(started))
        given = [
            {"tool_call_id": second["id"], "output": "noon"},
            {"tool_call_id": first["id"], "output": "sunny"},
        ]
        again = await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, given)
        await small.events(started.run_id, again.after)
        answers = [one["content"] for one in upstream.requests[1].body["messages"] if one["role"] == "tool"]
        assert answers == ["sunny", "noon"]


async def test_rounds_of_calls_follow_each_other(upstream: ScriptedUpstream) -> None:
    upstream.script(
        Reply(tool_calls=[("getTime", {})]), Reply(tool_calls=[("getWeather", {"place": "x"})]), Reply("Both.")
    )
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER, TIME])
        await small.events(started.run_id)
        again = await answer(small, started, "noon")
        await small.events(started.run_id, again.after)
        again = await answer(small, started, "sun")
        assert names(await small.events(started.run_id, again.after))[-1] == "run.completed"
        roles = [message["role"] for message in upstream.requests[2].body["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant", "tool"]


async def test_after_the_last_round_the_model_replies_without_tools(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Reply("Enough."))
    async with harness(upstream, max_tool_rounds=1) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        again = await answer(small, started, "noon")
        await small.events(started.run_id, again.after)
        assert (await small.run(started))["status"] == "completed"
        assert "tools" in upstream.requests[0].body
        assert "tools" not in upstream.requests[1].body


async def test_a_required_choice_binds_until_the_first_call(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Reply("Noon."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME], tool_choice="required")
        await small.events(started.run_id)
        again = await answer(small, started, "noon")
        await small.events(started.run_id, again.after)
        assert upstream.requests[0].body["tool_choice"] == "required"
        assert upstream.requests[1].body.get("tool_choice", "auto") == "auto"


async def test_only_the_model_sees_a_call_of_an_unknown_function(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("inventedOne", {})]), Reply("Sorry."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        assert names(await small.events(started.run_id)) == WHOLE
        assert "inventedOne" in upstream.requests[1].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda ids: [], "Expected tool outputs for call_ids {ids}, got []"),
        (lambda ids: ids[:1], "Expected tool outputs for call_ids {ids}, got {first}"),
        (lambda ids: [*ids, "call_other"], "Expected tool outputs for call_ids {ids}, got {more}"),
    ],
    ids=["none", "one of two", "one too many"],
)
async def test_outputs_must_be_for_exactly_the_waiting_calls(
    upstream: ScriptedUpstream, give: Any, message: str
) -> None:
    upstream.script(Reply(tool_calls=[("getWeather", {"place": "x"}), ("getTime", {})]))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[WEATHER, TIME])
        await small.events(started.run_id)
        ids = [call["id"] for call in wanted(await small.run(started))]
        given = [{"tool_call_id": id, "output": ""} for id in give(ids)]
        with pytest.raises(InvalidRequest) as caught:
            await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, given)
        assert caught.value.message == message.format(ids=ids, first=ids[:1], more=[*ids, "call_other"])
        assert (await small.run(started))["status"] == "requires_action"


async def test_two_concurrent_submissions_count_once(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Reply("Noon."))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        results = await asyncio.gather(*(answer(small, started, "noon") for _ in range(3)), return_exceptions=True)
        assert sum(isinstance(result, StartedRun) for result in results) == 1
        await small.events(started.run_id)
        assert len(upstream.requests) == 2


# --- locks ------------------------------------------------------------------------------------------------------------


async def test_a_second_run_is_refused_and_its_call_is_stopped(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(*[Reply("a b c", delay_s=0.05)] * 9)  # one more for the next turn
    async with harness(upstream) as small:
        thread, assistant = await small.thread("Hi"), await small.assistant()
        results = await asyncio.gather(*(small.start(thread, assistant) for _ in range(8)), return_exceptions=True)
        (won,) = [result for result in results if isinstance(result, StartedRun)]
        for result in results:
            if isinstance(result, ThreadholdError):
                assert result.message == f"Thread {thread} already has an active run {won.run_id}."
        await small.events(won.run_id)
        await until(lambda: small.runner.executing == 0 and upstream.open_streams == 0)
        assert len(await small.rows("message", won)) == 2
        assert (await small.run(await small.start(thread, assistant)))["status"] in ("queued", "in_progress")


async def test_a_message_stored_before_the_run_is_shown_to_the_model(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        assistant = await small.assistant()
        for _ in range(10):
            thread = await small.thread("base")
            starting = asyncio.ensure_future(small.start(thread, assistant))
            added = []
            for number in range(4):
                body = new_message(
                    MessageCreate(role="user", content=f"n{number}"), id=new_id("msg"), thread_id=thread, now=1
                )
                row = Row("message", body["id"], OWNER, body, thread)
                with suppress(ThreadBusy):
                    await small.store.commit([RequireNoActiveRun(thread, OWNER), Insert(row)], durable=True)
                    added.append(f"n{number}")
            started = await starting
            await small.events(started.run_id)
            sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
            assert sent == ["base", *added]


async def test_deleting_an_unfinished_message_does_not_fail_its_run(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three", pause_after=2))
    async with harness(upstream) as small:
        started = await small.start_run()
        async for batch in small.runner.follow(started.run_id, after=-1):
            if batch[-1].name == "thread.message.delta":
                break
        message = (await small.rows("message", started))[1]["id"]
        await small.store.commit([Delete("message", message, OWNER)], durable=True)
        upstream.release()
        events = await small.events(started.run_id)
        assert names(events)[-3:] == ["message.completed", "run.step.completed", "run.completed"]
        assert [one["role"] for one in await small.rows("message", started)] == ["user"]


async def test_metadata_of_an_unfinished_message_is_kept(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three", pause_after=2))
    async with harness(upstream) as small:
        started = await small.start_run()
        async for batch in small.runner.follow(started.run_id, after=-1):
            if batch[-1].name == "thread.message.delta":
                break
        message = (await small.rows("message", started))[1]["id"]
        small.runner.note_message(started.run_id, message, {"a": "b"})
        await small.store.commit([Patch("message", message, OWNER, {"metadata": {"a": "b"}})], durable=True)
        upstream.release()
        events = await small.events(started.run_id)
        completed = next(event.data() for event in events if event.name == "thread.message.completed")
        assert completed == (await small.rows("message", started))[1]
        assert completed["metadata"] == {"a": "b"}


async def test_unknown_objects_are_named(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as small:
        thread, assistant = await small.thread("Hi"), await small.assistant()
        with pytest.raises(NotFound, match="No assistant found with id 'asst_x'"):
            await small.start(thread, "asst_x")
        with pytest.raises(NotFound, match="No thread found with id 'thread_x'"):
            await small.start("thread_x", assistant)
        with pytest.raises(NotFound, match="No run found with id 'run_x'"):
            await small.runner.cancel(OWNER, thread, "run_x")


# --- cancel -----------------------------------------------------------------------------------------------------------


async def test_cancel_stops_the_upstream_and_keeps_the_partial_text(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three four", pause_after=3))
    async with harness(upstream) as small:
        started = await small.start_run()
        seen = 0
        async for batch in small.runner.follow(started.run_id, after=-1):
            seen += sum(event.name == "thread.message.delta" for event in batch)
            if seen >= 2:
                break
        run = await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        assert run["status"] == "cancelling"
        await until(lambda: upstream.open_streams == 0, 1.0)
        events = await small.events(started.run_id)
        assert names(events) == [
            *START, *MESSAGE, "run.cancelling", "message.incomplete", "run.step.cancelled", "run.cancelled",
        ]  # fmt: skip
        message = (await small.rows("message", started))[1]
        assert message["incomplete_details"] == {"reason": "run_cancelled"}
        assert message["content"][0]["text"]["value"] == text_of(events) != ""
        final = await small.run(started)
        assert final["cancelled_at"] is not None
        (step,) = await small.rows("step", started)
        assert final["usage"] == step["usage"]
        assert final["usage"]["completion_tokens"] > 0
        assert final["usage"]["prompt_tokens"] > 0
        assert upstream.closed_early == 1


async def test_cancel_works_before_the_first_token(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream) as small:
        started = await small.start_run()
        await until(lambda: len(upstream.requests) == 1)
        await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        assert names(await small.events(started.run_id)) == [*START, "run.cancelling", "run.cancelled"]


async def test_cancel_works_while_the_run_waits_for_outputs(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        run = await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        assert run["status"] == "cancelling"
        assert run["required_action"] is None
        assert names(await small.events(started.run_id))[-3:] == [
            "run.cancelling",
            "run.step.cancelled",
            "run.cancelled",
        ]
        assert (await small.rows("step", started))[0]["cancelled_at"] is not None


async def test_an_ended_run_cannot_be_cancelled(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("x"))
    async with harness(upstream) as small:
        started = await small.start_run()
        await small.events(started.run_id)
        with pytest.raises(InvalidRequest, match=r"^Cannot cancel run with status 'completed'\.$"):
            await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (Fail(400, {"error": {"message": "no"}}), "failed"),
        (Reply("x", finish="length"), "incomplete"),
        (Hang(), "expired"),
    ],
    ids=["failed", "incomplete", "expired"],
)
async def test_a_run_with_any_final_status_cannot_be_cancelled(
    upstream: ScriptedUpstream, step: Any, status: str
) -> None:
    upstream.script(step)
    async with harness(upstream) as small:
        started = await small.start_run()
        await until(lambda: len(upstream.requests) == 1)
        if status == "expired":
            small.clock.now += 601
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == status
        with pytest.raises(InvalidRequest, match=rf"^Cannot cancel run with status '{status}'\.$"):
            await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)


async def test_concurrent_cancels_cancel_once(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two", pause_after=2))
    async with harness(upstream) as small:
        started = await small.start_run()
        await until(lambda: upstream.open_streams == 1)
        calls = [small.runner.cancel(OWNER, started.run["thread_id"], started.run_id) for _ in range(4)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, dict) for result in results) == 1
        assert names(await small.events(started.run_id)).count("run.cancelled") == 1


async def test_deleting_the_thread_stops_the_run_and_its_upstream(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two", pause_after=2))
    async with harness(upstream) as small:
        started = await small.start_run()
        await until(lambda: upstream.open_streams == 1)
        reading = asyncio.ensure_future(small.events(started.run_id))
        await asyncio.sleep(0)
        await small.runner.delete_thread(OWNER, started.run["thread_id"])
        with pytest.raises(NotFound, match="was deleted while its run was active"):
            await reading
        await until(lambda: upstream.open_streams == 0, 1.0)
        assert await small.store.get("run", started.run_id, OWNER) is None
        assert await small.store.events(started.run_id, after=-1, limit=10) == []


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_a_run_beyond_its_time_limit_expires_and_stops_its_upstream(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two", pause_after=2))
    async with harness(upstream, expiry_s=600) as small:
        started = await small.start_run()
        async for batch in small.runner.follow(started.run_id, after=-1):
            if batch[-1].name == "thread.message.delta":
                break
        small.clock.now += 601
        events = await small.events(started.run_id)
        assert names(events)[-3:] == ["message.incomplete", "run.step.expired", "run.expired"]
        await until(lambda: upstream.open_streams == 0, 1.0)
        assert (await small.rows("message", started))[1]["incomplete_details"] == {"reason": "run_expired"}


async def test_late_outputs_find_the_run_expired(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]))
    async with harness(upstream) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
        run = await small.run(started)
        small.clock.now += 601
        outputs = [{"tool_call_id": wanted(run)[0]["id"], "output": ""}]
        with pytest.raises(InvalidRequest, match=r'^Runs in status "expired" do not accept tool outputs'):
            await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, outputs)
        assert (await small.run(started))["status"] == "expired"
        assert (await small.rows("step", started))[0]["expired_at"] is not None


# --- failures and limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Fail(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}), "rate_limit_exceeded"),
        (Fail(500, {"error": {"message": "oh"}}, {"Retry-After": "0"}), "server_error"),
        (Fail(400, {"error": {"message": "bad thing"}}), "invalid_prompt"),
        (Raw([b"data: {nonsense\n\n"]), "server_error"),
        (Raw([b"<html>hello</html>"], content_type="text/html"), "server_error"),
    ],
    ids=["429", "500", "400", "garbage", "html"],
)
async def test_an_upstream_failure_fails_the_run_with_its_code(
    upstream: ScriptedUpstream, step: Any, code: str
) -> None:
    upstream.script(*[step] * 3)
    async with harness(upstream) as small:
        started = await small.start_run()
        assert names(await small.events(started.run_id)) == [*START, "run.failed"]
        run = await small.run(started)
        assert run["last_error"]["code"] == code
        assert run["failed_at"] is not None
        await small.start_run()


async def test_a_broken_stream_closes_open_objects_before_it_fails(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two three", cut_after=2))
    async with harness(upstream) as small:
        started = await small.start_run()
        assert names(await small.events(started.run_id)) == [
            *START, *MESSAGE, "message.incomplete", "run.step.failed", "run.failed",
        ]  # fmt: skip
        assert (await small.rows("message", started))[1]["incomplete_details"] == {"reason": "run_failed"}


async def test_a_completion_budget_makes_the_run_incomplete(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply("one two", finish="length"))
    async with harness(upstream) as small:
        started = await small.start_run(max_completion_tokens=300)
        assert names(await small.events(started.run_id))[-3:] == [
            "message.incomplete",
            "run.step.completed",
            "run.incomplete",
        ]
        run = await small.run(started)
        assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
        assert (await small.rows("message", started))[1]["incomplete_details"] == {"reason": "max_tokens"}
        assert upstream.requests[0].body["max_tokens"] == 300


async def test_a_prompt_budget_fails_only_if_the_newest_message_exceeds_it(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Reply("ok"))
    async with harness(upstream) as small:
        assistant = await small.assistant()
        long = await small.thread("old " * 4000, "short question")
        fits = await small.start(long, assistant, max_prompt_tokens=300)
        await small.events(fits.run_id)
        assert (await small.run(fits))["status"] == "completed"
        assert [message["content"] for message in upstream.requests[0].body["messages"]] == ["short question"]
        huge = await small.thread("new " * 4000)
        over = await small.start(huge, assistant, max_prompt_tokens=300)
        await small.events(over.run_id)
        run = await small.run(over)
        assert run["status"] == "incomplete"
        assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
        assert len(upstream.requests) == 1


async def test_an_overlong_prompt_is_shortened_without_an_error(upstream: ScriptedUpstream) -> None:
    message = "This model's maximum context length is 2048 tokens. However, you requested 2078 tokens"
    error = {"error": {"message": message, "type": "invalid_request_error", "code": "context_length_exceeded"}}
    upstream.script(Fail(400, error), Reply("Fine."))
    async with harness(upstream) as small:
        thread = await small.thread(*[f"message {number} " * 60 for number in range(12)], "the question")
        started = await small.start(thread, await small.assistant(instructions="Rules."))
        assert [name for name in names(await small.events(started.run_id)) if name != "threadhold.context"] == WHOLE
        first, second = (request.body["messages"] for request in upstream.requests)
        assert len(second) < len(first)
        assert second[0]["content"] == "Rules."
        assert second[-1]["content"] == "the question"


# --- shutdown ---------------------------------------------------------------------------------------------------------


async def test_parked_runs_continue_after_a_restart_with_the_same_ids(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.script(Reply("one two three", pause_after=3), Reply("four five"))
    path, clock = tmp_path / "t.db", Clock()
    async with harness(upstream, path, clock) as small:
        started = await small.start_run()
        seen = []
        with pytest.raises(Unavailable):
            async for batch in small.runner.follow(started.run_id, after=-1):
                seen += batch
                if sum(event.name == "thread.message.delta" for event in seen) == 2:
                    await small.runner.drain(0)
        await until(lambda: upstream.open_streams == 0, 1.0)
        with pytest.raises(Unavailable):
            await small.start_run()
    async with harness(upstream, path, clock) as small:
        later = await small.events(started.run_id, after=seen[-1].number)
        assert later[0].name == "threadhold.reset"
        assert names(later)[1:] == [*MESSAGE, "message.completed", "run.step.completed", "run.completed"]
        message_ids = {event.data()["id"] for event in [*seen, *later] if event.name.startswith("thread.message.")}
        assert len(message_ids) == 1
        assert message_ids <= set(later[0].data()["message_ids"])
        assert len({event.number for event in [*seen, *later]}) == len(seen) + len(later)
        whole = await small.events(started.run_id)
        assert text_of(whole) == "four five"
        assert [message["role"] for message in await small.rows("message", started)] == ["user", "assistant"]


async def test_a_waiting_run_still_waits_after_a_restart(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(tool_calls=[("getTime", {})]), Reply("Noon."))
    path, clock = tmp_path / "t.db", Clock()
    async with harness(upstream, path, clock) as small:
        started = await small.start_run(tools=[TIME])
        await small.events(started.run_id)
    async with harness(upstream, path, clock) as small:
        again = await answer(small, started, "noon")
        assert names(await small.events(started.run_id, again.after))[-1] == "run.completed"
        assert len(upstream.requests) == 2


async def test_a_reader_that_returns_late_continues_without_a_gap(upstream: ScriptedUpstream) -> None:
    """By then the run has released its events, and they are read from the store."""
    upstream.script(Reply(chunks=["x"] * 3000))
    async with harness(upstream) as w:
        started = await w.start_run()
        reading = w.runner.follow(started.run_id, after=-1)
        numbers = [event.number for event in await anext(reading)]
        await upstream.eventually(lambda up: up.finished == 1)
        while (await w.run(started))["status"] != "completed":
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.2)
        numbers += [event.number async for batch in reading for event in batch]
        assert numbers == list(range(numbers[-1] + 1))
        assert len(numbers) > 3000


async def test_a_long_run_keeps_few_events_but_late_readers_get_all(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(chunks=["x"] * 6000, pause_after=5000))
    async with harness(upstream) as w:
        started = await w.start_run()
        log = w.runner._execution.get(started.run_id).log  # type: ignore[union-attr]
        async with asyncio.timeout(20):
            while log.first < 2000:
                await asyncio.sleep(0.02)
        assert len(log._events) < 4000
        reading = w.runner.follow(started.run_id, after=-1)
        numbers = [event.number for event in await anext(reading)]
        upstream.release()
        numbers += [event.number async for batch in reading for event in batch]
        assert numbers == list(range(numbers[-1] + 1))
        assert len(numbers) > 6000
