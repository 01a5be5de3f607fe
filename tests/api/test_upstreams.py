"""Several upstreams, as named in `threadhold.toml`, through the complete server."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from server import Settings
from tests.anthropic import MessageReply, ScriptedAnthropic
from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_upstreams_of_the_file_answer_by_their_names(tmp_path: Path) -> None:
    with ScriptedUpstream() as local, ScriptedAnthropic() as anthropic:
        (tmp_path / "threadhold.toml").write_text(
            f"""
            model_url = "{local.url}"
            model_aliases = "gpt-4=claude/claude-test"
            [upstreams.claude]
            provider = "anthropic"
            url = "{anthropic.url}"
            api_key = "sk-file"
            models = ["claude-test"]
            [upstreams.gone]
            url = "http://127.0.0.1:9/v1"
            """
        )
        with ServerProcess(tmp_path, ANTHROPIC_API_KEY="sk-environment") as server:

            def run(model: str, **fields: Any) -> dict[str, Any]:
                assistant = server.request("POST", "/assistants", {"model": model, **fields})["id"]
                thread = {"messages": [{"role": "user", "content": "hi"}]}
                created = server.request("POST", "/threads/runs", {"assistant_id": assistant, "thread": thread})
                url = f"{server.url}/threads/{created['thread_id']}/runs/{created['id']}/events"
                httpx2.get(url, timeout=15).raise_for_status()
                done: dict[str, Any] = server.request("GET", f"/threads/{created['thread_id']}/runs/{created['id']}")
                return done

            listed = [entry["id"] for entry in server.request("GET", "/models")["data"]]
            assert listed == ["test-model", "claude-test", "all-MiniLM-L6-v2-int8", "gpt-4"]
            for model in ("claude-test", "claude/claude-test"):
                assert server.request("GET", f"/models/{model}")["id"] == "claude-test"
            for model in ("claude/claude-test", "claude-test", "gpt-4"):
                done = run(model)
                assert (done["status"], done["model"]) == ("completed", model)
            assert len(anthropic.bodies) == 3
            assert "sk-environment" not in str(anthropic.headers)
            assert run("test-model")["status"] == "completed"
            assert [seen.body["model"] for seen in local.requests] == ["test-model"]

            anthropic.script(MessageReply("Let me see", calls=(("weather", {"place": "Pau"}),)))
            waiting = run("claude-test", tools=[WEATHER])
            assert waiting["status"] == "requires_action"
            (call,) = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
            assert call["function"] == {"name": "weather", "arguments": '{"place":"Pau"}'}
            path = f"/threads/{waiting['thread_id']}/runs/{waiting['id']}"
            outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "20 °C"}], "stream": True}
            assert "thread.run.completed" in httpx2.post(server.url + path + "/submit_tool_outputs", json=outputs).text
            assert [block["type"] for block in anthropic.bodies[-1]["messages"][-1]["content"]] == ["tool_result"]

            failed = run("gone/x")
            assert failed["status"] == "failed"
            assert "`url` of [upstreams.gone]" in failed["last_error"]["message"]
            checks = httpx2.get(f"{server.url}/ready", timeout=10).json()["checks"]
            assert checks["upstream"].startswith("`gone`: 127.0.0.1:9 cannot be reached")

            asked = {"model": "claude-test", "messages": [{"role": "user", "content": "hi"}]}
            result = server.request("POST", "/chat/completions", asked)
            assert result["choices"][0]["message"]["content"] == "Hello there"
            chat = {"input": {"human": "hi"}, "config": {"configurable": {"model": "claude-test"}}}
            assert server.request("POST", "/chat/invoke", chat)["output"] == "Hello there"

            anthropic.script(MessageReply("one two", hang=True))
            assistant = server.request("POST", "/assistants", {"model": "claude-test"})["id"]
            created = server.request("POST", "/threads/runs", {"assistant_id": assistant})
            server.request("POST", f"/threads/{created['thread_id']}/runs/{created['id']}/cancel")
            url = f"{server.url}/threads/{created['thread_id']}/runs/{created['id']}/events"
            assert "thread.run.cancelled" in httpx2.get(url, timeout=15).text
            assert anthropic.open_streams == 0


@pytest.mark.parametrize(
    ("upstreams", "result"),
    [
        ({"a": {}}, "`url` is missing"),
        ({"a": {"url": "http://h", "modells": ["m"]}}, "modells"),
        ({"a": {"provider": "anthropic", "tool_calls": "schema"}}, "other providers are native"),
        ({"a/b": {"url": "http://h"}}, "should match pattern"),
    ],
)
def test_a_misspelled_upstream_stops_the_start(upstreams: dict[str, Any], result: str) -> None:
    with pytest.raises(ValidationError, match=result):
        Settings(upstreams=upstreams)
