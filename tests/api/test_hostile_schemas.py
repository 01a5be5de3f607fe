"""No schema delays another request: hostile schemas are checked while `/health` is requested."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop_delays import longest_wait
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

MAX_S = 0.05


def items(schema: Any, **beside: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"l": {"type": "array", "items": schema}}, **beside}


def named(count: int, **first: Any) -> dict[str, Any]:
    return {"a": first, **{f"d{i}": {} for i in range(count)}}


def nested(depth: int) -> dict[str, Any]:
    return {"anyOf": [nested(depth - 1)] * 3} if depth else {"type": "string"}


ONES = {"l": [1] * 500}
OBJECTS: dict[str, Any] = {"l": [{}] * 2_000}
HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "$anchor": (items({"$ref": "#here"}, **{"$defs": named(9_000, **{"$anchor": "here"})}), ONES),
    "$dynamicRef": (items({"$dynamicRef": "#here"}, **{"$defs": named(9_000, **{"$dynamicAnchor": "here"})}), ONES),
    "$id": (items({"$ref": "b"}, **{"$id": "http://x.example/a", "$defs": named(9_000, **{"$id": "b"})}), ONES),
    "$recursiveRef": (items({"$recursiveRef": "#"}, **{"$defs": named(9_000)}), {"l": [{"l": [1] * 20}] * 20}),
    "properties": (items({"properties": {f"p{i}": {} for i in range(25_000)}}), OBJECTS),
    "dependentRequired": (items({"dependentRequired": {f"p{i}": [] for i in range(25_000)}}), OBJECTS),
    "dependentSchemas": (items({"dependentSchemas": {f"p{i}": {} for i in range(25_000)}}), OBJECTS),
    "uniqueItems": (items({}, properties={"l": {"uniqueItems": True}}), {"l": [{"x": i} for i in range(3_000)]}),
    "nested anyOf": (items(nested(7)), ONES),
    "patternProperties": (
        items({"patternProperties": {f"(a+)+{i}$": {} for i in range(500)}}),
        {"l": [{"a": 1}] * 500},
    ),
    "propertyNames": (
        items({"propertyNames": {"$ref": "#here"}}, **{"$defs": named(9_000, **{"$anchor": "here"})}),
        {"l": [{f"n{i}": 1 for i in range(400)}]},
    ),
    "const": (items({"const": [[0] * 500] * 60}), {"l": [[[0] * 500] * 20] * 3}),
    "enum": (items({"enum": [[i] * 3 for i in range(9_000)]}), {"l": [[0, 0]] * 900}),
    "contains and minContains": (
        items({}, properties={"l": {"contains": nested(6), "minContains": 2}}),
        ONES,
    ),
    "unevaluatedProperties": (items({"unevaluatedProperties": False, "allOf": [nested(6)]}), {"l": [{"a": 1}] * 300}),
    "errors that repeat the arguments": (
        {"type": "object", "allOf": [{"type": "string"}] * 9_000},
        {"a": "x" * 60_000},
    ),
    "not of not": (items(json.loads('{"not":' * 85 + "{}" + "}" * 85)), ONES),
    "a chain of references": (
        items({"$ref": "#/$defs/d0"}, **{"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(900)}}),
        ONES,
    ),
}


QUICK = (
    "uniqueItems",
    "nested anyOf",
    "errors that repeat the arguments",
)
EACH = [
    pytest.param(*hostile, id=name, marks=() if name in QUICK else pytest.mark.soak)
    for name, hostile in HOSTILE.items()
]


def call(port: int, method: str, path: str, body: Any = None, key: str = "k1") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = None if body is None else json.dumps(body)
    connection.request(method, path, sent, {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.fixture(scope="module")
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(up: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    with ServerProcess(folder, MODEL_URL=up.url, TOOL_CALLS="native", API_KEYS="ann=k1,bob=k2") as opened:
        yield opened


def assistant(port: int, schema: Any, key: str = "k1") -> tuple[int, str]:
    function = {"name": "f", "parameters": schema}
    body = {"model": "test-model", "tools": [{"type": "function", "function": function}]}
    return call(port, "POST", "/v1/assistants", body, key)


def run(port: int, assistant_id: str, key: str = "k1") -> tuple[int, str]:
    thread = {"messages": [{"role": "user", "content": "go"}]}
    return call(port, "POST", "/v1/threads/runs", {"assistant_id": assistant_id, "stream": True, "thread": thread}, key)


@pytest.mark.timeout(360)
@pytest.mark.parametrize(("schema", "arguments"), EACH)
def test_a_hostile_schema_delays_no_other_request(
    server: ServerProcess, up: ScriptedUpstream, schema: dict[str, Any], arguments: Any
) -> None:
    up.default = lambda _: Reply(tool_calls=[("f", arguments)])

    def ask() -> None:
        status, text = assistant(server.port, schema)
        if status == 200:
            result = run(server.port, json.loads(text)["id"])[1]
            assert "event: thread.run.requires_action" in result
        else:
            error = json.loads(text)["error"]
            assert (status, error["param"]) == (400, "tools[0].function.parameters")

    assert longest_wait(server, ask, limit_s=MAX_S, tries=3, only_loop=True) < MAX_S


@pytest.mark.soak
def test_one_owners_slow_checks_do_not_delay_anothers(server: ServerProcess, up: ScriptedUpstream) -> None:
    schema, arguments = HOSTILE["$anchor"]
    slow_id = json.loads(assistant(server.port, schema)[1])["id"]
    quick = {**items({"type": "integer"}), "properties": {"l": {"uniqueItems": True}}}
    quick_id = json.loads(assistant(server.port, quick, "k2")[1])["id"]
    run(server.port, quick_id, "k2")  # start a child
    started = time.monotonic()
    run(server.port, quick_id, "k2")
    alone = time.monotonic() - started

    up.default = lambda body: Reply(
        tool_calls=[("f", {"l": [1, 1]} if "uniqueItems" in json.dumps(body["tools"]) else arguments)]
    )
    slow = [threading.Thread(target=run, args=(server.port, slow_id)) for _ in range(3)]
    for each in slow:
        each.start()
    time.sleep(0.5)
    started = time.monotonic()
    assert "requires_action" in run(server.port, quick_id, "k2")[1]
    took = time.monotonic() - started
    held_up = sum(each.is_alive() for each in slow)
    for each in slow:
        each.join()
    assert held_up >= 2, "the test's own checks were not slow"
    assert took < max(3, 10 * alone)  # ten times: a machine with other work


REFUSED: dict[str, Any] = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}] * 2}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": REFUSED}}
TOOLS = [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "f", "parameters": REFUSED}}]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": TOOLS}, "tools[1].function.parameters"),
        ({"response_format": FORMAT}, "response_format.json_schema.schema"),
    ],
    ids=["tools", "response format"],
)
@pytest.mark.parametrize("way", ["create an assistant", "change one", "start a run", "create a thread and run"])
def test_a_schema_that_cannot_be_checked_is_refused(server: ServerProcess, way: str, asked: Any, param: str) -> None:
    made = json.loads(call(server.port, "POST", "/v1/assistants", {"model": "test-model"})[1])["id"]
    thread = json.loads(call(server.port, "POST", "/v1/threads", {})[1])["id"]
    path, body = {
        "create an assistant": ("/v1/assistants", {"model": "test-model"}),
        "change one": (f"/v1/assistants/{made}", {}),
        "start a run": (f"/v1/threads/{thread}/runs", {"assistant_id": made}),
        "create a thread and run": ("/v1/threads/runs", {"assistant_id": made, "thread": {}}),
    }[way]
    status, text = call(server.port, "POST", path, {**body, **asked})
    error = json.loads(text)["error"]
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert "circular references" in error["message"]
    assert json.loads(call(server.port, "GET", f"/v1/threads/{thread}/runs")[1])["data"] == []


@pytest.mark.parametrize(
    "reply",
    [Reply(tool_calls=[("f", {"a": "x" * 100_000})]), Reply(chunks=["word "] * 12_000)],
    ids=["arguments", "text"],
)
def test_an_answer_of_thousands_of_chunks_delays_no_other_request(
    server: ServerProcess, up: ScriptedUpstream, reply: Reply
) -> None:
    made = assistant(server.port, {"type": "object"})[1]
    up.default = lambda _: reply

    def ask() -> None:
        assert "event: done" in run(server.port, json.loads(made)["id"])[1]

    assert longest_wait(server, ask, limit_s=MAX_S, tries=3, only_loop=True) < MAX_S
