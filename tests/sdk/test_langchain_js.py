"""LangChain.js 0.3, the last version with a RemoteRunnable, works with both LangServe routes."""

import shutil

import pytest

from tests.sdk.conftest import Programs, absent
from tests.sdk.test_node import FOLDER


@pytest.mark.timeout(270)
def test_remote_runnable_invokes_batches_and_streams(programs: Programs) -> None:
    if shutil.which("node") is None or not (FOLDER / "node_modules" / "@langchain" / "core").exists():
        absent("Node with LangChain.js (`make sdks`)")
    assert programs.run(["node", FOLDER / "remote.js"], THREADHOLD_URL=programs.url) == {
        "chat": "Echo: hello",
        "batch": ["Echo: hello", "Echo: hello"],
        "streamed": "Echo: hello",
        "assistant": "Echo: hi",
        "events": ["thread.created", "thread.run.completed"],
        "text": "Echo: more",
    }
