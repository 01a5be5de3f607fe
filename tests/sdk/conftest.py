"""One server and one scripted upstream for all SDK tests; each test is an owner of its own, so none sees another's."""

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
    """Skip, and say why; under CI, where everything is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI tests everything")
    pytest.skip(f"{what} is not installed")


@dataclass(frozen=True)
class Orphans:
    """Where programs from before the switch-off find their server, and what their model says."""

    url: str
    upstream: ScriptedUpstream
    key: str

    def model_says(self, *steps: Step) -> None:
        """Answer in this order, then echo."""
        script = iter(steps)
        self.upstream.default = lambda body: next(script, None) or echo(body)

    def run(self, command: Sequence[str | Path], **environment: str) -> Any:
        """Run a program to its end; returns what its last line says, decoded."""
        told = {**os.environ, "OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": self.key, **environment}
        program, *words = map(str, command)
        if program == sys.executable:  # forked, because the newest SDK takes a second to import
            done = run_forked(words, env=told, cwd=ROOT, timeout_s=60)
        else:
            done = subprocess.run([program, *words], env=told, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedUpstream]]:
    folder = tmp_path_factory.mktemp("sdk")
    keys = ",".join(f"owner{number}=key-{number}" for number in range(_OWNERS))
    with ScriptedUpstream() as upstream, ServerProcess(folder, MODEL_URL=upstream.url, API_KEYS=keys) as server:
        yield server.url, upstream


@pytest.fixture
def orphans(_world: tuple[str, ScriptedUpstream]) -> Orphans:
    """A fresh owner on the shared server, whose model echoes until told otherwise."""
    url, upstream = _world
    upstream.default = lambda body: echo(body)
    return Orphans(url, upstream, f"key-{next(_numbers)}")


@pytest.fixture
def two_calls() -> tuple[Step, Step]:
    """The model asks for two functions at once, then answers."""
    calls = [("get_weather", {"city": "Paris"}, "call_a"), ("get_weather", {"city": "Rome"}, "call_b")]
    return Reply(tool_calls=calls), Reply("Both are warm.")
