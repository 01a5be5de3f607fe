"""Runs over HTTP: answers, streams, the replay of events, and the exact error messages."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient
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


def stream(api: ApiClient, path: str, body: Any = None, **options: Any) -> list[tuple[str | None, str, str]]:
    method = "GET" if body is None else "POST"
    with api.client.stream(method, path, json=body, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(frames(answer))


def test_a_run_has_every_field_in_every_status(api: ApiClient) -> None:
    made = api.run(metadata={"a": "b"}, max_completion_tokens=-1, temperature=0.1)
    check(Run, made)
    assert (made["status"], made["usage"], made["started_at"]) == ("queued", None, None)
    assert made["expires_at"] == made["created_at"] + 600
    assert made["max_completion_tokens"] is None
    ended = api.wait_ended(made)
    check(Run, ended)
    assert (ended["status"], ended["expires_at"], ended["metadata"]) == ("completed", None, {"a": "b"})
    for step in api.get(f"/threads/{made['thread_id']}/runs/{made['id']}/steps")["data"]:
        check(RunStep, step)


def test_an_active_run_has_a_polling_interval(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = api.run()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    assert int(api.client.get(path).headers["openai-poll-after-ms"]) < 1000
    api.post(f"{path}/cancel")
    api.wait_ended(run)
    assert "openai-poll-after-ms" not in api.client.get(path).headers


def test_a_stream_ends_with_done_and_numbers_its_events(api: ApiClient) -> None:
    assistant, thread = api.assistant(), api.thread("Hi")
    seen = stream(api, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    assert seen[0][1] == "thread.run.created"
    assert seen[-1] == (None, "done", "[DONE]")
    assert [id for id, _, _ in seen[:-1]] == [str(number) for number in range(len(seen) - 1)]


def test_create_and_run_streams_the_thread_first(api: ApiClient) -> None:
    body = {
        "assistant_id": api.assistant(),
        "stream": True,
        "thread": {"messages": [{"role": "user", "content": "Hi"}]},
    }
    seen = stream(api, "/threads/runs", body)
    assert [name for _, name, _ in seen[:3]] == ["thread.created", "thread.run.created", "thread.run.queued"]


def test_the_events_of_an_ended_run_replay_from_any_number(api: ApiClient) -> None:
    run = api.wait_ended(api.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/events"
    complete = stream(api, path)
    assert complete[-2][1] == "thread.run.completed"
    for after in (0, 3, len(complete) - 2, 10_000):
        rest = complete[after + 1 :] or [complete[-1]]
        assert stream(api, f"{path}?after={after}") == rest
        assert stream(api, path, headers={"Last-Event-ID": str(after)}) == rest


@pytest.mark.parametrize("after", ["-2", "x", "1.5"])
def test_an_invalid_event_number_is_refused(api: ApiClient, after: str) -> None:
    run = api.wait_ended(api.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/events"
    assert api.get(f"{path}?after={after}", 400)["error"]["param"] == "after"


def test_a_function_call_streams_in_two_parts(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply(tool_calls=[("getTime", {"zone": "UTC"})]), Reply("Noon."))
    assistant, thread = api.assistant(tools=[TIME]), api.thread("When?")
    first = stream(api, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    assert [name for _, name, _ in first[-2:]] == ["thread.run.requires_action", "done"]
    run = json.loads(first[-2][2])
    check(Run, run)
    call = run["required_action"]["submit_tool_outputs"]["tool_calls"][0]
    outputs = [{"tool_call_id": call["id"], "output": "12:00"}]
    path = f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs"
    second = stream(api, path, {"tool_outputs": outputs, "stream": True})
    assert second[0][1] == "thread.run.step.completed"
    assert [name for _, name, _ in second[-2:]] == ["thread.run.completed", "done"]
    error = api.post(path, {"tool_outputs": outputs}, 400)["error"]
    assert error["message"] == 'Runs in status "completed" do not accept tool outputs.'


def test_a_second_run_is_refused_with_the_expected_message(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = api.run()
    thread = run["thread_id"]
    error = api.post(f"/threads/{thread}/runs", {"assistant_id": run["assistant_id"]}, 400)["error"]
    assert error["message"] == f"Thread {thread} already has an active run {run['id']}."
    api.post(f"/threads/{thread}/runs/{run['id']}/cancel")
    api.wait_ended(run)


def test_cancel_answers_cancelling_and_cannot_be_repeated(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("a", start_s=30))
    run = api.run()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/cancel"
    assert api.client.post(path).json()["status"] == "cancelling"
    assert api.wait_ended(run)["status"] == "cancelled"
    assert api.post(path, status=400)["error"]["message"] == "Cannot cancel run with status 'cancelled'."


def test_metadata_of_a_run_changes_in_any_status(api: ApiClient) -> None:
    run = api.wait_ended(api.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    assert api.post(path, {"metadata": {"a": "b"}}) == {**run, "metadata": {"a": "b"}}
    assert api.post(path, {}) == {**run, "metadata": {"a": "b"}}


def test_overrides_of_a_run_reach_the_model(api: ApiClient, upstream: ScriptedUpstream) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}
    run = api.run(
        model="gpt-4o", instructions="New.", temperature=0.2, top_p=0.9, response_format=schema,
        tools=[TIME], tool_choice={"type": "function", "function": {"name": "getTime"}}, parallel_tool_calls=False,
        reasoning_effort="low", max_completion_tokens=77,
    )  # fmt: skip
    api.wait_ended(run)
    sent = upstream.requests[-1].body
    assert sent["model"] == "test-model"
    assert sent["messages"][0] == {"role": "system", "content": "New."}
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["reasoning_effort"]) == (0.2, 0.9, 77, "low")
    assert sent["response_format"] == schema
    assert sent["tool_choice"]["function"] == {"name": "getTime"}
    assert sent["parallel_tool_calls"] is False


def test_unset_sampling_is_left_to_the_upstream(api: ApiClient, upstream: ScriptedUpstream) -> None:
    run = api.wait_ended(api.run())
    assert (run["temperature"], run["top_p"]) == (1.0, 1.0)
    assert not {"temperature", "top_p", "tools", "tool_choice", "max_tokens"} & upstream.requests[-1].body.keys()


@pytest.mark.parametrize("value", ["auto", "step_details"])
def test_include_has_one_value(api: ApiClient, value: str) -> None:
    run = api.wait_ended(api.run())
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/steps"
    api.get(path, params={"include[]": "step_details.tool_calls[*].file_search.results[*].content"})
    assert api.get(path, 400, params={"include[]": value})["error"]["param"] == "include[]"


def test_a_step_is_found_under_its_run_only(api: ApiClient) -> None:
    one, other = api.wait_ended(api.run()), api.wait_ended(api.run())
    path = f"/threads/{one['thread_id']}/runs/{one['id']}/steps"
    step = api.get(path)["data"][0]
    assert api.get(f"{path}/{step['id']}") == step
    api.get(f"/threads/{other['thread_id']}/runs/{other['id']}/steps/{step['id']}", 404)


def test_a_v1_client_s_stream_has_file_ids(api: ApiClient) -> None:
    body = {"assistant_id": api.assistant(), "stream": True}
    seen = stream(api, f"/threads/{api.thread('x')}/runs", body, headers={"OpenAI-Beta": "assistants=v1"})
    data = [json.loads(data) for _, name, data in seen if name in ("thread.run.created", "thread.message.completed")]
    assert [one["file_ids"] for one in data] == [[], []]


def test_a_reader_that_leaves_does_not_stop_the_run(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("a b c d", delay_s=0.02))
    assistant, thread = api.assistant(), api.thread("x")
    with api.client.stream(
        "POST", f"/threads/{thread}/runs", json={"assistant_id": assistant, "stream": True}
    ) as answer:
        run = json.loads(next(frames(answer))[2])
    assert api.wait_ended(run)["status"] == "completed"
