"""`make bench`: starts the scripted upstream, the server and the load as processes, prints one table, keeps the JSON.

`make bench ARGS=--quick` takes a few seconds and proves that it works; its figures mean little.
"""

import argparse
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
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from bench.load import Plan
from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream

TARGET_MS = 5.0
"""What the median first token may come later at one client."""


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


@contextmanager
def upstream() -> Iterator[str]:
    """The scripted upstream as a process; yields its address."""
    command = [sys.executable, "-m", "tests.upstream"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def under_load(rounds: int, singles: int, turns_s: float) -> dict[str, Any]:
    """Everything that the load process measures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream() as direct,
        ServerProcess(Path(folder), MODEL_URL=direct) as server,
    ):
        plan = Plan(direct=direct, server=server.url, rounds=rounds, singles=singles, turns_s=turns_s)
        command = [sys.executable, "-m", "bench.load", json.dumps(asdict(plan))]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=1800)
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures


def cancelling(times: int) -> dict[str, Any]:
    """From sending the cancel to the upstream seeing its connection closed, in mid-stream."""
    slow = Reply(chunks=["w "] * 5000, delay_s=0.01)
    took = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedUpstream() as up,
        ServerProcess(Path(folder), MODEL_URL=up.url) as server,
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


def table(found: dict[str, Any]) -> str:
    """The figures for a person."""
    rows = [("", "direct", "through", "added or ratio")]
    for name, title in (("first_token_1", "1 client"), ("first_token_50", "50 clients")):
        one = found[name]
        for key, word in (("median_ms", "median"), ("p99_ms", "p99")):
            direct, through = one["direct"][key], one["through"][key]
            added = f"+{one[f'added_{key}']:.1f} ms"
            rows.append((f"first token, {title}, {word}", f"{direct:.1f} ms", f"{through:.1f} ms", added))
    for name, title in (
        ("tokens_1", "tokens a second, 1 stream"),
        ("tokens_50", "tokens a second, 50 streams"),
        ("turns_50", "whole turns a second, 50 clients"),
    ):
        one = found[name]
        direct, through = one["direct_per_s"], one["through_per_s"]
        rows.append((title, f"{direct:,.0f}", f"{through:,.0f}", f"1/{1 / one['ratio']:.1f}"))
    for kind, one in found["create"].items():
        rows.append((f"create a {kind}, 1 client", "", f"{one['median_ms']:.1f} ms", f"p99 {one['p99_ms']:.1f} ms"))
    cancel = found["cancel"]
    rows.append(
        ("cancel to closed upstream", "", f"{cancel['median_ms']:.1f} ms", f"worst {cancel['worst_ms']:.1f} ms")
    )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) if number == 0 else cell.rjust(width) for number, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="make bench", description="Compare with the upstream called directly.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--turns-s", type=float, default=8.0)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.singles, options.turns_s = 1, 20, 1.0
    about = machine()
    found = {
        "machine": about,
        **under_load(options.rounds, options.singles, options.turns_s),
        "cancel": cancelling(max(5, options.singles // 4)),
    }
    print(
        f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, Python {about['python']}, {about['at']}\n"
    )
    print(table(found))
    added = found["first_token_1"]["added_median_ms"]
    print(f"\nadded to the first token, one client: {added:.1f} ms (target: at most {TARGET_MS:.0f} ms)")
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    kept = results / f"{about['at'].replace(':', '').replace('+0000', 'Z')}.json"
    kept.write_text(json.dumps(found, indent=2) + "\n")
    print(f"kept in {kept.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
