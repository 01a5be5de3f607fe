"""The OpenAPI document is correct: no 5xx, and every status and body as described, for any request.

Schemathesis makes the requests, also along links, in a process of its own, which keeps its pytest plugin and its
warnings out of the other tests.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.conftest import wait_loaded
from tests.process import ROOT, ServerProcess
from tests.upstream import ScriptedUpstream

CONFIG = Path(__file__).with_name("fuzz.toml")
HOOKS = Path(__file__).with_name("fuzz_hooks.py")
WHOLE = "Operations: +([0-9]+) selected / \\1 total"


@pytest.fixture
def fuzzed(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, MODEL_URL=upstream.url, EMBEDDINGS_MODEL="of-words") as process:
        yield wait_loaded(process)


def run_schemathesis(server: ServerProcess, folder: Path, *options: str) -> str:
    """Run schemathesis and return its report, also when it has found an error."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "--config-file", str(CONFIG)]
    command += ["run", f"{server.url}/openapi.json", *options]
    # Hypothesis otherwise computes its tables of characters again in each folder. The HTTP client reads every variable
    # at each request, so there are few.
    environment = {"PATH": os.environ["PATH"], "SCHEMATHESIS_HOOKS": str(HOOKS)}
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / ".hypothesis")
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    report = "\n".join(line[:400] for line in run.stdout.splitlines())
    assert run.returncode == 0, f"{report}\n{run.stderr[-2000:]}\nThe server's log:\n{server.log.read_text()[-4000:]}"
    assert re.search(WHOLE, report), report
    return report


@pytest.mark.timeout(540)
def test_every_operation_matches_the_document(fuzzed: ServerProcess, tmp_path: Path) -> None:
    """Schemathesis tries every keyword of every schema once with valid and once with invalid values."""
    report = run_schemathesis(fuzzed, tmp_path, "--seed", "20260826", "--phases", "coverage")
    assert "Coverage" in report
    assert "Traceback" not in fuzzed.log.read_text()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_operation_matches_the_document_for_ten_minutes(
    record_property: Callable[[str, object], None], fuzzed: ServerProcess, tmp_path: Path
) -> None:
    report = run_schemathesis(fuzzed, tmp_path, "--phases", "coverage,fuzzing,stateful", "--max-time", "600")
    cases = re.search(r"([0-9]+) generated", report)
    assert cases
    record_property("requests", cases[1])
    assert "Traceback" not in fuzzed.log.read_text()
