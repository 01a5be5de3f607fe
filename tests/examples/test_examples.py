"""Every example runs, as its first line says, against a server whose model is scripted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream

SAYS = {
    "chat_chain.py": "Echo: What is a chain?",
    "langserve_client.py": "Echo: What is a run?",
    "stream_and_stop.py": "cancelled",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SAYS)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream, ServerProcess(tmp_path, MODEL_URL=upstream.url) as server:
        if name == "stream_and_stop.py":
            upstream.script(Reply("one two three four", pause_after=2))
        told = {"MODEL_URL": upstream.url, "THREADHOLD_URL": server.url, "PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", ROOT / "examples" / name],
            env=told,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, SAYS[name]), done.stderr


def test_no_example_is_left_out() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)
