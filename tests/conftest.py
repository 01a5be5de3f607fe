"""What `make soak` found, written down: `soak/report.md`, a line for each attack with what it recorded.

An attack says what it did through pytest's own fixture `record_property(name, value)`.

It does not matter how the tests are started: programs that they start can be interrupted (SIGINT). Their servers are
forked, and their clients trust one authority, nobody's.
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

from tests import process

_lines: list[str] = []

_PROGRAMS: Final = re.compile(
    r"\b(ServerProcess|subprocess|Builtin|MiniLm|llama)\b|\btests\.(ops|sdk|web)\b|from ops\b"
)
"""Words in test modules that start servers, commands, a browser or an engine."""

_SLOW_FOLDERS: Final = frozenset({"bench", "examples", "faults", "ops", "sdk", "web"})

# Python's default suits programs with few objects. With the libraries and eight thousand tests in memory, a quarter of
# the processor time went into collections that found nothing.
gc.set_threshold(50_000, 20, 100)

# A shell ignores SIGINT for what it starts in the background, and whatever we start would inherit that; a handler of
# ours becomes the default again across exec.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process per processor, also where there are several per core. More would finish sooner, but tests of
    engines and stalls would then compete for processors."""
    return os.cpu_count() or 1


@pytest.fixture(scope="session", autouse=True)
def authority() -> Iterator[None]:
    """Read one authority, not the machine's hundred and forty, for every client that is made: it takes 1 ms, not 40, of
    the processor, and thousands are made. No test goes out to where the others would be needed."""
    with trustme.CA().cert_pem.tempfile() as pem, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", pem)
        yield


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """Fork servers instead of starting each from nothing (see `tests.forked`)."""
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


@pytest.hookimpl(trylast=True)  # when those that are not asked for are gone, and the others have their limits
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that may take longest, so that no process is left with one of them at the end: those with
    the highest limits, then those that start programs."""
    limits: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), float(marker.args[0]) if marker and marker.args else 0.0)
    items.sort(key=lambda item: (-limits[item.path], not _starts_programs(item.path)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how an attack ended: its call, or whatever kept it from being called."""
    if "soak" not in report.keywords or (report.when != "call" and report.passed):
        return
    recorded = ", ".join(f"{name}: {value}" for name, value in report.user_properties)
    name = report.nodeid.removeprefix("tests/")
    _lines.append(f"| {name} | {report.outcome} | {report.duration:.0f} s | {recorded} |")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, when attacks have run."""
    if not _lines or hasattr(session.config, "workerinput"):  # xdist's workers hand theirs on
        return
    folder = Path(session.config.rootpath) / "soak"
    folder.mkdir(exist_ok=True)
    machine = (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    head = [f"# Soak, {time.strftime('%Y-%m-%d %H:%M')}", "", machine, "", "| attack | outcome | time | recorded |"]
    (folder / "report.md").write_text("\n".join([*head, "|---|---|---|---|", *_lines, ""]))
