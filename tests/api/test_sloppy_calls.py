"""Invalid arguments, over HTTP: the client gets them unchanged and in order, and the run continues."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.api.test_runs import stream
from tests.upstream import Reply, ScriptedUpstream


def function(name: str, **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def called(
    api: ApiClient, upstream: ScriptedUpstream, calls: Sequence[tuple[str, str]], tools: Sequence[Any]
) -> list[tuple[str, str]]:
    """Return name and arguments of the calls that a model makes until it has outputs, after the run is completed."""

    def model(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == "out":
            return Reply("Done.")
        offered = [tool["function"]["name"] for tool in body["tools"]]  # a repair offers one
        return Reply(tool_calls=[call for call in calls if call[0] in offered])

    upstream.default = model
    body = {"assistant_id": api.assistant(tools=list(tools)), "stream": True}
    received = stream(api, f"/threads/{api.thread('Hello')}/runs", body)
    run = json.loads(received[-2][2])
    assert run["status"] == "requires_action"
    waiting = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    streamed: dict[int, str] = {}
    for _, event, data in received:
        for call in json.loads(data)["delta"]["step_details"]["tool_calls"] if event == "thread.run.step.delta" else ():
            streamed[call["index"]] = streamed.get(call["index"], "") + call["function"].get("arguments", "")
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    steps = api.get(f"{path}/steps")["data"]
    stored = [call["function"]["arguments"] for step in steps for call in step["step_details"].get("tool_calls", ())]
    assert [streamed[index] for index in sorted(streamed)] == stored
    assert stored == [call["function"]["arguments"] for call in waiting]
    outputs = [{"tool_call_id": call["id"], "output": "out"} for call in waiting]
    assert api.wait_ended(api.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs}))["status"] == "completed"
    return [(call["function"]["name"], call["function"]["arguments"]) for call in waiting]


ODD = {
    "white space around": ' { "a" :  "x" }\n',
    "another type": '{"a": 1}',
    "a list": '[{"a": "x"}]',
    "no JSON": "hello",
    "beyond 64 bits": '{"a": 123456789012345678901234567890}',
    "beyond a double": '{"a": 1e400}',
    "NaN": '{"a": NaN}',
    "half a surrogate pair": '{"a": 1, "b": "\\ud83d"}',
    "nested deeply": '{"a": ' + "[" * 300 + "]" * 300 + "}",
    "nested without end": '{"a": ' + "[" * 3000,
}


@pytest.mark.parametrize("arguments", ODD.values(), ids=ODD)
def test_odd_arguments_reach_the_client_and_the_run_continues(
    api: ApiClient, upstream: ScriptedUpstream, arguments: str
) -> None:
    assert called(api, upstream, [("f", arguments)], [function("f")]) == [("f", arguments)]


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_parallel_calls_keep_the_model_s_order(api: ApiClient, upstream: ScriptedUpstream, wrong: int) -> None:
    calls = [(name, '{"a": 1}' if index == wrong else '{"a": "x"}') for index, name in enumerate("fgh")]
    assert called(api, upstream, calls, [function(name) for name in "fgh"]) == calls


@pytest.mark.parametrize("arguments", [ODD["beyond 64 bits"], ODD["nested deeply"], ODD["half a surrogate pair"]])
def test_odd_arguments_of_a_strict_function_fail_no_run(
    api: ApiClient, script: Callable[..., None], arguments: str
) -> None:
    script(Reply(tool_calls=[("f", arguments)]), Reply(tool_calls=[("f", arguments)]))
    assert api.wait_ended(api.run(tools=[function("f", strict=True)]))["status"] == "completed"
