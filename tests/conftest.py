"""What `make soak` found, written down: `soak/report.md`, a line for each attack with what it recorded.

An attack says what it did through pytest's own fixture `record_property(name, value)`.
"""

import os
import platform
import time
from pathlib import Path

import pytest

_lines: list[str] = []


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
