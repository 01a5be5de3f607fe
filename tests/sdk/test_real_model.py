"""The math-tutor walkthrough against a real model: the built-in engine and its demo of 135 million parameters.

It asserts the protocol, not the wisdom: so small a model does not solve equations.
"""

from pathlib import Path

import pytest

from tests.process import ServerProcess
from tests.sdk.test_seeds import follow_001

pytestmark = pytest.mark.timeout(240)


def test_walkthrough_001_runs_on_a_real_model(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, MODEL_CONTEXT_SIZE="2048", MODEL_THREADS="1", MAX_REPLY_TOKENS="256") as server:
        seen = follow_001(server.url, limit_s=150)
    ended, answer = seen["ended"], seen["messages"]["data"][0]
    if ended["status"] == "incomplete":  # it rambles, and its engine stops it
        assert ended["incomplete_details"] == {"reason": "max_completion_tokens"}
        assert answer["status"] == "incomplete"
    else:
        assert [ended["status"], answer["status"]] == ["completed", "completed"]
    assert answer["content"][0]["text"]["value"].strip()
    assert ended["usage"]["prompt_tokens"] > 10
    assert ended["usage"]["completion_tokens"] > 0
    assert ended["usage"]["total_tokens"] == ended["usage"]["prompt_tokens"] + ended["usage"]["completion_tokens"]
