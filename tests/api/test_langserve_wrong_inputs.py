"""Any input to LangServe's routes gets an answer or a 4xx in OpenAI's shape, and never a 5xx or a hang."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langserve.lzstring import LZString

from tests.process import ServerProcess

GOOD: dict[str, Any] = {"/chat": {"human": "a"}, "/assistant": {"content": "a"}}
ENDINGS = ("invoke", "batch", "stream", "stream_log", "stream_events")
POSTS = [f"{path}{packed}/{ending}" for path in GOOD for packed in ("", "/c/N4XyA") for ending in ENDINGS]
QUICK = {"/assistant/c/N4XyA/stream"}
EACH = [pytest.param(path, marks=() if path in QUICK else pytest.mark.soak) for path in POSTS]
MANY = [str(n) for n in range(50_000)]
LONG = "x" * 100_000
DEEP: Any = json.loads('{"a":' * 90 + "1" + "}" * 90)
ODD: dict[str, Any] = {
    "null": None,
    "true": True,
    "number": 5,
    "huge": 10**30,
    "text": "a",
    "long text": LONG,
    "array": ["a"],
    "empty array": [],
    "empty object": {},
    "object": {"a": 1},
    "deep": DEEP,
    "many": MANY,
    "nul": "\0",
    "separator": "\u2028\u202e",
}
CONFIG_FIELDS = (
    *("configurable", "tags", "metadata", "run_name", "run_id", "callbacks", "recursion_limit", "max_concurrency"),
    *("__owner", "unknown", "store", "__pregel_runtime", "lc"),
)
CONFIGURABLE = (
    "model",
    "temperature",
    "max_tokens",
    "__owner",
    "__batch_slots",
    "__call_slot",
    "__exchange",
    "unknown",
)


@pytest.fixture(scope="module")
def langserve(roomy: ServerProcess) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=roomy.url, timeout=20) as client:
        yield client


def body_of(path: str, given: Any = None, config: Any = None, **more: Any) -> dict[str, Any]:
    """Return a valid body of a route, with additional fields."""
    owner = "/chat" if path.startswith("/chat") else "/assistant"
    given = GOOD[owner] if given is None else given
    body = {"inputs": [given]} if path.endswith("/batch") else {"input": given}
    return {**body, **({} if config is None else {"config": config}), **more}


def check(answer: httpx2.Response, what: object) -> None:
    """Fail for a 5xx, and for an error in a shape that is not OpenAI's."""
    assert answer.status_code < 500, (what, answer.text[:500])
    assert "Internal Server Error" not in answer.text, what
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, what
        assert len(answer.content) < 4096, what
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert "event: end" in answer.text or "event: error" in answer.text or "on_chain_end" in answer.text, what


def post(client: httpx2.Client, path: str, body: Any, what: object = "") -> None:
    check(client.post(path, json=body), (path, what))


@pytest.mark.parametrize("path", EACH)
def test_a_config_of_any_value_is_answered(path: str, langserve: httpx2.Client) -> None:
    for name, value in ODD.items():
        post(langserve, path, {**body_of(path), "config": value}, name)
        post(langserve, path, {**body_of(path), "kwargs": value}, name)
        post(langserve, path, {**body_of(path), "config": [value, value]}, name)


@pytest.mark.parametrize("path", EACH)
def test_a_config_field_of_any_value_is_answered(path: str, langserve: httpx2.Client) -> None:
    for field in CONFIG_FIELDS:
        for name, value in ODD.items():
            post(langserve, path, body_of(path, config={field: value}), (field, name))
    for field in CONFIGURABLE:
        for name, value in ODD.items():
            post(langserve, path, body_of(path, config={"configurable": {field: value}}), (field, name))


@pytest.mark.parametrize("path", EACH)
def test_an_input_of_any_value_is_answered(path: str, langserve: httpx2.Client) -> None:
    for name, value in ODD.items():
        post(langserve, path, {"input": value}, name)
        post(langserve, path, {"inputs": value}, name)
        post(langserve, path, {"inputs": [*body_of("/chat/batch")["inputs"], value]}, name)
        post(langserve, path, value, name)
        for field in ("human", "system", "content", "thread_id", "tool_outputs", "after", "temperature", "file_ids"):
            post(langserve, path, body_of(path, given={field: value}), (field, name))
            good = GOOD["/chat" if path.startswith("/chat") else "/assistant"]
            post(langserve, path, body_of(path, given={**good, field: value}), (field, name))


@pytest.mark.parametrize("path", ["/chat/batch", "/assistant/batch"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_a_batch_with_any_number_of_configs_is_answered(path: str, count: int, langserve: httpx2.Client) -> None:
    for inputs in (0, 1, 2, 3):
        given = body_of(path)["inputs"] * inputs
        answer = langserve.post(path, json={"inputs": given, "config": [{}] * count})
        check(answer, (inputs, count))
        assert (answer.status_code == 200) == (count in (0, inputs)), (inputs, count, answer.text)


@pytest.mark.parametrize(
    "path", ["/chat/stream_log", pytest.param("/assistant/stream_log", marks=pytest.mark.soak), "/chat/stream_events"]
)
def test_log_filters_of_any_value_are_answered(path: str, langserve: httpx2.Client) -> None:
    for side in ("include", "exclude"):
        for kind in ("names", "types", "tags"):
            for name, value in ODD.items():
                post(langserve, path, {**body_of(path), f"{side}_{kind}": value}, (side, kind, name))
    for name, value in ODD.items():
        post(langserve, path, {**body_of(path), "diff": value}, name)


@cache
def packed_values() -> dict[str, str]:
    """Return packed configurations by name that are short enough for a URL. Packing takes seconds."""
    pack = LZString.compressToEncodedURIComponent
    odd = {**{name: value for name, value in ODD.items() if value is not MANY}, "long text": LONG[:10_000]}
    packed = {
        **{name: pack(json.dumps(value)) for name, value in odd.items()},
        **{
            f"{field} {name}": pack(json.dumps({field: value}))
            for field in ("configurable", "tags", "metadata", "run_id")
            for name, value in odd.items()
        },
        "no json": pack('{"a":'),
        "nothing": pack(""),
        "letters": "abc",
        "marks": "%00%ff",
        "stars": "****",
        "end": "Q",
        "emoji": "😀",
    }
    return {name: text for name, text in packed.items() if len(text) < 60_000}


SHOWN = ("input_schema", "output_schema", "config_schema", "playground/", "playground/index.html")


@pytest.mark.parametrize("all_endings", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["in turn", "all"])
@pytest.mark.parametrize("path", GOOD)
def test_a_url_with_any_configuration_is_answered(path: str, all_endings: bool, langserve: httpx2.Client) -> None:
    for number, (name, packed) in enumerate(packed_values().items()):
        for turn, (shown, ending) in enumerate(zip(SHOWN, ENDINGS, strict=True)):
            if all_endings or number % len(SHOWN) == turn:
                check(langserve.get(f"{path}/c/{packed}/{shown}"), (shown, name))
                post(langserve, f"{path}/c/{packed}/{ending}", body_of(f"{path}/{ending}"), name)


@pytest.mark.parametrize("path", GOOD)
def test_every_other_langserve_url_is_answered(path: str, langserve: httpx2.Client) -> None:
    """Its optional routes and file routes, with every method."""
    gone = ("feedback", "token_feedback", "public_trace_link", "public_trace_link/x", "config_hashes", "invoke/x")
    files = ("playground/../x", "playground/%2e%2e/%2e%2e/server.py", "playground/%00", "playground/a%00b")
    files = (*files, f"playground/{LONG[:300]}", f"playground/{LONG[:50_000]}", "playground/" + "a/" * 3000)
    for ending in (*gone, *files, "", "/", "c", "c/", "c//invoke", "input_schema/x"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
            answer = langserve.request(method, f"{path}/{ending}", json={} if method in ("POST", "PUT") else None)
            assert answer.status_code < 500, (method, ending)
            is_handled = method == "HEAD" or answer.status_code < 400 or answer.text.startswith('{"error":{"message":')
            assert is_handled, (method, ending, answer.status_code, answer.text[:200])
    for name, value in ODD.items():
        for ending in ("config_hashes", "feedback", "token_feedback", "public_trace_link"):
            post(langserve, f"{path}/{ending}", value, (ending, name))


def test_all_routes_of_langserve_are_tested() -> None:
    """If another version of LangServe adds a route, add it here."""
    from fastapi import FastAPI
    from langchain_core.runnables import RunnableLambda
    from langserve import add_routes

    app = FastAPI()
    add_routes(app, RunnableLambda(lambda given: given), path="/x")
    ends = {re.sub(r"^/x(/c/{config_hash})?/", "", getattr(route, "path", "")) for route in app.routes}
    known = {*ENDINGS, "input_schema", "output_schema", "config_schema", "playground/{file_path:path}"}
    optional = {"feedback", "token_feedback", "public_trace_link", "config_hashes", "playground"}
    own = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
    assert ends - known - optional - own == set()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "input": JSON | st.just({"human": "a"}) | st.just({"content": "a"}),
        "inputs": JSON | st.lists(JSON | st.just({"human": "a"}), max_size=3),
        "config": JSON | st.lists(JSON, max_size=3) | st.dictionaries(st.sampled_from(CONFIG_FIELDS), JSON, max_size=3),
        "kwargs": JSON,
        "diff": JSON,
        "include_names": JSON,
    },
)


@settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(path=st.sampled_from(POSTS), body=NAMED | JSON)
def test_any_body_on_any_route_is_answered(path: str, body: Any, langserve: httpx2.Client) -> None:
    post(langserve, path, body, body)
