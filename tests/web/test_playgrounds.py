"""LangServe's playgrounds in a real browser that can reach no host but this one."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
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
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--lang=en-US",
    "--window-size=1200,1600",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_TAKES_IN_S = 0.3
"""The form takes in what was typed a moment later; Start before that sends what was there before."""
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


class Playground:
    """A form of fields, Start or Stop, and what came out."""

    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        browser.get(url)
        self.until(lambda: self._named("Start"))

    def until(self, holds: Callable[[], Any], limit_s: float = 10) -> Any:
        """Wait until something is there, and return it."""
        end = time.monotonic() + limit_s
        while not (found := holds()):
            assert time.monotonic() < end, self.text
            time.sleep(0.02)
        return found

    @property
    def text(self) -> str:
        """All that is to be read."""
        return str(self._browser.find_element("css selector", "body").text)

    def fill(self, **values: str) -> None:
        """Type into fields."""
        for name, value in values.items():
            field = self._browser.find_element("id", f"#/properties/{name}-input")
            field.send_keys("\ue009a\ue000" if field.get_attribute("type") == "number" else "", value)
        time.sleep(_TAKES_IN_S)

    def add_output(self, call_id: str, output: str) -> None:
        """Add a row of tool outputs."""
        self._named("Add to")[0].click()
        cells = self.until(lambda: self._browser.find_elements("css selector", "td textarea"))
        cells[0].send_keys(call_id)
        cells[1].send_keys(output)
        time.sleep(_TAKES_IN_S)

    def click(self, label: str) -> None:
        """Press a button."""
        self._named(label)[0].click()

    def shows(self, text: str) -> None:
        """Wait until the output has this."""
        self.until(lambda: text in self.text.partition("\nOutput")[2])

    def _named(self, label: str) -> list[Any]:
        found: list[Any] = self._browser.find_elements(
            "xpath", f"//button[contains(., '{label}') or contains(@aria-label, '{label}')]"
        )
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture(scope="module")
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(up: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, MODEL_URL=up.url) as process:
        yield process


@pytest.fixture
def chat(browser: Any, server: ServerProcess) -> Iterator[Playground]:
    yield Playground(browser, f"{server.url}/chat/playground/")
    assert browser.get_log("browser") == []


@pytest.fixture
def assistant(browser: Any, server: ServerProcess) -> Iterator[Playground]:
    yield Playground(browser, f"{server.url}/assistant/playground/")
    assert browser.get_log("browser") == []


def test_chat_streams_and_its_stop_reaches_the_model(chat: Playground, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", pause_after=3))
    closed = up.closed_early
    chat.fill(system="Be kind.", human="Count, please")
    chat.click("Start")
    chat.shows("one two")
    assert up.open_streams == 1
    chat.click("Stop")
    up.wait_for(lambda up: up.closed_early == closed + 1)
    chat.until(lambda: "Stop" not in chat.text)
    assert "one two" in chat.text
    body = up.requests[-1].body
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "Count, please"]
    assert not {"temperature", "max_tokens"} & body.keys()


def test_chat_is_configured_by_its_form(chat: Playground, up: ScriptedUpstream) -> None:
    chat.fill(temperature="0.5", max_tokens="9", human="Hello")
    chat.click("Start")
    chat.shows("Echo: Hello")
    body = up.requests[-1].body
    assert [body["temperature"], body["max_tokens"]] == [0.5, 9]


def test_a_run_answers_through_its_form(assistant: Playground, up: ScriptedUpstream) -> None:
    fields = ["CONTENT", "INSTRUCTIONS", "MODEL", "THREAD ID", "ASSISTANT ID", "RUN ID", "TOOL OUTPUTS"]
    assert [line.strip() for line in assistant.text.split("\n") if line.strip() in fields] == fields
    up.script(Reply("one two three four", pause_after=3))
    assistant.fill(content="Count, please", instructions="Be kind.")
    assistant.click("Start")
    assistant.shows("thread.message.delta")
    up.release()
    assistant.shows("thread.run.completed")
    assert '"one two three four"' in assistant.text
    body = up.requests[-1].body
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "Count, please"]
    assert not {"temperature", "max_tokens"} & body.keys()


def test_a_run_s_stop_reaches_the_model(assistant: Playground, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", pause_after=3))
    closed = up.closed_early
    assistant.fill(content="Count, please")
    assistant.click("Start")
    assistant.shows("thread.message.delta")
    assistant.click("Stop")
    up.wait_for(lambda up: up.closed_early == closed + 1)


def test_a_waiting_run_goes_on_with_outputs_from_its_form(
    browser: Any, assistant: Playground, up: ScriptedUpstream, server: ServerProcess
) -> None:
    made = server.request("POST", "/assistants", {"model": "", "tools": [NOW]})
    up.script(Reply(tool_calls=[("now", {})]), Reply("It is noon."))
    assistant.fill(content="What time is it?", assistant_id=made["id"])
    assistant.click("Start")
    assistant.shows("thread.run.requires_action")
    thread = server.request("GET", "/threads")["data"][0]
    run = server.request("GET", f"/threads/{thread['id']}/runs")["data"][0]
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    again = Playground(browser, f"{server.url}/assistant/playground/")
    again.fill(run_id=run["id"])
    again.add_output(call["id"], "12:00")
    again.click("Start")
    again.shows("It is noon.")
    assert up.requests[-1].body["messages"][-1]["content"] == "12:00"
