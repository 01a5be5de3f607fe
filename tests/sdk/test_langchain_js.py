"""LangChain.js 0.3, the last that has a RemoteRunnable, works against both LangServe routes."""

import shutil

import pytest

from tests.sdk.conftest import Orphans, absent
from tests.sdk.test_node import FOLDER


@pytest.mark.timeout(90)
def test_remote_runnable_invokes_batches_and_streams(orphans: Orphans) -> None:
    if shutil.which("node") is None or not (FOLDER / "node_modules" / "@langchain" / "core").exists():
        absent("Node with LangChain.js (`make sdks`)")
    assert orphans.run(["node", FOLDER / "remote.js"], THREADHOLD_URL=orphans.url) == {
        "chat": "Echo: hello",
        "batch": ["Echo: hello", "Echo: hello"],
        "streamed": "Echo: hello",
        "assistant": "Echo: hi",
        "events": ["thread.created", "thread.run.completed"],
        "text": "Echo: more",
    }
