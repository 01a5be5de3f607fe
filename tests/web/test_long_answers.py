"""Long and hostile answers never freeze the page: their cost grows linearly, and is spread over many frames."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page
from tests.web.sources import FILES

_GROWTH = Path(__file__).parent / "growth.mjs"
_SIZE = 200_000
_LONGEST_MS = 3000.0  # under 100 on an idle machine; without limits, seconds to minutes
_ANSWERS = {
    "ticks": "".join("`" * (i % 400 + 1) + "a" for i in range(1000)),
    "code": "`a` ",
    "links": "[a](http://b.test) ",
    "cells": "|a|\n|-|\n" + "|||||||||\n" * 40_000,
    "items": "- a\n",
    "quotes": "> - a\n",
    "fences": "```\na\n```\n",
    "code-lines": "```\n" + "a\n" * 200_000,
    "spaces": "# a" + " " * 200_000 + "b",
}
_LONGEST = """
window.longest = 0;
const note = entries => entries.getEntries().forEach(e => window.longest = Math.max(window.longest, e.duration));
new PerformanceObserver(note).observe({ type: 'longtask', buffered: true });
"""
_DRAWN = "return document.querySelector('#log .md')?.textContent.trimEnd().endsWith('THE END')"


def _answer(unit: str) -> str:
    return (unit * (_SIZE // len(unit) + 1))[:_SIZE] + "\n\n```\n~~~\n\nTHE END"


@pytest.mark.soak
@pytest.mark.timeout(450)
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("size", [20_000, 50_000])
def test_drawing_time_grows_linearly_with_the_text(size: int) -> None:
    # The garbage collector's time depends on the machine, so it gets no threads, and enough space for the new objects
    # of a measurement.
    collector = ["--single-threaded-gc", "--min-semi-space-size=256", "--max-semi-space-size=256"]
    command = ["node", *collector, str(_GROWTH), str(FILES), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("name", _ANSWERS)
def test_no_answer_freezes_the_page(page: Page, up: ScriptedUpstream, name: str) -> None:
    up.script(Reply(chunks=[_answer(_ANSWERS[name])]))
    page.js(_LONGEST)
    page.send("Attack")
    page.until(_DRAWN, "all is drawn", limit_s=25)
    page.idle()
    streamed = page.js("return window.longest")
    page.reload()
    page.js(_LONGEST)
    page.until(_DRAWN, "all is drawn again", limit_s=25)
    loaded = page.js("return window.longest")
    assert max(streamed, loaded) < _LONGEST_MS
