"""A program that answers function calls sees no difference between native and emulated calls."""

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.forked import run_forked
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream, Step

PROGRAM = Path(__file__).parent / "programs" / "functions.py"
CITIES = ("Paris", "Rome")


def spelled(*cities: str) -> list[dict[str, Any]]:
    return [{"name": "get_weather", "arguments": {"city": city}} for city in cities]


def chosen(count: int) -> Reply:
    return Reply(json.dumps({"function": "get_weather" if count else "none", "calls": count}))


WARM, COLD = Reply("Both are warm."), Reply("Oslo is cold.")
SCRIPTS: dict[str, Sequence[Step]] = {
    "native": (
        Reply(tool_calls=[("get_weather", {"city": city}) for city in CITIES]), WARM,
        Reply(tool_calls=[("get_weather", {"city": "Oslo"})]), COLD,
    ),
    "schema": (
        chosen(2), Reply(json.dumps({"calls": spelled(*CITIES)})), chosen(0), WARM,
        chosen(1), Reply(json.dumps(spelled("Oslo")[0])), chosen(0), COLD,
    ),
    "prompt": (
        Reply(f"```json\n{json.dumps(spelled(*CITIES))}\n```"), WARM,
        Reply(f"{json.dumps(spelled('Oslo')[0])}"), COLD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", SCRIPTS)
def test_a_program_sees_the_same_events_and_steps_in_every_mode(tmp_path: Path, mode: str) -> None:
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(tmp_path, MODEL_URL=upstream.url, TOOL_CALLS=mode) as server,
    ):
        upstream.script(*SCRIPTS[mode])
        environment = {**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "any"}
        done = run_forked([str(PROGRAM)], env=environment, cwd=tmp_path, timeout_s=40)
        assert done.returncode == 0, done.stdout + done.stderr
        assert upstream.probes == 0
        assert any(seen.body.get("tools") for seen in upstream.requests) is (mode == "native")
    seen = json.loads(done.stdout)
    events = seen.pop("events")
    assert sorted(line for line in events if not line.startswith("thread.")) == [
        "call created: get_weather",
        'call done: {"city":"Oslo"}',
        "text: Oslo is cold.",
    ]  # the program answers in the middle of its first stream, so their order is not significant
    assert [name for name, _ in itertools.groupby(line for line in events if line.startswith("thread."))] == [
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.run.step.delta",
        "thread.run.requires_action",
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.delta",
        "thread.message.completed",
        "thread.run.step.completed",
        "thread.run.completed",
    ]
    assert seen == {
        "waiting": ["requires_action", ["get_weather", "get_weather"]],
        "run": ["completed", None],
        "steps": [["tool_calls", "completed"], ["message_creation", "completed"]],
        "outputs": ["Paris", "Rome"],
        "answer": "Both are warm.",
        "last": "completed",
    }


def test_the_file_replaces_prompts_and_unknown_names_stop_the_start(tmp_path: Path) -> None:
    toml = tmp_path / "threadhold.toml"
    toml.write_text('tool_calls = "prompt"\n[prompts]\noffer = "OURS: {functions}"\n')
    with ScriptedUpstream() as upstream, ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        function = {"type": "function", "function": {"name": "f"}}
        assistant = server.request("POST", "/assistants", {"model": "m", "tools": [function]})
        asked = {"assistant_id": assistant["id"], "thread": {"messages": [{"role": "user", "content": "Hi"}]}}
        httpx2.post(f"{server.url}/threads/runs", json={**asked, "stream": True}, timeout=10)
        assert upstream.requests[0].body["messages"][0]["content"].startswith('OURS: {"name":"f"')
    toml.write_text('[prompts]\nofer = "OURS"\n')
    with pytest.raises(AssertionError, match=r"`\[prompts\]` has `ofer`"):
        ServerProcess(tmp_path, MODEL_URL="http://127.0.0.1:9").start()
