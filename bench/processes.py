"""The processes of a benchmark: the scripted model, the pass-through, and the server of each checkout.

They and the client run at the same time on the same processors. The client reads their memory and processor time.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.process import ROOT, ServerProcess, resident_mb

__all__ = [
    "DIRECT",
    "PASSTHROUGH",
    "Checkout",
    "Process",
    "check_out",
    "describe_machine",
    "measure_start",
    "run_model",
    "run_passthrough",
    "run_servers",
]

DIRECT: Final = "direct"
PASSTHROUGH: Final = "pass-through"
"""The names of the two clients without Threadhold: the model called directly, and the minimum that a server can do."""

_SETTLE_S: Final = 1.0
"""The wait after everything answers, before the memory of the idle server is read."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A tree with a server and with an environment that can run it. `name` is its column of the table."""

    name: str
    root: Path = ROOT


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; `url` is the address that clients use."""

    name: str
    url: str
    pid: int


def describe_machine() -> str:
    """Return a sentence about this machine and its load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = f"load average {os.getloadavg()[0]:.1f} at the end"
    return f"{when}, {model}, {os.cpu_count()} processors, {load}, Python {platform.python_version()}."


@contextmanager
def check_out(revision: str) -> Iterator[Checkout]:
    """Check out a revision into a temporary folder and install it there.

    Raises:
        subprocess.CalledProcessError: Git does not know the revision, or its `make install` failed.
    """
    with tempfile.TemporaryDirectory(prefix="threadhold-bench-") as folder:
        tree = Path(folder) / "base"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(tree), revision], cwd=ROOT, check=True)
        try:
            print(f"installing {revision} into {tree} (a minute)", file=sys.stderr)
            subprocess.run(["make", "install"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
            yield Checkout(revision, tree)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


@contextmanager
def run_model() -> Iterator[Process]:
    """Run the scripted model."""
    with _run_module(DIRECT, "tests.upstream") as process:
        yield process


@contextmanager
def run_passthrough(model: Process) -> Iterator[Process]:
    """Run the pass-through to the model."""
    with _run_module(PASSTHROUGH, "bench.passthrough", model.url) as process:
        yield process


@contextmanager
def run_servers(checkouts: Sequence[Checkout], model: Process) -> Iterator[list[Process]]:
    """Run one server of each checkout, with the settings' defaults and an empty store."""
    with ExitStack() as stack:
        servers = []
        for checkout in checkouts:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="threadhold-bench-")))
            server = ServerProcess(folder, root=checkout.root, bare=True, MODEL_URL=model.url)
            servers.append(stack.enter_context(server))
        yield [Process(one.name, server.url, server.pid) for one, server in zip(checkouts, servers, strict=True)]


def measure_start(checkout: Checkout, model: Process) -> tuple[float, float]:
    """Start a server; return the seconds to its first healthy answer, and its memory in MB while it is idle."""
    with tempfile.TemporaryDirectory(prefix="threadhold-bench-") as folder:
        server = ServerProcess(Path(folder), root=checkout.root, bare=True, MODEL_URL=model.url)
        start = time.monotonic()
        try:
            server.start_healthy()
            healthy_s = time.monotonic() - start
            server.wait_ready()
            time.sleep(_SETTLE_S)
            return healthy_s, resident_mb(server.pid)
        finally:
            server.kill()


@contextmanager
def _run_module(name: str, *arguments: str) -> Iterator[Process]:
    """Run a Python module that prints its address; it is killed at the end."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Process(name, process.stdout.readline().strip(), process.pid)
        finally:
            process.kill()
