"""Leniency over HTTP: PHP's empty objects, v1's metadata, and unknown fields if the server ignores them."""

import json
from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.app import _ROUTERS
from api.body_route import IGNORED, BodyRoute
from api.body_threads import is_large
from tests.api.conftest import ApiClient, wait_loaded
from tests.process import ServerProcess
from tests.upstream import Raw, ScriptedUpstream

V1 = {"openai-beta": "assistants=v1"}
USER = {"role": "user", "content": "Hi"}


@pytest.fixture(scope="module")
def ignoring(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"MODEL_URL": upstream.url, "UNKNOWN_FIELDS": "Ignore", "CORS_ORIGINS": "http://allowed.example"}
    with ServerProcess(tmp_path_factory.mktemp("ignoring"), **settings) as process:
        yield wait_loaded(process)


@pytest.fixture
def lenient(ignoring: ServerProcess) -> Iterator[ApiClient]:
    with httpx2.Client(base_url=f"{ignoring.url}/v1", timeout=10) as client:
        yield ApiClient(client)


def test_every_route_with_a_body_repairs_it() -> None:
    for _, router in _ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.body_field is not None:
                model = route.body_field.field_info.annotation
                assert not isclass(model) or not issubclass(model, BaseModel) or isinstance(route, BodyRoute), (
                    route.path
                )


# --- PHP --------------------------------------------------------------------------------------------------------------


def test_php_s_empty_arrays_are_stored_as_empty_objects(api: ApiClient) -> None:
    asked = {
        "model": "m",
        "metadata": [],
        "tool_resources": {"file_search": []},
        "tools": [
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": []}}}
        ],
    }
    made = api.post("/assistants", asked)
    read = api.client.get(f"/assistants/{made['id']}")
    assert read.json() == made
    assert '"metadata":{}' in read.text
    assert '"tool_resources":{"file_search":{}}' in read.text
    assert '"properties":{}' in read.text
    assert '"tools":[]' in api.client.post(f"/assistants/{made['id']}", json={"tools": []}).text


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"\xef\xbb\xbf[]"])
def test_php_s_empty_body_is_an_empty_object(api: ApiClient, body: bytes) -> None:
    result = {"content-type": "application/json"}
    made = api.client.post("/threads", content=body, headers=result)
    assert (made.status_code, made.json()["metadata"]) == (200, {})
    path = f"/threads/{made.json()['id']}"
    assert api.client.post(path, content=body, headers=result).status_code == 200
    missing = api.client.post(f"{path}/runs", content=body, headers=result)
    assert missing.json()["error"]["code"] == "missing_required_parameter"
    run = api.run()
    assert api.client.post(f"/threads/{run['thread_id']}/runs/{run['id']}/cancel", content=body, headers=result)


def test_a_php_client_s_turn_is_answered(api: ApiClient) -> None:
    asked = {
        "assistant_id": api.assistant(),
        "thread": {"messages": [{**USER, "metadata": []}], "metadata": [], "tool_resources": []},
        "metadata": [],
        "tool_resources": {"code_interpreter": []},
    }
    run = api.wait_ended(api.post("/threads/runs", asked))
    assert (run["status"], run["metadata"]) == ("completed", {})


def test_a_filled_array_is_not_accepted_as_an_object(api: ApiClient) -> None:
    for body in ([1], {"metadata": ["a"]}, {"messages": [{**USER, "metadata": [[]]}]}):
        assert api.post("/threads", body, 400)["error"]["code"] == "invalid_type"


def test_langserve_accepts_php_s_empty_arrays(server: ServerProcess) -> None:
    asked = {"input": {"human": "Hi"}, "config": [], "kwargs": []}
    assert httpx2.post(f"{server.url}/chat/invoke", json=asked).json()["output"] == "Echo: Hi"
    empty, php = (httpx2.post(f"{server.url}/chat/invoke", json=body) for body in ({}, []))
    assert (php.status_code, php.json()) == (empty.status_code, empty.json())
    turn = {"input": {"content": "Hi"}, "config": {"metadata": [], "configurable": []}}
    for path in ("invoke", "stream"):
        assert "Echo: Hi" in httpx2.post(f"{server.url}/assistant/{path}", json=turn).text


def test_chat_sends_objects_upstream(api: ApiClient, upstream: ScriptedUpstream) -> None:
    tools = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": []}}}]
    api.post("/chat/completions", {"model": "m", "messages": [USER], "tools": tools, "metadata": [], "stop": []})
    sent = upstream.requests[-1].body
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert (sent["metadata"], sent["stop"]) == ({}, [])


def test_text_completions_send_objects_upstream(api: ApiClient, upstream: ScriptedUpstream) -> None:
    upstream.raw["/v1/completions"] = Raw([b"{}"], content_type="application/json")
    api.post("/completions", {"model": "m", "prompt": "Hi", "logit_bias": [], "stream_options": [], "stop": []})
    sent = json.loads(upstream.raw_seen[-1].body)
    assert (sent["logit_bias"], sent["stream_options"], sent["stop"]) == ({}, {}, [])


def test_an_upload_accepts_php_s_empty_arrays(api: ApiClient) -> None:
    asked = {"filename": "a.txt", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain"}
    refused = api.post("/uploads", {**asked, "expires_after": []}, 400)["error"]
    assert (refused["code"], refused["param"]) == ("missing_required_parameter", "expires_after.anchor")
    upload = api.post("/uploads", asked)["id"]
    assert api.post(f"/uploads/{upload}/complete", [], 400)["error"]["param"] == "part_ids"
    assert api.post("/embeddings", [], 400)["error"]["code"] == "missing_required_parameter"


# --- v1 ---------------------------------------------------------------------------------------------------------------


def test_v1_metadata_is_converted_for_v1_only(api: ApiClient) -> None:
    body = b'{"metadata": {"on": true, "price": 1.0, "number": 123456789012345678901}}'
    result = {"content-type": "application/json"}
    made = api.client.post("/threads", content=body, headers={**result, **V1})
    assert made.json()["metadata"] == {"on": "true", "price": "1.0", "number": "123456789012345678901"}
    assert api.get(f"/threads/{made.json()['id']}")["metadata"] == made.json()["metadata"]
    for beta in ({}, {"openai-beta": "assistants=v2"}):
        refused = api.client.post("/threads", content=body, headers={**result, **beta})
        assert refused.json()["error"]["param"] == "metadata.on"


def test_v1_metadata_is_converted_on_every_route(api: ApiClient) -> None:
    number, text = {"metadata": {"n": 7}}, {"n": "7"}
    assistant = api.post("/assistants", {"model": "m", **number}, headers=V1)
    thread = api.post("/threads", {"messages": [{**USER, **number}]}, headers=V1)["id"]
    message = api.get(f"/threads/{thread}/messages")["data"][0]
    made = [assistant, message, api.post(f"/threads/{thread}/messages", {**USER, **number}, headers=V1)]
    made += [
        api.post(path, number, headers=V1)
        for path in (
            f"/assistants/{assistant['id']}",
            f"/threads/{thread}",
            f"/threads/{thread}/messages/{message['id']}",
        )
    ]
    run = api.post(f"/threads/{thread}/runs", {"assistant_id": assistant["id"], **number}, headers=V1)
    api.wait_ended(run)
    made += [run, api.post(f"/threads/{thread}/runs/{run['id']}", number, headers=V1)]
    made += [api.post("/threads/runs", {"assistant_id": assistant["id"], "thread": number, **number}, headers=V1)]
    made += [api.get(f"/threads/{made[-1]['thread_id']}")]
    assert [one["metadata"] for one in made] == [text] * len(made)


# --- UNKNOWN_FIELDS ---------------------------------------------------------------------------------------------------


def test_unknown_fields_are_refused_by_default(api: ApiClient) -> None:
    thread = api.post("/threads")
    answer = api.client.post("/threads", json=thread)
    assert answer.json()["error"]["code"] == "unknown_parameter"
    assert IGNORED not in answer.headers


def test_ignored_fields_are_listed_in_a_header(lenient: ApiClient) -> None:
    thread = lenient.post("/threads", {"metadata": {"a": "b"}})
    answer = lenient.client.post("/threads", json=thread, headers={"origin": "http://allowed.example"})
    assert answer.headers[IGNORED] == "id, object, created_at"
    assert IGNORED in answer.headers["access-control-expose-headers"]
    assert answer.json()["metadata"] == {"a": "b"}
    assert answer.json()["id"] != thread["id"]
    assert IGNORED not in lenient.client.post("/threads", json={}).headers


def test_a_stream_lists_its_ignored_fields(lenient: ApiClient) -> None:
    assistant = lenient.assistant()
    asked = {"assistant_id": assistant, "stream": True, "stream_options": {"include_usage": True}}
    for path, body in (
        (f"/threads/{lenient.thread('Hi')}/runs", asked),
        ("/threads/runs", {**asked, "thread": {"messages": [{**USER, "name": "Ann"}]}}),
    ):
        with lenient.client.stream("POST", path, json=body) as answer:
            text = answer.read().decode()
        assert "stream_options" in answer.headers[IGNORED]
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "thread.run.completed" in text


def test_a_form_s_unknown_fields_are_ignored(lenient: ApiClient, api: ApiClient) -> None:
    file, fields = {"file": ("a.txt", b"x")}, {"purpose": "assistants", "ttl": "5"}
    answer = lenient.client.post("/files", files=file, data=fields)
    assert (answer.status_code, answer.headers.get(IGNORED)) == (200, "ttl")
    assert api.client.post("/files", files=file, data=fields).json()["error"]["param"] == "ttl"


def test_an_upload_s_unknown_fields_are_ignored(lenient: ApiClient) -> None:
    asked = {"filename": "a.txt", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain", "ttl": 5}
    made = lenient.client.post("/uploads", json=asked)
    path = f"/uploads/{made.json()['id']}"
    part = lenient.client.post(f"{path}/parts", files={"data": ("a", b"x")}, data={"number": "1"})
    done = lenient.client.post(f"{path}/complete", json={**part.json(), "part_ids": [part.json()["id"]]})
    assert [one.status_code for one in (made, part, done)] == [200] * 3
    assert [one.headers[IGNORED] for one in (made, part)] == ["ttl", "number"]
    assert (done.json()["status"], done.headers[IGNORED]) == ("completed", "id, object, created_at, upload_id")


def test_an_unknown_field_called_body_is_named(api: ApiClient) -> None:
    assert api.post("/threads", {"metadata": [], "body": 1}, 400)["error"]["param"] == "body"


def test_a_thread_is_created_from_response_objects(lenient: ApiClient) -> None:
    run = lenient.wait_ended(lenient.run())
    listed = lenient.get(f"/threads/{run['thread_id']}/messages", params={"order": "asc"})["data"]
    answer = lenient.client.post("/threads", json={"messages": listed})
    copied = lenient.get(f"/threads/{answer.json()['id']}/messages", params={"order": "asc"})["data"]
    assert [(one["role"], one["content"]) for one in copied] == [(one["role"], one["content"]) for one in listed]
    assert "messages[0].content[0].text.annotations" in answer.headers[IGNORED]


@pytest.mark.parametrize("beta", [{}, V1], ids=["v2", "v1"])
@pytest.mark.parametrize("php", [False, True], ids=["json", "php"])
def test_response_objects_can_be_sent_back(lenient: ApiClient, beta: dict[str, str], php: bool) -> None:
    """PHP's `json_decode($json, true)` and encoding turn `{}` into `[]`."""

    def back(made: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(made)
        result: dict[str, Any] = json.loads(text.replace("{}", "[]") if php else text)
        return result

    def same(path: str, made: dict[str, Any]) -> None:
        result = lenient.post(path, back(made), headers=beta)
        assert {**result, "created_at": 0} == {**made, "created_at": 0}

    file = lenient.file()
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    asked = {"model": "m", "name": "n", "tools": [{"type": "file_search"}, function], "metadata": {"a": "b"}}
    assistant = lenient.post("/assistants", asked, headers=beta)
    same(f"/assistants/{assistant['id']}", assistant)
    store = lenient.post("/vector_stores", {"name": "s", "file_ids": [file]})
    store = lenient.wait_processed(f"/vector_stores/{store['id']}")
    same(f"/vector_stores/{store['id']}", store)
    resources = {"file_search": {"vector_store_ids": [store["id"]]}}
    searching = lenient.post("/assistants", {**asked, "tool_resources": resources}, headers=beta)
    same(f"/assistants/{searching['id']}", searching)
    thread = lenient.post("/threads", {"tool_resources": resources}, headers=beta)
    same(f"/threads/{thread['id']}", thread)
    attached = {**USER, "attachments": [{"file_id": file, "tools": [{"type": "file_search"}]}]}
    message = lenient.post(f"/threads/{thread['id']}/messages", attached, headers=beta)
    same(f"/threads/{thread['id']}/messages/{message['id']}", message)
    again = lenient.post(f"/threads/{lenient.thread()}/messages", back(message), headers=beta)
    shown = ("file_ids" if beta == V1 else "attachments", "content")
    assert [again[name] for name in shown] == [message[name] for name in shown]
    run = lenient.post(f"/threads/{lenient.thread('Hi')}/runs", {"assistant_id": searching["id"]}, headers=beta)
    lenient.wait_ended(run)
    second = lenient.post(f"/threads/{run['thread_id']}/runs", back(run), headers=beta)
    kept = ("assistant_id", "model", "tools", "metadata", "truncation_strategy", "tool_choice", "response_format")
    assert {name: second.get(name) for name in kept} == {name: run.get(name) for name in kept}
    lenient.wait_ended(second)
    both = {**back(run), "thread": {**back(thread), "messages": [back(message)]}}
    lenient.wait_ended(lenient.post("/threads/runs", both, headers=beta))


def test_other_errors_are_refused_where_unknown_fields_are_ignored(lenient: ApiClient) -> None:
    error = lenient.post("/threads", {"id": "x", "metadata": {"a": 1}}, 400)["error"]
    assert (error["code"], error["param"]) == ("invalid_type", "metadata.a")
    misspelled = lenient.client.post("/threads/runs", json={"assistantId": "x"})
    assert misspelled.json()["error"]["code"] == "missing_required_parameter"
    assert misspelled.headers[IGNORED] == "assistantId"
    unknown = lenient.client.post("/threads/runs", json={"assistant_id": "asst_none", "stray": 1})
    assert (unknown.status_code, unknown.headers[IGNORED]) == (404, "stray")


def test_an_invalid_setting_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?i)unknown_fields"):
        ServerProcess(tmp_path, UNKNOWN_FIELDS="maybe", MODEL_URL="http://127.0.0.1:9").start()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"messages": [{"role": "user", "content": "x" * 10_000}]}, False, id="one long message"),
        pytest.param({"messages": [{"role": "user", "content": "x"}] * 70}, True, id="many short messages"),
        pytest.param({"tool_outputs": [{"tool_call_id": "a", "output": "x"}] * 16}, True, id="many outputs"),
        pytest.param({"content": "x" * 17_000}, True, id="a long text"),
        pytest.param({"messages": [{"role": "user", "content": "x", "attachments": [[]] * 20}]}, True, id="arrays"),
        pytest.param({"messages": [{"role": "user", "content": [0] * 300}]}, True, id="numbers"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a, b"}]}]}, False, id="parts"
        ),
    ],
)
def test_body_size_is_limited_in_bytes_and_values(body: dict[str, Any], expected: bool) -> None:
    assert is_large(orjson.dumps(body)) is expected
