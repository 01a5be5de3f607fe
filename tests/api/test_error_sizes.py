"""Errors quote only the beginning of a client's value, so that no answer grows with an invalid value."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

LONG = "x" * 100_000
MAXIMUM = 4096
"""Bytes of an answer."""


@pytest.fixture
def api(roomy: ServerProcess) -> Iterator[ApiClient]:
    with httpx2.Client(base_url=f"{roomy.url}/v1", timeout=60) as client:
        yield ApiClient(client)


class Sampler:
    """Makes bodies from JSON schemas; `document` is the server's OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def complete(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """Return a value with every field that the schema describes."""
        if "$ref" in schema:
            return self.complete(self._schemas[schema["$ref"].rpartition("/")[2]], depth)
        for union in ("anyOf", "oneOf", "allOf"):
            if union in schema:
                return self.complete(next(each for each in schema[union] if each.get("type") != "null"), depth)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object" if depth < 8:
                named = {name: self.complete(inner, depth + 1) for name, inner in schema.get("properties", {}).items()}
                return named or {"k": "v"}
            case "array":
                return [self.complete(schema.get("items", {}), depth + 1)]
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
        return "a"


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all texts."""
    if isinstance(value, str):
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield from texts(inner, (*path, name))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the body with another value at a path."""
    body = deepcopy(body)
    within = body
    for part in path[:-1]:
        within = within[part]
    within[path[-1]] = value
    return body


def variants(body: Any) -> Iterator[Any]:
    """Yield the body with a long value for each text, with only that field, and with a long name next to each."""
    for path in texts(body):
        yield changed(body, path, LONG)
        yield {path[0]: changed({path[0]: body[path[0]]}, path, LONG)[path[0]]}
        if isinstance(path[-1], str):
            yield changed(body, (*path[:-1], LONG), 1)
            yield changed(body, path, {LONG: {LONG: 1}})
            yield changed(body, path, [LONG] * 3)
    yield {LONG: LONG}
    yield [LONG]
    yield LONG


def check(answer: httpx2.Response, what: object) -> None:
    """Fail for an error that is not one of ours, or too long. Successful answers are not checked."""
    if answer.status_code >= 400:
        assert answer.status_code < 500 or answer.status_code == 502, (what, answer.text[:500])
        assert len(answer.content) < MAXIMUM, (what, len(answer.content), answer.text[:300])


@pytest.mark.soak
def test_no_error_grows_with_its_body(api: ApiClient, roomy: ServerProcess) -> None:
    """Every text of every route's body in turn; a route that is added later is included."""
    document = httpx2.get(f"{roomy.url}/openapi.json", timeout=30).json()
    sampler, tried = Sampler(document), 0
    ids = {"thread_id": api.thread("a"), "assistant_id": api.assistant()}
    ids["vector_store_id"] = api.post("/vector_stores")["id"]
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        sample = sampler.complete(content["application/json"]["schema"])
        for body in variants(sample if isinstance(sample, dict) else {"k": "v"}):
            check(api.client.post(at(path, ids), json=body), path)
            tried += 1
    assert tried > 300


def at(path: str, ids: dict[str, str]) -> str:
    prefixes = {"message_id": "msg_x", "run_id": "run_x", "upload_id": "upload_x", "batch_id": "vsfb_x"}
    filled = path.removeprefix("/v1")
    for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        filled = filled.replace("{" + name + "}", ids.get(name, prefixes.get(name, "file-x")))
    return filled


@pytest.mark.parametrize("ending", ["invoke", "batch", "stream", "stream_log", "stream_events"])
@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_no_error_of_langserve_grows_with_its_body(path: str, ending: str, roomy: ServerProcess) -> None:
    turn = {
        "thread_id": "a",
        "assistant_id": "a",
        "run_id": "a",
        "replaces": "a",
        "file_ids": ["a"],
        "image_ids": ["a"],
    }
    given: Any = {"system": "a"} if path == "/chat" else {**turn, "on_disconnect": "cancel", "tool_outputs": [{}]}
    config = {"configurable": {"model": "a"}, "run_name": "a", "tags": ["a"], "run_id": "a"}
    body = {"input": given, "inputs": [given], "config": config, "kwargs": {"a": "a"}}
    with httpx2.Client(base_url=roomy.url, timeout=60) as client:
        for each in variants(body):
            check(client.post(f"{path}/{ending}", json=each), each.keys() if isinstance(each, dict) else "")


@pytest.mark.parametrize("field", ["thread_id", "run_id", "assistant_id", "replaces", "model"])
def test_no_failure_in_a_stream_grows(field: str, roomy: ServerProcess, api: ApiClient) -> None:
    given = {"content": "a", field: LONG}
    if field == "run_id":
        del given["content"]
    if field == "replaces":
        given["thread_id"] = api.thread("a")
    answer = httpx2.post(f"{roomy.url}/assistant/stream", json={"input": given}, timeout=60)
    frames = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    errors = [frame["data"] for frame in frames if frame.get("event") == "error"]
    assert all(len(json.dumps(error)) < MAXIMUM for error in errors)
    assert errors or field == "model"


@pytest.mark.parametrize("count", [1, 1000])
def test_wrong_outputs_are_named_briefly(count: int, api: ApiClient, upstream: ScriptedUpstream) -> None:
    upstream.default = lambda body: Reply(tool_calls=[("now", "{}")])
    function = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    run = api.wait_ended(api.run(tools=[function]))
    assert run["status"] == "requires_action"
    outputs = [{"tool_call_id": LONG[: 9_000_000 // count], "output": "a"}] * count
    answer = api.client.post(
        f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs", json={"tool_outputs": outputs}
    )
    assert answer.status_code == 400
    assert len(answer.content) < MAXIMUM
    assert run["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"] in answer.text


NAMES = [
    "content-type",
    "content-encoding",
    "origin",
    "openai-beta",
    "last-event-id",
    "x-threadhold-extensions",
    "range",
]


@pytest.mark.parametrize("name", [*NAMES, "authorization", "api-key", "expect", "accept-encoding"])
def test_no_error_grows_with_a_header(name: str, api: ApiClient) -> None:
    for method, path in (("GET", "/threads/thread_x/runs/run_x/events"), ("POST", "/threads"), ("POST", "/files")):
        check(api.client.request(method, path, headers={name: LONG[:50_000]}, content=b"{}"), path)


QUERIES = ["after", "before", "limit", "order", "include[]", "purpose", "extensions", "run_id", "filter", "after_x"]


@pytest.mark.parametrize("path", ["/assistants", "/threads/thread_x/messages", "/files", "/vector_stores", "/models"])
def test_no_error_grows_with_a_url(path: str, api: ApiClient) -> None:
    for name in QUERIES:
        check(api.client.get(path, params={name: LONG[:50_000]}), name)
    for method in ("GET", "POST", "DELETE", "PUT"):
        check(api.client.request(method, f"{path}/{LONG[:50_000]}"), method)
        check(api.client.request(method, f"/{LONG[:50_000]}{path}"), method)
