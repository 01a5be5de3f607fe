"""The page in a real browser that can reach no host but this one."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if (_CHROMIUM is None or _DRIVER is None) and not os.environ.get("CI"):
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)
pytestmark = pytest.mark.timeout(60)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
    "--lang=en-US",
    "--window-size=1400,900",
)


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def server(up: ScriptedUpstream, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, MODEL_URL=up.url) as process:
        yield process


@pytest.fixture
def page(server: ServerProcess, tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    try:
        browser.get(server.url)
        yield browser
    finally:
        browser.quit()


def _send(page: Any, text: str) -> None:
    page.find_element("id", "human").send_keys(text + "\n")


def _shows(page: Any, text: str, limit_s: float = 8) -> None:
    end = time.monotonic() + limit_s
    while text not in (seen := page.find_element("id", "log").text):
        assert time.monotonic() < end, f"{text!r} is not in {seen!r}"
        time.sleep(0.02)


def test_words_appear_before_the_answer_ends_and_stop_reaches_the_model(page: Any, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four five", pause_after=4))
    _send(page, "Count")
    _shows(page, "one two three")
    page.find_element("id", "send").click()
    up.wait_for(lambda u: u.closed_early == 1)
    _shows(page, "Stopped")
    assert "one two three" in page.find_element("id", "log").text


def test_a_reload_in_mid_answer_loses_nothing(page: Any, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four five", pause_after=4))
    _send(page, "Count")
    _shows(page, "one two three")
    page.refresh()
    _shows(page, "one two three")
    up.release()
    _shows(page, "one two three four five")
    assert up.closed_early == 0


def test_a_function_call_is_answered_by_hand(page: Any, up: ScriptedUpstream, server: ServerProcess) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": schema}}
    made = server.request("POST", "/assistants", {"model": "", "name": "Weather", "tools": [tool]})
    page.refresh()
    end = time.monotonic() + 5
    while not (options := page.find_elements("css selector", f"option[value={made['id']}]")):
        assert time.monotonic() < end
        time.sleep(0.05)
    options[0].click()
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny in Paris."))
    _send(page, "Weather?")
    _shows(page, "The run waits for you")
    page.find_element("css selector", ".ask button.main").click()
    _shows(page, "Sunny in Paris.")
    assert up.requests[-1].body["messages"][-1]["role"] == "tool"


def test_nothing_that_a_model_says_runs_or_loads(page: Any, up: ScriptedUpstream) -> None:
    nasty = (
        "<img src=x onerror=alert(1)> ![x](http://evil.test/x.png) [a](javascript:alert(1)) <script>alert(1)</script>"
    )
    up.script(Reply(nasty + " end"))
    _send(page, "Attack")
    _shows(page, "end")
    assert not page.find_elements("css selector", "#log img, #log script, #log a[href^=javascript]")


def test_a_thread_is_renamed_by_keyboard_and_deleted(page: Any, server: ServerProcess) -> None:
    _send(page, "Hello")
    _shows(page, "Echo: Hello")
    page.find_element("id", "rename").click()
    page.switch_to.alert.send_keys("Another title")
    page.switch_to.alert.accept()
    end = time.monotonic() + 5
    while "Another title" not in page.find_element("id", "threads").text:
        assert time.monotonic() < end
        time.sleep(0.02)
    page.find_element("id", "remove").click()
    page.switch_to.alert.accept()
    while server.request("GET", "/threads")["data"]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_context_that_is_full_is_told_with_its_figures(page: Any, up: ScriptedUpstream) -> None:
    up.context = 60
    _send(page, "x " * 300)
    _shows(page, "Context: 151 of 60 tokens")
    _shows(page, "What to do: start a new thread")
