"""The walkthroughs with a real model: the built-in engine and its demo of 135 million parameters.

They check the protocol and not the answers: such a small model does not solve equations.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from langchain_core.messages import HumanMessage, SystemMessage

from chains import Builtin, EngineConfig, OpenAIBackend, ReplyCall
from tests.process import ServerProcess
from tests.sdk.test_seeds import follow_001
from wire.model_options import ModelOptions

pytestmark = pytest.mark.timeout(720)


def test_walkthrough_001_runs_on_a_real_model(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_CONTEXT_SIZE="2048", MODEL_THREADS="1", MAX_REPLY_TOKENS="256") as server:
        seen = follow_001(server.url, limit_s=150)
    ended, answer = seen["ended"], seen["messages"]["data"][0]
    if ended["status"] == "incomplete":  # it does not stop by itself, and its engine stops it
        assert ended["incomplete_details"] == {"reason": "max_completion_tokens"}
        assert answer["status"] == "incomplete"
    else:
        assert [ended["status"], answer["status"]] == ["completed", "completed"]
    assert answer["content"][0]["text"]["value"].strip()
    assert ended["usage"]["prompt_tokens"] > 10
    assert ended["usage"]["completion_tokens"] > 0
    assert ended["usage"]["total_tokens"] == ended["usage"]["prompt_tokens"] + ended["usage"]["completion_tokens"]


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "getCurrentWeather",
        "description": "Get the weather in location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state e.g. San Francisco, CA"},
                "unit": {"type": "string"},
            },
            "required": ["location"],
        },
    },
}
NAMED = {"type": "function", "function": {"name": "getCurrentWeather"}}
ASKED = "What's the weather in San Francisco?"


@pytest.mark.soak
@pytest.mark.parametrize("times", [3, 40])
async def test_a_required_call_is_always_valid_with_any_sampling(times: int) -> None:
    builtin = Builtin(config=EngineConfig(context_size=4096, parallel=4, threads=1))
    replies = OpenAIBackend(builtin)
    messages = [SystemMessage("You are a weather bot. Use the provided functions."), HumanMessage(ASKED)]
    schema: Any = Draft202012Validator(WEATHER["function"]["parameters"])
    few = asyncio.Semaphore(4)

    async def called(choice: Any) -> list[Any]:
        call = ReplyCall(
            "any",
            list(messages),
            [WEATHER],
            choice,
            parallel_tool_calls=False,
            options=ModelOptions(temperature=1.0),
            max_tokens=160,
        )
        async with few:
            chunks = [chunk async for chunk in replies.stream(call)]
        assert not any(chunk.invalid_tool_calls for chunk in chunks)
        return [fragment for chunk in chunks for fragment in chunk.tool_call_chunks]

    try:
        made = await asyncio.gather(*(called(choice) for choice in ("required", NAMED) for _ in range(times)))
    finally:
        await builtin.close()
    for fragments in made:
        (fragment,) = fragments
        assert fragment["name"] == "getCurrentWeather"
        assert not list(schema.iter_errors(json.loads(fragment["args"])))


@pytest.mark.soak
def test_walkthrough_002_calls_a_function_with_a_real_model(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_CONTEXT_SIZE="2048", MODEL_THREADS="1", MAX_REPLY_TOKENS="160") as server:
        assistant = server.request(
            "POST",
            "/assistants",
            {"model": "Intel/neural-chat-7b-v3-2", "instructions": "Be short.", "tools": [WEATHER]},
        )
        thread = server.request("POST", "/threads", {"messages": [{"role": "user", "content": ASKED}]})
        path = f"/threads/{thread['id']}/runs"
        run = server.request("POST", path, {"assistant_id": assistant["id"], "tool_choice": "required"})

        def until(*statuses: str) -> Any:
            end = time.monotonic() + 150
            while (now := server.request("GET", f"{path}/{run['id']}"))["status"] not in statuses:
                assert time.monotonic() < end
                assert now["status"] in ("queued", "in_progress"), now["last_error"]
                time.sleep(0.05)
            return now

        calls = until("requires_action")["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert {call["function"]["name"] for call in calls} == {"getCurrentWeather"}
        assert all(json.loads(call["function"]["arguments"])["location"] is not None for call in calls)
        outputs = [{"tool_call_id": call["id"], "output": '{"temperature": 68, "unit": "F"}'} for call in calls]
        server.request("POST", f"{path}/{run['id']}/submit_tool_outputs", {"tool_outputs": outputs})
        # It can ask for the weather of another city, or never end; both are allowed.
        ended = until("completed", "incomplete", "requires_action")
        steps = server.request("GET", f"{path}/{run['id']}/steps?order=asc")["data"]
        assert [steps[0]["type"], steps[0]["status"]] == ["tool_calls", "completed"]
        if ended["status"] != "requires_action":
            answer = server.request("GET", f"/threads/{thread['id']}/messages")["data"][0]
            assert answer["content"][0]["text"]["value"].strip()
