"""Settings of the test run: processes, garbage collection, signals, certificates, and the report of `make soak`.

Each soak test adds a line to `soak/report.md`, with what it recorded by pytest's fixture `record_property(name,
value)`.

Test results do not depend on how pytest is started: programs that the tests start can be interrupted (SIGINT). Their
servers are forked, and their clients trust a single test authority.
"""

import gc
import os
import platform
import re
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import trustme
from hypothesis import settings

from tests import process

_lines: list[str] = []

_PROGRAMS: Final = re.compile(
    r"\b(ServerProcess|subprocess|Builtin|MiniLm|llama)\b|\btests\.(ops|sdk|web)\b|from ops\b"
)
"""Words in test modules that start servers, commands, a browser or an engine."""

_SLOW_FOLDERS: Final = frozenset({"bench", "examples", "faults", "ops", "sdk", "web"})

# Python's default suits programs with few objects. With the libraries and eight thousand tests in memory, a quarter of
# the processor time went into collections that freed nothing.
gc.set_threshold(50_000, 20, 100)

# Hypothesis lets an example take 200 ms unless `CI` is set. Tests of speed have limits of their own.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

# A shell ignores SIGINT for programs that it starts in the background, and our child processes would inherit that. A
# handler of ours becomes the default again across exec.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process per processor, also where there are several per core. More would finish sooner, but tests of
    engines and stalls would then compete for processors."""
    return os.cpu_count() or 1


@pytest.fixture(scope="session", autouse=True)
def authority() -> Iterator[None]:
    """Load one authority instead of the machine's 140 for every client. That takes 1 ms of processor time instead of 40
    ms, and the tests make thousands of clients. No test connects to a host that needs the others."""
    with trustme.CA().cert_pem.tempfile() as pem, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", pem)
        yield


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """Fork servers instead of starting each from scratch (see `tests.forked`)."""
    process.forks = True
    yield
    process.forks = False


@cache
def _starts_programs(path: Path) -> bool:
    return not _SLOW_FOLDERS.isdisjoint(path.parts) or _PROGRAMS.search(path.read_text()) is not None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that `make quick` leaves out."""
    if _starts_programs(item.path):
        item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Exclude the collected tests and the libraries from garbage collection. Otherwise each test that collects or lists
    objects examines all of them, for about a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # after deselected tests are removed and timeouts are set
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that no process is left with one of them at the end: those with the highest
    timeouts, then those that start programs."""
    limits: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), float(marker.args[0]) if marker and marker.args else 0.0)
    items.sort(key=lambda item: (-limits[item.path], not _starts_programs(item.path)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the result of a soak test, from its call or from the phase that failed before it."""
    if "soak" not in report.keywords or (report.when != "call" and report.passed):
        return
    recorded = ", ".join(f"{name}: {value}" for name, value in report.user_properties)
    name = report.nodeid.removeprefix("tests/")
    _lines.append(f"| {name} | {report.outcome} | {report.duration:.0f} s | {recorded} |")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report if soak tests have run."""
    if not _lines or hasattr(session.config, "workerinput"):  # xdist's workers send their reports to the controller
        return
    folder = Path(session.config.rootpath) / "soak"
    folder.mkdir(exist_ok=True)
    machine = (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    head = [f"# Soak, {time.strftime('%Y-%m-%d %H:%M')}", "", machine, "", "| attack | outcome | time | recorded |"]
    (folder / "report.md").write_text("\n".join([*head, "|---|---|---|---|", *_lines, ""]))
