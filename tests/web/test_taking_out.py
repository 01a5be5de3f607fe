"""Exports of the page: the last call as curl and as Python, which work; a thread as JSON and as Markdown."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.conftest import KEY
from tests.web.page import Page

NASTY = "It's \"quoted\" $HOME `id` \\n é 🙂\n'''two''' lines %s {x} true null"


def _ask(page: Page, text: str = NASTY) -> None:
    page.fill(page.by_id("system"), 'Don\'t be "long".')
    page.type("temperature", "0.5")
    page.fill(page.by_id("human"), text)
    page.click("send")
    page.shows("Echo: ")
    page.idle()


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _same_call(up: ScriptedUpstream) -> None:
    """Check that the model was called once more with the same question, after the earlier exchange."""
    first, again = up.requests[0].body, up.requests[-1].body
    assert first is not again
    assert again["messages"][: len(first["messages"])] == first["messages"]
    assert again["messages"][-1]["content"] == first["messages"][-1]["content"] == NASTY
    assert again["temperature"] == first["temperature"] == 0.5


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_copied_curl_works(page: Page, up: ScriptedUpstream) -> None:
    _ask(page)
    page.press("Copy curl")
    command = page.eventually(lambda: (text := page.copied()).startswith("curl ") and text, "it is copied")
    result = _run(["sh", "-c", command])
    assert '"event":"thread.run.completed"' in result
    assert "event: end" in result
    _same_call(up)


@pytest.mark.soak
def test_the_copied_python_works(page: Page, up: ScriptedUpstream, tmp_path: Path) -> None:
    _ask(page)
    up.script(Reply("From Python."))
    page.press("Copy Python")
    program = page.eventually(lambda: (text := page.copied()).startswith("import ") and text, "it is copied")
    (tmp_path / "call.py").write_text(program, encoding="utf-8")
    assert _run([sys.executable, "-W", "ignore", str(tmp_path / "call.py")]).strip() == "From Python."
    _same_call(up)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_copied_call_contains_no_key(tab: Page, up: ScriptedUpstream, locked: ServerProcess) -> None:
    tab.fresh(server=locked)
    tab.open_setup()
    tab.type("key", KEY)
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the key opens")
    tab.send("Hello")
    tab.shows("Echo: Hello")
    tab.idle()
    tab.press("Copy curl")
    command = tab.eventually(lambda: (text := tab.copied()).startswith("curl ") and text, "it is copied")
    assert KEY not in command
    assert "thread.run.completed" in _run(["sh", "-c", command], API_KEY=KEY)
    assert len(up.requests) == 2


def _download(page: Page, folder: Path, button: str) -> str:
    page.browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.click(button)
    suffix = {"json": ".json", "markdown": ".md"}[button]
    file = page.eventually(lambda: next(iter(folder.glob(f"*{suffix}")), None), f"a {suffix} file is there")
    assert file.stem == page.thread_id()
    return str(page.eventually(lambda: file.read_text(encoding="utf-8"), "it is written"))


def test_a_thread_is_exported_completely_as_json(page: Page, tmp_path: Path) -> None:
    _ask(page)
    result = json.loads(_download(page, tmp_path, "json"))
    assert list(result) == ["thread", "messages", "runs"], "the keys are not those that `threadhold import` accepts"
    assert result["thread"]["id"] == page.thread_id()
    texts = [message["content"][0]["text"]["value"] for message in result["messages"]]
    assert texts == [NASTY, f"Echo: {NASTY}"]
    assert [run["status"] for run in result["runs"]] == ["completed"]


@pytest.mark.soak
def test_a_thread_is_exported_as_markdown_in_order(page: Page, tmp_path: Path) -> None:
    _ask(page)
    result = _download(page, tmp_path, "markdown")
    assert result.startswith('# It\'s "quoted"')
    places = [result.index(part) for part in ("## You", NASTY, "## Answer", f"Echo: {NASTY}")]
    assert places == sorted(places)
