"""Runs over HTTP: answers, streams, the replay of events, and the exact error messages."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.api.conftest import World
from tests.objects import check
from tests.upstream import Reply, ScriptedUpstream
from wire.runs import Run
from wire.steps import RunStep

TIME: dict[str, Any] = {"type": "function", "function": {"name": "getTime", "parameters": {"type": "object"}}}


def frames(answer: httpx2.Response) -> Iterator[tuple[str | None, str, str]]:
    """Yield (id, event, data) of each server-sent event."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            key, _, value = line.partition(": ")
            fields[key] = value
        elif fields:
            if "event" in fields:
                yield fields.get("id"), fields["event"], fields["data"]
            fields = {}


def stream(world: World, path: str, body: Any = None, **options: Any) -> list[tuple[str | None, str, str]]:
    method = "GET" if body is None else "POST"
    with world.client.stream(method, path, json=body, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(frames(answer))


def test_a_run_has_every_field_in_every_status(world: World) -> None:
    made = world.run(metadata={"a": "b"}, max_completion_tokens=-1, temperature=0.1)
    check(Run, made)
    assert (made["status"], made["usage"], made["started_at"]) == ("queued", None, None)
    assert made["expires_at"] == made["created_at"] + 600
    assert made["max_completion_tokens"] is None
    ended = world.wait_ended(made)
    check(Run, ended)
    assert (ended["status"], ended["expires_at"], ended["metadata"]) == ("completed", None, {"a": "b"})
    for step in world.get(f"/threads/{made['thread_id']}/runs/{made['id']}/steps")["data"]:
        check(RunStep, step)


def test_an_active_run_has_a_polling_interval(world: World, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = world.run()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    assert int(world.client.get(path).headers["openai-poll-after-ms"]) < 1000
    world.post(f"{path}/cancel")
    world.wait_ended(run)
    assert "openai-poll-after-ms" not in world.client.get(path).headers


def test_a_stream_ends_with_done_and_numbers_its_events(world: World) -> None:
    assistant, thread = world.assistant(), world.thread("Hi")
    seen = stream(world, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    assert seen[0][1] == "thread.run.created"
    assert seen[-1] == (None, "done", "[DONE]")
    assert [id for id, _, _ in seen[:-1]] == [str(number) for number in range(len(seen) - 1)]


def test_create_and_run_streams_the_thread_first(world: World) -> None:
    body = {
        "assistant_id": world.assistant(),
        "stream": True,
        "thread": {"messages": [{"role": "user", "content": "Hi"}]},
    }
    seen = stream(world, "/threads/runs", body)
    assert [name for _, name, _ in seen[:3]] == ["thread.created", "thread.run.created", "thread.run.queued"]


def test_the_events_of_an_ended_run_replay_from_any_number(world: World) -> None:
    run = world.wait_ended(world.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/events"
    complete = stream(world, path)
    assert complete[-2][1] == "thread.run.completed"
    for after in (0, 3, len(complete) - 2, 10_000):
        rest = complete[after + 1 :] or [complete[-1]]
        assert stream(world, f"{path}?after={after}") == rest
        assert stream(world, path, headers={"Last-Event-ID": str(after)}) == rest


@pytest.mark.parametrize("after", ["-2", "x", "1.5"])
def test_an_invalid_event_number_is_refused(world: World, after: str) -> None:
    run = world.wait_ended(world.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/events"
    assert world.get(f"{path}?after={after}", 400)["error"]["param"] == "after"


def test_a_function_call_streams_in_two_parts(world: World, script: Callable[..., None]) -> None:
    script(Reply(tool_calls=[("getTime", {"zone": "UTC"})]), Reply("Noon."))
    assistant, thread = world.assistant(tools=[TIME]), world.thread("When?")
    first = stream(world, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    assert [name for _, name, _ in first[-2:]] == ["thread.run.requires_action", "done"]
    run = json.loads(first[-2][2])
    check(Run, run)
    call = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]
    outputs = [{"tool_call_id": call["id"], "output": "12:00"}]
    path = f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs"
    second = stream(world, path, {"tool_outputs": outputs, "stream": True})
    assert second[0][1] == "thread.run.step.completed"
    assert [name for _, name, _ in second[-2:]] == ["thread.run.completed", "done"]
    error = world.post(path, {"tool_outputs": outputs}, 400)["error"]
    assert error["message"] == 'Runs in status "completed" do not accept tool outputs.'


def test_a_second_run_is_refused_with_the_expected_message(world: World, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = world.run()
    thread = run["thread_id"]
    error = world.post(f"/threads/{thread}/runs", {"assistant_id": run["assistant_id"]}, 400)["error"]
    assert error["message"] == f"Thread {thread} already has an active run {run['id']}."
    world.post(f"/threads/{thread}/runs/{run['id']}/cancel")
    world.wait_ended(run)


def test_cancel_answers_cancelling_and_cannot_be_repeated(world: World, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = world.run()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/cancel"
    assert world.client.post(path).json()["status"] == "cancelling"
    assert world.wait_ended(run)["status"] == "cancelled"
    assert world.post(path, status=400)["error"]["message"] == "Cannot cancel run with status 'cancelled'."


def test_metadata_of_a_run_changes_in_any_status(world: World) -> None:
    run = world.wait_ended(world.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    assert world.post(path, {"metadata": {"a": "b"}}) == {**run, "metadata": {"a": "b"}}
    assert world.post(path, {}) == {**run, "metadata": {"a": "b"}}


def test_overrides_of_a_run_reach_the_model(world: World, upstream: ScriptedUpstream) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}
    run = world.run(
        model="gpt-4o", instructions="New.", temperature=0.2, top_p=0.9, response_format=schema,
        tools=[TIME], tool_choice={"type": "function", "function": {"name": "getTime"}}, parallel_tool_calls=False,
        reasoning_effort="low", max_completion_tokens=77,
    )  # fmt: skip
    world.wait_ended(run)
    sent = upstream.requests[-1].body
    assert sent["model"] == "test-model"
    assert sent["messages"][0] == {"role": "system", "content": "New."}
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["reasoning_effort"]) == (0.2, 0.9, 77, "low")
    assert sent["response_format"] == schema
    assert sent["tool_choice"]["function"] == {"name": "getTime"}
    assert sent["parallel_tool_calls"] is False


def test_unset_sampling_is_left_to_the_upstream(world: World, upstream: ScriptedUpstream) -> None:
    run = world.wait_ended(world.run())
    assert (run["temperature"], run["top_p"]) == (1.0, 1.0)
    assert not {"temperature", "top_p", "tools", "tool_choice", "max_tokens"} & upstream.requests[-1].body.keys()


@pytest.mark.parametrize("value", ["auto", "step_details"])
def test_include_has_one_value(world: World, value: str) -> None:
    run = world.wait_ended(world.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/steps"
    world.get(path, params={"include[]": "step_details.tool_calls[*].file_search.results[*].content"})
    assert world.get(path, 400, params={"include[]": value})["error"]["param"] == "include[]"


def test_a_step_is_found_under_its_run_only(world: World) -> None:
    one, other = world.wait_ended(world.run()), world.wait_ended(world.run())
    path = f"/threads/{one['thread_id']}/runs/{one['id']}/steps"
    step = world.get(path)["data"][0]
    assert world.get(f"{path}/{step['id']}") == step
    world.get(f"/threads/{other['thread_id']}/runs/{other['id']}/steps/{step['id']}", 404)


def test_a_v1_client_s_stream_has_file_ids(world: World) -> None:
    body = {"assistant_id": world.assistant(), "stream": True}
    seen = stream(world, f"/threads/{world.thread('x')}/runs", body, headers={"OpenAI-Beta": "assistants=v1"})
    data = [json.loads(data) for _, name, data in seen if name in ("thread.run.created", "thread.message.completed")]
    assert [one["file_ids"] for one in data] == [[], []]


def test_a_reader_that_leaves_does_not_stop_the_run(world: World, script: Callable[..., None]) -> None:
    script(Reply("a b c d", delay_s=0.02))
    assistant, thread = world.assistant(), world.thread("x")
    with world.client.stream(
        "POST", f"/threads/{thread}/runs", json={"assistant_id": assistant, "stream": True}
    ) as answer:
        run = json.loads(next(frames(answer))[2])
    assert world.wait_ended(run)["status"] == "completed"
