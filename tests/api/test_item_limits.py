"""Lists in requests are limited, and no body, valid or invalid, keeps the server from answering other requests."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import orjson
import pytest
from fastapi.routing import APIRoute

from api.app import _ROUTERS
from api.bodies import MAX_VALUES
from api.body_threads import LARGE
from api.forwarding import FORWARDED
from tests.api.conftest import ApiClient
from tests.loop_delays import longest_wait
from tests.process import ServerProcess, resident_mb

MESSAGE = {"role": "user", "content": "a"}
TEXT = {"type": "text", "text": "a"}
V1 = {"openai-beta": "assistants=v1"}
NEARLY = MAX_VALUES * 9 // 10


@pytest.fixture
def api(roomy: ServerProcess) -> Iterator[ApiClient]:
    with httpx2.Client(base_url=f"{roomy.url}/v1", timeout=60) as client:
        yield ApiClient(client)


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/threads", lambda n: {"messages": [MESSAGE] * n}, ("messages", 500)),
        ("/threads", lambda n: {"messages": [0] * n}, ("messages", 500)),
        ("/threads", lambda n: {"messages": [{**MESSAGE, "content": [TEXT] * n}]}, ("messages[0].content", 500)),
        ("/threads/thread_x/messages", lambda n: {**MESSAGE, "content": [TEXT] * n}, ("content", 500)),
        (
            "/threads/thread_x/messages",
            lambda n: {**MESSAGE, "attachments": [{"file_id": "file-x"}] * n},
            ("attachments", 500),
        ),
        (
            "/threads/thread_x/messages",
            lambda n: {**MESSAGE, "attachments": [{"file_id": "file-x", "tools": [{"type": "file_search"}] * n}]},
            ("attachments[0].tools", 16),
        ),
        (
            "/threads/thread_x/runs",
            lambda n: {"assistant_id": "asst_x", "additional_messages": [MESSAGE] * n},
            ("additional_messages", 500),
        ),
        (
            "/threads/runs",
            lambda n: {"assistant_id": "asst_x", "thread": {"messages": [MESSAGE] * n}},
            ("thread.messages", 500),
        ),
        (
            "/threads/thread_x/runs/run_x/submit_tool_outputs",
            lambda n: {"tool_outputs": [{"tool_call_id": "c", "output": "o"}] * n},
            ("tool_outputs", 1000),
        ),
        ("/assistants", lambda n: {"model": "m", "tools": [{"type": "file_search"}] * n}, ("tools", 128)),
        ("/vector_stores", lambda n: {"file_ids": ["file-x"] * n}, ("file_ids", 500)),
        ("/vector_stores/vs_x/file_batches", lambda n: {"file_ids": ["file-x"] * n}, ("file_ids", 2000)),
        (
            "/assistants",
            lambda n: {"model": "m", "tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["f"] * n}]}}},
            ("tool_resources.file_search.vector_stores[0].file_ids", 2000),
        ),
        ("/uploads/upload_x/complete", lambda n: {"part_ids": ["part_x"] * n}, ("part_ids", 2000)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("beyond", [1, 5_000], ids=["one too many", "many too many"])
def test_a_list_beyond_its_limit_is_refused(
    api: ApiClient, path: str, body: Callable[[int], Any], limit: tuple[str, int], beyond: int
) -> None:
    where, maximum = limit
    error = api.post(path, body(maximum + beyond), 400)["error"]
    assert (error["code"], error["param"]) == ("array_above_max_length", where)
    assert f"maximum length {maximum}," in error["message"]
    assert f"length {maximum + beyond} instead" in error["message"]
    assert api.client.post(path, json=body(maximum)).json().get("error", {}).get("code") != "array_above_max_length"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", lambda messages: {"messages": messages}),
        ("/threads/runs", lambda messages: {"assistant_id": "asst_x", "thread": {"messages": messages}}),
        ("/threads/thread_x/runs", lambda messages: {"assistant_id": "asst_x", "additional_messages": messages}),
    ],
    ids=["thread", "thread and run", "run"],
)
@pytest.mark.parametrize("key", ["attachments", "file_ids"])
def test_the_attachments_of_all_messages_have_a_limit(
    api: ApiClient, path: str, body: Callable[[list[Any]], Any], key: str
) -> None:
    """They are one commit. Without the limit, allowed messages and attachments could block writes for seconds."""
    each, maximum = ({"file_id": "file-x"}, 500) if key == "attachments" else ("file-x", 10)
    messages = [{**MESSAGE, key: [each] * maximum} for _ in range(2_000 // maximum)]
    error = api.post(path, body([*messages, {**MESSAGE, key: [each]}]), 400)["error"]
    assert "2001 attachments together, and at most 2000 are allowed" in error["message"]
    assert error["param"].endswith("messages")
    answer = api.client.post(path, json=body(messages))
    assert "attachments together" not in answer.text


def test_every_list_of_a_request_has_a_limit(api: ApiClient) -> None:
    """Every list in the OpenAPI document, including any that is added later."""
    document = httpx2.get(f"{str(api.client.base_url).removesuffix('/v1/')}/openapi.json", timeout=30).json()
    schemas = document["components"]["schemas"]
    sent = {
        each["post"]["requestBody"]["content"].get("application/json", {}).get("schema", {}).get("$ref", "")
        for each in document["paths"].values()
        if "requestBody" in each.get("post", {})
    }
    seen, waiting, unlimited = set[str](), [ref for ref in sent if ref], list[str]()
    while waiting:
        ref = waiting.pop()
        if ref not in seen:
            seen.add(ref)
            for path, part in parts_of(schemas[ref.rpartition("/")[2]], ref.rpartition("/")[2]):
                waiting += [part["$ref"]] if "$ref" in part else []
                unlimited += [path] if part.get("type") == "array" and "maxItems" not in part else []
    assert len(seen) > 20
    assert unlimited == []


def parts_of(schema: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield path, schema
    named = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for name, inner in named:
        yield from parts_of(inner, f"{path}.{name}")


# --- all values of a body ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [' + b",".join([b"0"] * MAX_VALUES) + b"]}",
        b'{"model": "m", "tools": [' + b",".join([b"[]"] * MAX_VALUES) + b"]}",
        b'{"metadata": {' + b",".join(b'"%d":{}' % n for n in range(MAX_VALUES)) + b"}}",
        b"[" * 3 + b",".join([b"{}"] * 3_000_000) + b"]" * 3,
        b'{"a": "' + b'\\"' * 70_000 + b'\\\\", "b": [' + b",".join([b'"\\\\"'] * MAX_VALUES) + b"]}",
    ],
    ids=["numbers", "arrays", "objects", "9 MB", "between escapes"],
)
@pytest.mark.parametrize("path", ["/threads", "/chat/completions", "/embeddings"])
def test_more_values_than_the_limit_are_refused(api: ApiClient, path: str, body: bytes) -> None:
    answer = api.client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert str(MAX_VALUES) in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text",
    ["a," * 100_000, ',"' * 100_000, "[{\\" * 60_000, '\\",' * 60_000, "\\" * 131_071 + ",", "é,[" * 80_000],
    ids=["commas", "quotes", "backslashes", "escaped quotes", "backslashes over a block", "letters"],
)
def test_characters_in_texts_do_not_count_as_values(api: ApiClient, text: str) -> None:
    thread = api.post("/threads", {"messages": [{**MESSAGE, "content": text}]})["id"]
    found = api.get(f"/threads/{thread}/messages")["data"][0]
    assert found["content"][0]["text"]["value"] == text


# --- large bodies are handled like small ones -------------------------------------------------------------------------


def test_the_texts_of_a_message_share_one_limit(api: ApiClient) -> None:
    thread = api.thread()
    for size, status in ((256_000, 200), (256_001, 400)):
        parts = [{**TEXT, "text": "x" * min(size, 256_000)}] * 4 + [{**TEXT, "text": "x"}] * (size > 256_000)
        answer = api.post(f"/threads/{thread}/messages", {**MESSAGE, "content": parts}, status)
        assert status == 200 or (answer["error"]["param"], "1024000" in answer["error"]["message"]) == ("content", True)


def test_large_bodies_are_repaired_like_small_ones(api: ApiClient) -> None:
    long = "x" * LARGE
    made = api.post("/threads", {"messages": [{**MESSAGE, "content": long, "metadata": []}], "metadata": []})
    assert made["metadata"] == {}
    body = {"messages": [{**MESSAGE, "content": long}], "metadata": {"on": True}}
    assert api.post("/threads", body, headers=V1)["metadata"] == {"on": "true"}
    assert api.post("/threads", body, 400)["error"]["param"] == "metadata.on"
    retrieval = {"model": "m", "instructions": long, "tools": [{"type": "retrieval"}]}
    assert api.post("/assistants", retrieval)["tools"] == [{"type": "file_search"}]
    error = api.post("/assistants", {"instructions": long, "modell": "m"}, 400)["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "modell")
    assert api.post("/assistants", {"instructions": long}, 400)["error"]["param"] == "model"
    assert api.post(f"/threads/{made['id']}/messages?x=1", {**MESSAGE, "content": long})["content"]


# --- no other request waits -------------------------------------------------------------------------------------------


def valid_bodies(path: str) -> list[Any]:
    """Large bodies that fit their models or, without a model, the limits."""
    parts = [{**MESSAGE, "content": [TEXT] * 200}] * 65  # 52,000 values
    whole = [{**MESSAGE, "content": "x" * 19_000}] * 500  # 9.5 MB
    places = [{"file_id": f"file-{n}", "attributes": {f"k{k}": k for k in range(16)}} for n in range(2000)]
    match path.removeprefix("/v1").rpartition("/")[2]:
        case "threads":
            return [{"messages": parts}, {"messages": whole}]
        case "runs":
            if "thread_id" in path:
                return [{"assistant_id": "asst_x", "additional_messages": each} for each in (parts, whole)]
            return [{"assistant_id": "asst_x", "thread": {"messages": each}} for each in (parts, whole)]
        case "messages":
            return [{**MESSAGE, "content": [{**TEXT, "text": "x" * 2_000}] * 500}]
        case "submit_tool_outputs":
            return [{"tool_outputs": [{"tool_call_id": f"c{n}", "output": "x" * 9_000} for n in range(1000)]}]
        case "file_batches":
            return [{"files": places}]
        case "batch":
            return [{"inputs": [{"human": "x" * 40_000}] * 200}]
    return [{"metadata": {f"k{n}": "x" * 500 for n in range(16)}, "model": "m", "input": ["x"] * NEARLY}]


def invalid_bodies() -> list[bytes]:
    """Bodies with as many errors as possible, within the limits and beyond."""
    bad = {"role": "user", "content": [0] * 490}
    values: list[Any] = [
        {"messages": [bad] * 100, "additional_messages": [bad], "thread": {"messages": [bad] * 3}},
        {f"k{n}": n for n in range(NEARLY)},
        {
            "metadata": {f"k{n}": n for n in range(NEARLY // 2)},
            "files": [{f"k{k}": k for k in range(10)}] * 2000,
            "inputs": [{f"k{k}": k for k in range(10)}] * 200,
        },
        {"tools": [[]] * (NEARLY // 2 - 2000), "tool_outputs": [{}] * 1000, "model": {}, "role": []},
    ]
    return [*map(orjson.dumps, values), b"[" + b",".join([b"0"] * 5_000_000) + b"]"]


ROUTES = sorted({route.path for _, router in _ROUTERS for route in router.routes
                 if isinstance(route, APIRoute) and "POST" in route.methods})  # fmt: skip
LANGSERVE = tuple(
    f"/{runnable}{packed}/{ending}"
    for runnable in ("chat", "assistant")
    for packed in ("", "/c/N4XyA")
    for ending in ("invoke", "batch", "stream", "stream_log", "stream_events")
    if (runnable, ending) != ("assistant", "stream_events")
)
"""`test_langserve_wrong_inputs` fails if LangServe has others."""
QUICK = ("/chat/batch", "/chat/invoke", "/assistant/batch", "/assistant/invoke")
PASSED_ON = ("/chat/completions", *(each.path for each in FORWARDED))
"""Bodies that the upstream validates, not this server."""


Body = tuple[str, bytes, dict[str, str]]
"""Path, bytes, and headers."""


def bodies_of(api: ApiClient, paths: Sequence[str], **headers: str) -> Iterator[Body]:
    """Yield the largest valid and invalid bodies of these routes."""
    ids = {"thread_id": api.thread("a"), "vector_store_id": api.post("/vector_stores")["id"]}
    wrong, sent = invalid_bodies(), {"content-type": "application/json", **headers}
    for path in paths:
        at = re.sub(r"{(\w+)}", lambda name: ids.get(name[1], f"{name[1]}_x"), path)
        for body in [*(wrong[-1:] if path.endswith(PASSED_ON) else wrong), *map(orjson.dumps, valid_bodies(path))]:
            yield at, body, sent


def forms() -> Iterator[Body]:
    """Yield forms with many errors, or with large fields next to the file."""
    part = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    kinds = {"content-type": "multipart/form-data; boundary=b"}
    for path in ("/v1/files", "/v1/uploads/upload_x/parts", "/v1/audio/transcriptions", "/v1/images/edits"):
        yield path, part % (b"a", b"x") * 100_000 + b"--b--\r\n", kinds
        yield path, part % (b"a" * 5_000_000, b"x" * 4_000_000) + b"--b--\r\n", kinds
        yield path, part % (b"purpose", b"x" * 9_000_000) + b"--b--\r\n", kinds
        yield path, b"--b\r\n" + b"a: b\r\n" * 1_000_000 + b"\r\n--b--\r\n", kinds
        yield path, b"\r\n" * 4_000_000, kinds


def post(client: httpx2.Client, body: Body) -> None:
    path, content, headers = body
    try:
        assert client.post(path, content=content, headers=headers).status_code != 500, path
    except httpx2.TransportError:
        assert path.startswith("/v1/"), path  # a form that is refused before it has been sent


@pytest.mark.timeout(900)
def test_no_body_on_any_route_delays_other_requests(
    roomy: ServerProcess, api: ApiClient, record_property: Callable[[str, object], None]
) -> None:
    """The limits are generous, because tests share two cores."""
    idle = longest_wait(roomy, lambda: time.sleep(0.5))
    before, waits = resident_mb(roomy.pid), dict[str, float]()
    with httpx2.Client(base_url=roomy.url, timeout=60) as client:
        for body in bodies_of(api, [*(f"/v1{path}" for path in ROUTES), *QUICK]):
            waits[body[0]] = max(waits.get(body[0], 0), longest_wait(roomy, lambda body=body: post(client, body)))  # type: ignore[misc]
    worst = max(waits, key=lambda name: waits[name])
    record_property("idle, worst", f"{idle * 1e3:.0f} ms, {waits[worst] * 1e3:.0f} ms at {worst}")
    assert waits[worst] < 0.5 + 3 * idle, worst
    assert resident_mb(roomy.pid) < before + 500


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_body_on_any_address_delays_others_by_50_ms(
    roomy: ServerProcess, api: ApiClient, record_property: Callable[[str, object], None]
) -> None:
    """All paths of all routes, also for v1 clients. The shortest of eight attempts counts, because the machine is
    shared."""
    azure = ["/openai/deployments/m/chat/completions", "/openai/deployments/m/embeddings", "/openai/threads"]
    bodies = [
        *bodies_of(api, [*(f"/v1{path}" for path in ROUTES), *LANGSERVE, *azure]),
        *bodies_of(api, [path for path in ROUTES if not path.endswith(PASSED_ON)], **V1),
        *forms(),
    ]
    idle = longest_wait(roomy, lambda: time.sleep(2))
    found = dict[str, float]()
    with httpx2.Client(base_url=roomy.url, timeout=60) as client:
        for body in bodies:
            best = longest_wait(roomy, lambda body=body: post(client, body), limit_s=0.03, tries=8)  # type: ignore[misc]
            found[f"{body[0]} {len(body[1])} {body[1][:40]!r}"] = best
    worst = max(found, key=lambda name: found[name])
    record_property("idle, worst", f"{idle * 1e3:.0f} ms, {found[worst] * 1e3:.0f} ms at {worst}")
    assert {name: round(wait * 1e3) for name, wait in found.items() if wait > 0.05 + idle} == {}


@pytest.mark.soak
def test_a_refused_body_s_memory_is_freed(roomy: ServerProcess, api: ApiClient) -> None:
    """Remaining memory does not grow with the number of refusals."""

    def refuse(count: int) -> float:
        for body in invalid_bodies() * count:
            api.client.post("/threads", content=body, headers={"content-type": "application/json"})
        return resident_mb(roomy.pid)

    assert refuse(1) + 100 > refuse(4)
