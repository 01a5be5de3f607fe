"""The modules that a child imports for its tasks."""

import re
import subprocess
import sys
from typing import Final

import pytest

from tests.process import ROOT
from workers.process import child_environment

HEAVY: Final = ("langchain_core", "langchain_openai", "langgraph", "openai", "fastapi", "numpy")
"""Libraries that no check needs and that take up to several seconds to import."""

FUNCTIONS: Final = sorted(
    {
        function
        for package in ("chains", "graphs")
        for path in (ROOT / package).rglob("*.py")
        for function in re.findall(r'"((?:chains|graphs)(?:\.\w+)+:\w+)"', path.read_text())
    }
)


def test_the_functions_are_found() -> None:
    assert {"chains.calls.arguments:find_problems", "graphs.tools.document_worker:parse_to_json"} <= set(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_task_imports_the_libraries_of_runs(function: str) -> None:
    program = f"""
import sys, workers.child
workers.child.main(["4000000000"])
workers.child._function({function!r})
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "\n"
