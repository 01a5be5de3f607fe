"""The math-tutor walkthrough against a real model: llama.cpp's server and a model of 135 million parameters.

It asserts the protocol, not the wisdom: so small a model does not solve equations.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import ROOT, ServerProcess
from tests.sdk.conftest import absent
from tests.sdk.test_seeds import follow_001

pytestmark = pytest.mark.timeout(240)

PYTHON = ROOT / ".venv-model/bin/python"
PROGRAM = Path(__file__).parent / "programs" / "real_model.py"


@contextmanager
def llama_cpp() -> Iterator[str]:
    """llama.cpp's OpenAI-compatible server in a process of its own; yields its address."""
    if not PYTHON.exists():
        absent("the real model (`make sdks`)")
    with subprocess.Popen(
        [PYTHON, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_walkthrough_001_runs_on_a_real_model(tmp_path: Path) -> None:
    with llama_cpp() as url, ServerProcess(tmp_path, MODEL_URL=url) as server:
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
