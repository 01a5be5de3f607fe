"""Invalid bodies of LangServe's routes are refused with the parameter's name before anything runs."""

from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

WAYS = [
    *(("/chat", way) for way in ("invoke", "stream", "stream_log", "stream_events", "c/N4XyA/invoke")),
    *(("/assistant", way) for way in ("invoke", "stream", "stream_log", "c/N4XyA/stream")),
]
GOOD: dict[str, dict[str, Any]] = {"/chat": {"human": "hi"}, "/assistant": {"content": "hi"}}
WRONG = [
    ({"humann": "hi"}, "humann"),
    ({"question": "hi", "human": "hi", "content": "hi"}, None),
    ({"messages": [{"role": "user", "content": "hi"}]}, "messages"),
    ({"": "hi"}, ""),
]
WRONG_TYPES: list[Any] = [None, "hi", 5, True, ["hi"], [{"human": "hi"}]]


def refusal(server: ServerProcess, path: str, body: Any) -> dict[str, Any]:
    answer = httpx2.post(f"{server.url}{path}", json=body, timeout=10)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(("path", "way"), WAYS)
def test_an_unknown_key_is_named_with_the_allowed_keys(server: ServerProcess, path: str, way: str) -> None:
    for given, key in WRONG:
        error = refusal(server, f"{path}/{way}", {"input": given})
        assert error["code"] == "unknown_parameter"
        assert key is None or error["param"] == f"input.{key}"
        for name in ("system", "human") if path == "/chat" else ("content", "thread_id"):
            assert f"'{name}'" in error["message"]


@pytest.mark.parametrize(("path", "way"), WAYS)
def test_an_input_of_another_type_is_named(server: ServerProcess, path: str, way: str) -> None:
    for given in WRONG_TYPES:
        assert refusal(server, f"{path}/{way}", {"input": given})["param"] == "input"
    name = next(iter(GOOD[path]))
    for value in (None, 5, ["hi"], {}):
        assert refusal(server, f"{path}/{way}", {"input": {name: value}})["param"] == f"input.{name}"


def test_a_chat_without_human_is_refused(server: ServerProcess) -> None:
    for given in ({}, {"system": "Be brief."}):
        error = refusal(server, "/chat/invoke", {"input": given})
        assert (error["param"], error["code"]) == ("input.human", "missing_required_parameter")
        assert "'human'" in error["message"]


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
@pytest.mark.parametrize("wrong", [{"humann": "hi"}, None, 5, ["hi"]], ids=["key", "null", "number", "array"])
def test_an_invalid_input_of_a_batch_is_named_by_index(
    server: ServerProcess, upstream: ScriptedUpstream, path: str, wrong: Any
) -> None:
    asked = len(upstream.requests)
    error = refusal(server, f"{path}/batch", {"inputs": [GOOD[path], GOOD[path], wrong]})
    assert error["param"] == ("inputs[2].humann" if isinstance(wrong, dict) else "inputs[2]")
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_a_batch_that_is_not_a_list_is_refused(server: ServerProcess, path: str) -> None:
    for inputs in (None, 5, "hi", GOOD[path]):
        assert refusal(server, f"{path}/batch", {"inputs": inputs})["param"] == "inputs"
    assert refusal(server, f"{path}/batch", {"input": GOOD[path]})["param"] == "inputs"
    assert refusal(server, f"{path}/invoke", {"inputs": [GOOD[path]]})["param"] == "input"


@pytest.mark.parametrize("value", [None, 5, "x", True, [5]], ids=str)
@pytest.mark.parametrize("path", ["/chat", "/assistant"])
def test_a_config_of_another_type_is_refused(server: ServerProcess, path: str, value: Any) -> None:
    assert refusal(server, f"{path}/invoke", {"input": GOOD[path], "config": value})["param"] == "config"
    param = refusal(server, f"{path}/batch", {"inputs": [GOOD[path]], "config": value})["param"]
    assert param == ("config[0]" if value == [5] else "config")
    if value is not None:
        config = {"configurable": value}
        assert refusal(server, f"{path}/invoke", {"input": GOOD[path], "config": config})["param"] == (
            "config.configurable"
        )
        param = refusal(server, f"{path}/batch", {"inputs": [GOOD[path]] * 2, "config": [{}, config]})["param"]
        assert param == "config[1].configurable"


def test_an_unknown_nested_key_is_named_with_alternatives(server: ServerProcess) -> None:
    turn = {"run_id": "run_none", "tool_outputs": [{"tool_call_id": "call_1", "result": "noon"}]}
    error = refusal(server, "/assistant/stream", {"input": turn})
    assert error["param"] == "input.tool_outputs[0].result"
    assert "'tool_call_id', 'output'" in error["message"]


@pytest.mark.parametrize("body", [None, 5, [], "x", {}], ids=["null", "number", "array", "string", "empty"])
def test_an_invalid_body_is_refused(server: ServerProcess, body: Any) -> None:
    for path in ("/chat/invoke", "/chat/batch", "/assistant/stream"):
        refusal(server, path, body)


@pytest.mark.parametrize("kwargs", [{}, [{}, {}], [], None], ids=["python", "javascript", "php", "null"])
def test_a_valid_batch_passes_with_configs_and_any_kwargs(server: ServerProcess, kwargs: Any) -> None:
    body = {"inputs": [{"human": "a"}, {"human": "b"}], "config": [{}, {"tags": ["x"]}], "kwargs": kwargs}
    answer = httpx2.post(f"{server.url}/chat/batch", json=body, timeout=10)
    assert answer.json()["output"] == ["Echo: a", "Echo: b"]
