"""LangServe's playgrounds in a real browser that can reach no host but this one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.browser import Browser

_TAKES_IN_S = 0.3
"""The form takes in what was typed a moment later; Start before that sends what was there before."""
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


class Playground:
    """A form of fields, Start or Stop, and the output."""

    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        browser.get(url)
        self.until(lambda: self._named("Start"))

    def until(self, holds: Callable[[], Any], limit_s: float = 60) -> Any:
        """Wait until the condition holds, and return its value."""
        end = time.monotonic() + limit_s
        while not (found := holds()):
            assert time.monotonic() < end, self.text
            time.sleep(0.02)
        return found

    @property
    def text(self) -> str:
        """All visible text."""
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
        """Wait until the output has this text."""
        self.until(lambda: text in self.text.partition("\nOutput")[2])

    def _named(self, label: str) -> list[Any]:
        found: list[Any] = self._browser.find_elements(
            "xpath", f"//button[contains(., '{label}') or contains(@aria-label, '{label}')]"
        )
        return found


@pytest.fixture
def tab(browser: Browser, server: ServerProcess, up: ScriptedUpstream) -> Iterator[Any]:
    """A large tab on the server; its activity is checked at the end."""
    del server, up
    browser.forget()
    browser.driver.get_log("browser")
    size = {"width": 1200, "height": 1600, "deviceScaleFactor": 1, "mobile": False}
    browser.cdp("Emulation.setDeviceMetricsOverride", **size)
    yield browser.driver
    browser.cdp("Emulation.clearDeviceMetricsOverride")
    assert browser.driver.get_log("browser") == []
    assert browser.foreign_addresses() == []


@pytest.fixture
def chat(tab: Any, server: ServerProcess) -> Playground:
    return Playground(tab, f"{server.url}/chat/playground/")


@pytest.fixture
def assistant(tab: Any, server: ServerProcess) -> Playground:
    return Playground(tab, f"{server.url}/assistant/playground/")


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


@pytest.mark.soak
def test_chat_is_configured_by_its_form(chat: Playground, up: ScriptedUpstream) -> None:
    chat.fill(temperature="0.5", max_tokens="9", human="Hello")
    chat.click("Start")
    chat.shows("Echo: Hello")
    body = up.requests[-1].body
    assert [body["temperature"], body["max_tokens"]] == [0.5, 9]


@pytest.mark.soak
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


@pytest.mark.soak
def test_a_run_s_stop_reaches_the_model(assistant: Playground, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", pause_after=3))
    closed = up.closed_early
    assistant.fill(content="Count, please")
    assistant.click("Start")
    assistant.shows("thread.message.delta")
    assistant.click("Stop")
    up.wait_for(lambda up: up.closed_early == closed + 1)


def test_a_waiting_run_continues_with_outputs_from_its_form(
    tab: Any, assistant: Playground, up: ScriptedUpstream, server: ServerProcess
) -> None:
    made = server.request("POST", "/assistants", {"model": "", "tools": [NOW]})
    up.script(Reply(tool_calls=[("now", {})]), Reply("It is noon."))
    assistant.fill(content="What time is it?", assistant_id=made["id"])
    assistant.click("Start")
    assistant.shows("thread.run.requires_action")
    thread = server.request("GET", "/threads")["data"][0]
    run = server.request("GET", f"/threads/{thread['id']}/runs")["data"][0]
    (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    again = Playground(tab, f"{server.url}/assistant/playground/")
    again.fill(run_id=run["id"])
    again.add_output(call["id"], "12:00")
    again.click("Start")
    again.shows("It is noon.")
    assert up.requests[-1].body["messages"][-1]["content"] == "12:00"
