"""One server and one scripted upstream for all SDK tests; each test has its own owner, so none sees another's
objects."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.forked import run_forked
from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream, Step, echo

_OWNERS = 200
_numbers = itertools.count()


def absent(what: str) -> None:
    """Skip with the reason; under CI, where everything is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI tests everything")
    pytest.skip(f"{what} is not installed")


@dataclass(frozen=True)
class Programs:
    """Runs programs written for OpenAI's API against the server, and scripts their model."""

    url: str
    upstream: ScriptedUpstream
    key: str

    def script_model(self, *steps: Step) -> None:
        """Let the model answer in this order, then echo."""
        script = iter(steps)
        self.upstream.default = lambda body: next(script, None) or echo(body)

    def run(self, command: Sequence[str | Path], **environment: str) -> Any:
        """Run a program to its end and return its last line, decoded."""
        variables = {**os.environ, "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.key, **environment}
        program, *words = map(str, command)
        if program == sys.executable:  # forked, because the newest SDK takes a second to import
            done = run_forked(words, env=variables, cwd=ROOT, timeout_s=60)
        else:
            done = subprocess.run(
                [program, *words], env=variables, capture_output=True, text=True, timeout=60, check=False
            )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedUpstream]]:
    folder = tmp_path_factory.mktemp("sdk")
    keys = ",".join(f"owner{number}=key-{number}" for number in range(_OWNERS))
    with ScriptedUpstream() as upstream, ServerProcess(folder, MODEL_URL=upstream.url, API_KEYS=keys) as server:
        yield server.url, upstream


@pytest.fixture
def programs(_world: tuple[str, ScriptedUpstream]) -> Programs:
    """A new owner on the shared server, whose model echoes unless it is scripted."""
    url, upstream = _world
    upstream.default = lambda body: echo(body)
    return Programs(url, upstream, f"key-{next(_numbers)}")


@pytest.fixture
def two_calls() -> tuple[Step, Step]:
    """Script two concurrent function calls, then an answer."""
    calls = [("get_weather", {"city": "Paris"}, "call_a"), ("get_weather", {"city": "Rome"}, "call_b")]
    return Reply(tool_calls=calls), Reply("Both are warm.")
