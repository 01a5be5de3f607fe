"""The processes of a measurement: the scripted model, the pass-through, the server of some checkout."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from bench.roads import Plan
from bench.stats import summary
from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream

__all__ = ["Amount", "cancelling", "machine", "starting", "under_load", "unrest"]


@dataclass(frozen=True)
class Amount:
    """How much to measure."""

    rounds: int = 5
    crowds: int = 30
    """Of fifty clients each, by each road."""

    singles: int = 500
    turns_s: float = 8.0
    streams: int = 1000
    messages: int = 10_000


def machine() -> dict[str, Any]:
    """The facts that figures mean nothing without."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(": ")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    names = ("threadhold", "langchain-core", "langchain-openai", "langgraph", "fastapi", "uvicorn", "aiohttp", "openai")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def unrest(samples: int) -> dict[str, Any]:
    """How long the same work of a millisecond takes on this machine, done now and then with nothing beside it.

    A virtual machine may get its processor back late: what this shows at p99, every p99 above it has too.
    """
    took = []
    for _ in range(samples):
        time.sleep(0.005)
        begun = time.perf_counter()
        sum(number * number for number in range(15_000))
        took.append(time.perf_counter() - begun)
    return summary(took)


@contextmanager
def _printing(*command: str) -> Iterator[tuple[str, int]]:
    """A process that prints its address first, and its id; it is killed in the end."""
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


def under_load(amount: Amount, root: Path = ROOT) -> dict[str, Any]:
    """Everything that the load process measures, with the server of the checkout in `root`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _printing("-m", "tests.upstream") as (direct, _),
        _printing("-m", "bench.bare", direct) as (bare, bare_pid),
        ServerProcess(Path(folder), root=root, MODEL_URL=direct) as server,
    ):
        plan = Plan(direct=direct, bare=bare, server=server.url, pid=server.pid, bare_pid=bare_pid, **asdict(amount))
        command = [sys.executable, "-m", "bench.load", json.dumps(asdict(plan))]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=1800)
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def starting(times: int, root: Path = ROOT) -> dict[str, Any]:
    """From starting the process to its first healthy answer, and to the end of its first run."""
    healthy, run = [], []
    with tempfile.TemporaryDirectory() as folder, ScriptedUpstream() as up:
        for number in range(times):
            place = Path(folder) / str(number)
            place.mkdir()
            server = ServerProcess(place, root=root, MODEL_URL=up.url)
            begun = time.monotonic()
            try:
                server.start_healthy()
                healthy.append(time.monotonic() - begun)
                told = {"input": {"content": "Hello"}}
                httpx2.post(f"{server.url}/assistant/invoke", json=told, timeout=30).raise_for_status()
                run.append(time.monotonic() - begun)
            finally:
                server.kill()
    return {"healthy_s": statistics.median(healthy), "run_s": statistics.median(run), "samples": times}


def cancelling(times: int, root: Path = ROOT) -> dict[str, Any]:
    """From sending the cancel to the upstream seeing its connection closed, in mid-stream."""
    slow = Reply(chunks=["w "] * 5000, delay_s=0.01)
    took = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedUpstream() as up,
        ServerProcess(Path(folder), root=root, MODEL_URL=up.url) as server,
    ):
        up.default = lambda _: slow
        assistant = server.request("POST", "/v1/assistants", {"model": "bench"})["id"]
        with httpx2.Client(base_url=server.url, timeout=10) as client:
            for number in range(times):
                body = {"assistant_id": assistant, "thread": {"messages": [{"role": "user", "content": "Go"}]}}
                run = client.post("/v1/threads/runs", json=body).json()
                up.wait_for(lambda up, number=number: len(up.requests) == number + 1)  # type: ignore[misc]
                time.sleep(0.1)
                sent = time.monotonic()
                client.post(f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel").raise_for_status()
                up.wait_for(lambda up, number=number: len(up.closed_at) == number + 1)  # type: ignore[misc]
                took.append((up.closed_at[-1] - sent) * 1e3)
    return {"median_ms": statistics.median(took), "worst_ms": max(took), "samples": times}
