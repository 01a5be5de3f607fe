"""A client gets only the events and fields of its version of the API, unless it asks for more."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from tests.api.conftest import ApiClient
from tests.api.test_runs import TIME, stream
from tests.process import ServerProcess
from tests.sdk_types import SDK_TYPES, UNDECLARED
from tests.upstream import Reply, ScriptedUpstream
from wire.event_names import EVENT_NAMES

# Fields by the types of openai-python 1.20 and openai-node 4.36, the last SDKs for v1.
OF_V1 = {
    "assistant": "id object created_at name description model instructions tools file_ids metadata",
    "thread": "id object created_at metadata",
    "thread.message": "id object created_at thread_id status incomplete_details completed_at incomplete_at role content"
    " file_ids assistant_id run_id metadata",
    "thread.run": "id object created_at thread_id assistant_id status required_action last_error expires_at started_at"
    " cancelled_at failed_at completed_at incomplete_details model instructions tools file_ids metadata usage"
    " temperature max_prompt_tokens max_completion_tokens truncation_strategy tool_choice response_format",
}
THINKING = Reply(chunks=["<think>", "let me", " see</think>", "4", "2"])
ASKED: dict[str, dict[str, Any]] = {
    "header": {"headers": {"x-threadhold-extensions": "true"}},
    "query": {"params": {"extensions": "true"}},
}


def unknown(value: Any, path: str = "") -> Iterator[str]:
    """Return the fields that the SDK's types do not have."""
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, path)
    elif isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name, None), f"{path}.{name}")


def extension_fields(body: dict[str, Any]) -> set[str]:
    """Return the fields of a wire object, or of a list of them, that OpenAI's API does not have."""
    if body["object"] == "list":
        return {name for each in body["data"] for name in extension_fields(each)}
    kind = body["object"]
    allowed = {f".{name}" for name in UNDECLARED.get(kind, ())}
    return {f"{kind}{name}" for name in set(unknown(SDK_TYPES[kind].model_validate(body))) - allowed}


def overlong_thread(api: ApiClient) -> str:
    """Create a thread that does not fit into 500 tokens."""
    return api.thread(*(f"old {number} " + "word " * 300 for number in range(6)), "short")


def extensions_in(seen: list[tuple[str | None, str, str]]) -> set[str]:
    """Return the names of events and fields in a stream that OpenAI's API does not have."""
    named = {name for _, name, _ in seen if name not in EVENT_NAMES or name.startswith("threadhold.")}
    fields = [extension_fields(json.loads(data)) for _, name, data in seen if name.startswith("thread.")]
    return named.union(*fields)


@pytest.mark.parametrize("beta", ["assistants=v2", "assistants=v1"])
def test_a_stream_has_only_openai_s_events_and_fields(api: ApiClient, script: Callable[..., None], beta: str) -> None:
    script(THINKING, Reply(chunks=["hm", "</think>", "42"]), Reply("42"))
    assistant, headers = api.assistant(), {"OpenAI-Beta": beta}
    body = {"assistant_id": assistant, "stream": True}
    asked = [(f"/threads/{api.thread('6 x 7?')}/runs", body), ("/threads/runs", body)]
    asked.append((f"/threads/{overlong_thread(api)}/runs", {**body, "max_prompt_tokens": 500}))
    for path, given in asked:
        seen = stream(api, path, given, headers=headers)
        assert seen[-1][1] == "done"
        assert "thread.run.completed" in [name for _, name, _ in seen]
        if beta.endswith("v2"):
            assert extensions_in(seen) == set()
        assert not [name for _, name, _ in seen if name.startswith("threadhold.")]
        assert not [data for _, _, data in seen if '"threadhold"' in data]


def test_a_stream_of_tool_calls_has_only_openai_s_events(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply(chunks=["<think>time</think>"], tool_calls=[("getTime", {}, "c1")]), THINKING)
    assistant, thread = api.assistant(tools=[TIME]), api.thread("What time is it?")
    seen = stream(api, f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True})
    run = json.loads(seen[-2][2])
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "noon"}], "stream": True}
    more = stream(api, f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs", outputs)
    assert "thread.run.completed" in [name for _, name, _ in more]
    assert extensions_in([*seen, *more]) == set()


@pytest.mark.parametrize("way", [*ASKED, "events"])
def test_extensions_include_every_event_and_field(api: ApiClient, script: Callable[..., None], way: str) -> None:
    script(THINKING, THINKING)
    given = {"assistant_id": api.assistant(), "max_prompt_tokens": 500, "stream": way != "events"}
    path = f"/threads/{overlong_thread(api)}/runs"
    if way == "events":
        run = api.post(path, given)
        seen = stream(api, f"{path}/{run['id']}/events")
    else:
        seen = stream(api, path, given, **ASKED[way])
    names = [name for _, name, _ in seen]
    assert {"threadhold.context", "threadhold.reasoning.delta"} <= set(names)
    ended = json.loads({name: data for _, name, data in seen}["thread.run.completed"])
    assert ended["threadhold"]["left_out_messages"] > 0


@pytest.mark.parametrize("path", ["/assistant/stream", "/assistant/c/N4XyA/stream", "/assistant/stream_log"])
def test_langserve_s_readers_get_every_event(server: ServerProcess, script: Callable[..., None], path: str) -> None:
    script(THINKING)
    answer = httpx2.post(f"{server.url}{path}", json={"input": {"content": "6 x 7?"}}, timeout=10)
    assert "threadhold.reasoning.delta" in answer.text


def test_a_run_shows_omitted_messages_on_request(api: ApiClient) -> None:
    path = f"/threads/{overlong_thread(api)}/runs"
    run = api.post(path, {"assistant_id": api.assistant(), "max_prompt_tokens": 500})
    stream(api, f"{path}/{run['id']}/events")
    for url in (f"{path}/{run['id']}", path):
        assert extension_fields(api.get(url)) == set()
        for asked in ASKED.values():
            assert extension_fields(api.get(url, **asked)) == {"thread.run.threadhold"}
    changed = api.post(f"{path}/{run['id']}", {"metadata": {"a": "b"}})
    assert extension_fields(changed) == set()
    assert extension_fields(api.post(f"{path}/{run['id']}", {"metadata": {}}, **ASKED["header"])) == {
        "thread.run.threadhold"
    }


def test_a_replay_from_any_number_is_the_same_with_gaps(api: ApiClient, script: Callable[..., None]) -> None:
    script(THINKING)
    path = f"/threads/{overlong_thread(api)}/runs"
    live = stream(api, path, {"assistant_id": api.assistant(), "max_prompt_tokens": 500, "stream": True})
    events = f"{path}/{json.loads(live[0][2])['id']}/events"
    complete = stream(api, events)
    numbers = [int(number) for number, _, _ in complete if number is not None]
    assert numbers == list(range(len(numbers)))
    kept = [(number, name) for number, name, _ in complete if not name.startswith("threadhold.")]
    assert [(number, name) for number, name, _ in live] == kept
    assert len(kept) < len(complete)
    for number, _, _ in live[:-1]:
        expected = complete[int(number or 0) + 1 :]
        assert stream(api, events, headers={"Last-Event-ID": number}) == expected
        assert stream(api, events, params={"after": number}) == expected


def test_stored_objects_have_only_openai_s_fields(api: ApiClient) -> None:
    file = api.file()
    store = api.post("/vector_stores", {"name": "n", "description": "mine", "file_ids": [file]})
    path = f"/vector_stores/{store['id']}"
    batch = api.post(f"{path}/file_batches", {"file_ids": [api.file("Dogs bark.")]})
    api.wait_processed(path)
    search = {"type": "file_search"}
    fields = {"tools": [search, TIME], "tool_resources": {"file_search": {"vector_store_ids": [store["id"]]}}}
    assistant = api.post("/assistants", {"model": "m", **fields})
    thread = api.post("/threads", {"messages": [{"role": "user", "content": "Hi"}]})
    message = {"role": "user", "content": "Hi", "attachments": [{"file_id": file, "tools": [search]}]}
    made = [store, batch, assistant, thread, api.post(f"/threads/{thread['id']}/messages", message)]
    listed = [path, f"{path}/files", f"{path}/files/{file}", "/vector_stores", "/files", "/models", "/models/gpt-4o"]
    found = [api.get(url) for url in (*listed, "/assistants", f"/threads/{thread['id']}/messages")]
    assert set().union(*map(extension_fields, (*made, *found))) == set()


def test_a_model_has_only_openai_s_fields(tmp_path: Path) -> None:
    odd = {"id": "odd", "object": None, "created": 1.5, "owned_by": None, "context_length": 4096, "pricing": {"in": 1}}
    with ScriptedUpstream() as upstream:
        upstream.models = [odd, {"id": "bare"}]
        with ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
            listed = {one["id"]: one for one in server.request("GET", "/v1/models")["data"]}
            asked = server.request("GET", "/v1/models/odd?extensions=1")
    assert listed["odd"] == {"id": "odd", "object": "model", "created": 1, "owned_by": "upstream"}
    assert listed["bare"] == {**listed["odd"], "id": "bare", "created": 0}
    assert asked["context_length"] == 4096


def test_v1_s_file_ids_are_for_v1_clients_only(api: ApiClient) -> None:
    v1 = {"headers": {"OpenAI-Beta": "assistants=v1"}}
    fields = {"model": "m", "tools": [{"type": "retrieval"}], "file_ids": [api.file()]}
    assistant = api.post("/assistants", fields, **v1)["id"]
    path, body = f"/threads/{api.thread('Hi')}/runs", {"assistant_id": assistant, "stream": True}
    assert extensions_in(stream(api, path, body)) == set()
    for _, name, data in stream(api, path, body, **v1):
        if name.startswith("thread.run.") and ".step." not in name:
            assert json.loads(data)["file_ids"] == fields["file_ids"], name
    assert extension_fields(api.get(path)) == set()


def test_objects_of_v1_have_only_v1_s_fields(api: ApiClient) -> None:
    file, v1 = api.file(), {"headers": {"OpenAI-Beta": "assistants=v1"}}
    fields = {"model": "m", "tools": [{"type": "retrieval"}], "file_ids": [file]}
    assistant = api.post("/assistants", fields, **v1)
    message = {"role": "user", "content": "Hi", "file_ids": [file]}
    thread = api.post("/threads", {"messages": [message]}, **v1)
    path = f"/threads/{thread['id']}"
    body = {"assistant_id": assistant["id"], "stream": True}
    streams = [stream(api, f"{path}/runs", body, **v1), stream(api, "/threads/runs", body, **v1)]
    found = [json.loads(data) for seen in streams for _, name, data in seen if name != "done"]
    found += [assistant, thread, api.post(f"{path}/messages", message, **v1)]
    found += [api.post(url, {"metadata": {"a": "b"}}, **v1) for url in (path, f"/assistants/{assistant['id']}")]
    found.append(api.get(path, **v1))
    for url in ("/assistants", "/threads", f"{path}/messages", f"{path}/runs"):
        found += api.get(url, **v1)["data"]
    known = {each["object"]: set(each) for each in found if each["object"] in OF_V1}
    assert known == {kind: set(names.split()) for kind, names in OF_V1.items()}
    assert all(set(each) == known[each["object"]] for each in found if each["object"] in known)


def test_an_invalid_request_for_extensions_is_refused(api: ApiClient) -> None:
    for asked in ({"params": {"extensions": "perhaps"}}, {"headers": {"x-threadhold-extensions": "perhaps"}}):
        ((name, _),) = next(iter(asked.values())).items()
        error = api.get("/models", 400, **asked)["error"]
        assert error["param"] == name
        assert f"'{name}'" in error["message"]
