"""Every example runs, as its first line says, against a server with a scripted model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forked import run_forked
from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream

SAYS = {
    "chat_chain.py": "Echo: What is a chain?",
    "function_calling.py": "Clear in Paris.",
    "langserve_client.py": "Echo: What is a run?",
    "openapi_action.py": "Low until noon.",
    "run_graph.py": "Hello, Ada.",
    "stream_and_stop.py": "cancelled",
}
SCRIPTS = {
    "function_calling.py": [Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Clear in Paris.")],
    "openapi_action.py": [Reply(tool_calls=[("get_tide", {"port": "Brest"})]), Reply("Low until noon.")],
    "run_graph.py": [Reply(tool_calls=[("get_time", {}), ("ask_user", {})]), Reply("Hello, Ada.")],
    "stream_and_stop.py": [Reply("one two three four", pause_after=2)],
}
OUTPUTS = {
    "function_calling.py": ['{"city": "Paris", "sky": "clear", "celsius": 21}'],
    "openapi_action.py": ['{"tide": "low until noon"}'],
}
"""The outputs of the calls that the model receives."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as up:
        yield up


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("examples")
    with ServerProcess(folder, MODEL_URL=upstream.url, ACTIONS_ALLOW_HOSTS="127.0.0.1") as process:
        yield process


@pytest.mark.parametrize("name", SAYS)
def test_the_example_runs(name: str, upstream: ScriptedUpstream, server: ServerProcess, tmp_path: Path) -> None:
    upstream.script(*SCRIPTS.get(name, ()))
    result = {"MODEL_URL": upstream.url, "THREADHOLD_URL": server.url, "PYTHONPATH": str(ROOT), "PATH": ""}
    done = run_forked([str(ROOT / "examples" / name)], env=result, cwd=tmp_path, timeout_s=40)
    assert (done.returncode, done.stdout.strip()) == (0, SAYS[name]), done.stderr
    if name in OUTPUTS:
        messages = upstream.requests[-1].body["messages"]
        assert [message["content"] for message in messages if message["role"] == "tool"] == OUTPUTS[name]


def test_no_example_is_left_out() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)
