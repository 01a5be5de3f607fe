"""Tool calls as cards, and the form of a waiting run: one answer per call, checked, sent together; also approvals."""

import json
import re
from typing import Any

import pytest

from tests.graphs.tools.apis import Answer, Api, Seen, document
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ENTER, TAB, Page

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "default": "Oslo"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "days": {"type": "integer"},
                "hours": {"type": "array", "items": {"type": "number"}},
                "place": {"type": "object", "properties": {"indoors": {"type": "boolean"}}},
            },
        },
    },
}


def _assistant(page: Page, *tools: dict[str, Any]) -> None:
    made = page.server.request("POST", "/assistants", {"model": "", "name": "Tools", "tools": list(tools)})
    page.reload()
    page.choose("assistant", made["id"])


def _answer(page: Page, text: str = "mild") -> None:
    """Answer the one waiting call, and send it."""
    page.fill(page.eventually(lambda: page.all("form.ask textarea"), "an answer is wanted")[0], text)
    page.press("Send all")


def _outputs(up: ScriptedUpstream) -> list[str]:
    """Return the tool outputs in the model's last request, call by call."""
    return [message["content"] for message in up.requests[-1].body["messages"] if message["role"] == "tool"]


def _card(page: Page, number: int = 0) -> str:
    """Return all text of a card, opened."""
    page.eventually(lambda: len(page.all("details.card")) > number, "there is a card")
    text: str = page.js(
        "const c = document.querySelectorAll('details.card')[arguments[0]]; c.open = true; return c.innerText", number
    )
    return text


def test_the_waiting_form_starts_empty_and_requires_an_answer(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you", "get_weather", '"city": "Paris"')
    (box,) = page.all("form.ask textarea")
    assert box.get_attribute("value") == ""
    page.press("Send all")
    assert page.runs()[0]["status"] == "requires_action"
    _answer(page)
    page.shows("Sunny.")
    page.idle()
    assert _outputs(up) == ["mild"]


def test_two_calls_are_answered_by_hand_and_sent_together(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    calls = [("get_weather", {"city": "Paris"}, "call_a"), ("get_weather", {"city": "Rome"}, "call_b")]
    up.script(Reply(tool_calls=calls), Reply("Both are warm."))
    page.send("Weather?")
    page.shows("The run waits for you", "Paris", "Rome")
    page.eventually(lambda: len(page.all("form.ask textarea")) == 2, "two answers are wanted")
    assert len(page.all("form.ask")) == 1
    for box, answer in zip(page.all("form.ask textarea"), ('{"is": "mild"}', '{"is": "hot"}'), strict=True):
        page.fill(box, answer)
    asked = page.browser.asked
    before = sum("submit_tool_outputs" in url or url.endswith("/assistant/stream") for url in asked())
    page.press("Send all")
    page.shows("Both are warm.")
    page.idle()
    assert sum("submit_tool_outputs" in url or url.endswith("/assistant/stream") for url in asked()) == before + 1
    assert _outputs(up) == ['{"is": "mild"}', '{"is": "hot"}']
    assert page.all("form.ask") == []


def test_an_answer_that_is_not_json_is_refused(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you")
    box = page.eventually(lambda: page.all("form.ask textarea"), "an answer is wanted")[0]
    page.fill(box, '{"is": "mild"')
    page.shows("Invalid JSON")
    page.press("Send all")
    assert len(page.all("form.ask")) == 1
    assert len(up.requests) == 1
    assert page.runs()[0]["status"] == "requires_action"
    page.fill(box, '{"is": "mild"}')
    page.eventually(lambda: "Invalid JSON" not in page.log, "the complaint goes")
    page.press("Send all")
    page.shows("Sunny.")
    page.idle()
    assert _outputs(up) == ['{"is": "mild"}']


@pytest.mark.soak
def test_the_form_shows_the_remaining_time_and_survives_a_reload(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you")
    minutes, seconds = map(int, re.search(r"(\d+):(\d\d) left", page.log).groups())  # type: ignore[union-attr]
    assert 500 < minutes * 60 + seconds <= 600
    page.reload()
    page.shows("The run waits for you", "get_weather")
    _answer(page)
    page.shows("Sunny.")
    page.idle()


def test_no_message_is_sent_while_a_run_waits(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you")
    page.idle()
    page.send("And tomorrow?")
    focus = "return document.activeElement === document.querySelector('form.ask textarea')"
    page.until(focus, "the form is pointed at")
    page.click("send")
    page.until(focus, "and by the button, too")
    assert page.all("[role=alert]:not(:empty)") == []
    assert page.by_id("human").get_attribute("value") == "And tomorrow?"
    assert len(page.runs()) == 1
    _answer(page)
    page.shows("Sunny.")
    page.idle()
    page.by_id("human").send_keys(ENTER)
    page.shows("Echo: And tomorrow?")


@pytest.mark.soak
def test_an_expired_run_s_form_disappears_and_its_card_shows_it(
    tab: Page, up: ScriptedUpstream, expiring: ServerProcess
) -> None:
    tab.fresh(server=expiring)
    _assistant(tab, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]))
    tab.send("Weather?")
    tab.shows("The run waits for you")
    assert "waits for you" in _card(tab)
    tab.eventually(lambda: tab.all("form.ask") == [], "the form goes")
    tab.eventually(lambda: "expired" in _card(tab), "the card tells")
    tab.idle()
    assert tab.runs()[0]["status"] == "expired"
    tab.send("Again")
    tab.shows("Echo: Again")
    tab.idle()


@pytest.mark.soak
def test_the_form_of_a_run_stopped_elsewhere_disappears(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]))
    page.send("Weather?")
    page.shows("The run waits for you")
    page.idle()
    page.server.request("POST", f"/threads/{page.thread_id()}/runs/{page.runs()[0]['id']}/cancel")
    _answer(page)
    page.shows("do not accept tool outputs", "Stopped")
    page.eventually(lambda: page.all("form.ask") == [], "the form goes")
    page.eventually(lambda: "stopped" in _card(page), "the card says so")


@pytest.mark.soak
def test_typed_text_survives_a_server_outage(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you")
    page.idle()
    page.fill(page.all("form.ask textarea")[0], '{"sky": "clear"}')
    page.js("window.__fetch = fetch; window.fetch = () => Promise.reject(new TypeError('away'))")
    page.press("Send all")
    page.until("return document.querySelector('form.ask').hidden", "it is being sent")
    page.js("window.fetch = window.__fetch")
    page.press("Send all")
    page.shows("Sunny.")
    page.idle()
    assert _outputs(up) == ['{"sky": "clear"}']


def test_a_card_shows_name_arguments_output_status_and_time(page: Page, up: ScriptedUpstream) -> None:
    _assistant(page, WEATHER)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply("Sunny."))
    page.send("Weather?")
    page.shows("The run waits for you")
    result = _card(page)
    assert "get_weather" in result
    assert '"city": "Paris"' in result
    assert "no output yet" in result
    page.fill(page.all("form.ask textarea")[0], '{"sky": "clear"}')
    page.press("Send all")
    page.shows("Sunny.")
    page.idle()
    for _ in range(2):
        result = _card(page)
        assert '"sky": "clear"' in result
        assert re.search(r"done\s*·\s*\d+(\.\d)? s", result), result
        page.reload()
        page.shows("Sunny.")


def _weather_api(api: Api, **data: Any) -> dict[str, Any]:
    spec = document(api.url, {"/weather": {"get": {"operationId": "readWeather"}}})
    return {"type": "action", "data": {"openapi_spec": spec, **data}}


def _sunny(_: Seen) -> Answer:
    return Answer(body=b'{"sky":"clear"}')


def test_the_server_calls_an_action_which_is_shown_as_a_card(page: Page, up: ScriptedUpstream) -> None:
    with Api(_sunny) as api:
        _assistant(page, _weather_api(api))
        up.script(Reply(tool_calls=[("readWeather", {})]), Reply("It is clear."))
        page.send("Weather?")
        page.shows("It is clear.")
        page.idle()
        assert [seen.path for seen in api.seen] == ["/weather"]
        result = _card(page)
        assert "readWeather" in result
        assert "clear" in result
        assert "done" in result


@pytest.mark.soak
def test_cards_of_a_regenerated_answer_are_gone_after_a_reload(page: Page, up: ScriptedUpstream) -> None:
    with Api(_sunny) as api:
        _assistant(page, _weather_api(api))
        calls = Reply(tool_calls=[("readWeather", {})])
        up.script(calls, Reply("It is clear."), calls, Reply("It is clear again."))
        page.send("Weather?")
        page.shows("It is clear.")
        page.idle()
        page.press("Regenerate")
        page.shows("It is clear again.")
        page.idle()
        assert len(page.all("details.card")) == 1
        page.reload()
        page.shows("It is clear again.")
        assert len(page.all("details.card")) == 1
        assert len(page.all("article.it")) == 1


@pytest.mark.parametrize("answer", ["Approve", "Deny"])
def test_one_press_approves_or_denies_a_consequential_action(page: Page, up: ScriptedUpstream, answer: str) -> None:
    with Api(_sunny) as api:
        _assistant(page, _weather_api(api, is_consequential=True))
        up.script(Reply(tool_calls=[("readWeather", {})]), Reply("Well then."))
        page.send("Weather?")
        page.shows("The run waits for you", "readWeather", f"GET {api.url}/weather")
        assert page.axe() == []
        assert api.seen == []
        page.press(answer)
        page.shows("Well then.")
        page.idle()
        assert len(api.seen) == (answer == "Approve")


def _order_api(api: Api) -> dict[str, Any]:
    """An API of orders with a body, a query, and a secret key."""
    parameters = [{"name": "rush", "in": "query", "schema": {"type": "boolean"}}]
    schema = {"type": "object", "properties": {"item": {"type": "string"}, "count": {"type": "integer"}}}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    order = {"operationId": "placeOrder", "parameters": parameters, "requestBody": body}
    spec = document(api.url, {"/orders": {"post": order}})
    auth = {"type": "bearer", "token": "secret-of-the-shop"}
    return {"type": "action", "data": {"openapi_spec": spec, "is_consequential": True, "auth": auth}}


def test_an_approval_shows_method_address_and_body_of_each_call(page: Page, up: ScriptedUpstream) -> None:
    with Api(_sunny) as api:
        _assistant(page, _order_api(api))
        calls = [
            ("placeOrder", {"item": "tea", "count": 2, "rush": True}, "call_a"),
            ("placeOrder", {"item": "salt", "count": 1}, "call_b"),
        ]
        up.script(Reply(tool_calls=calls), Reply("Ordered."))
        page.send("Order")
        page.shows(f"POST {api.url}/orders?rush=true", '"item": "tea"', '"item": "salt"', "waits for you")
        assert "secret-of-the-shop" not in page.js("return document.documentElement.outerHTML")
        page.press("Send all")
        page.shows("Approve or deny each call first.")
        approve, deny = (page.all(f"form.ask .choice[data-t={word}]") for word in ("approved", "denied"))
        approve[0].click()
        deny[1].click()
        assert [node.get_attribute("aria-pressed") for node in (*approve, *deny)] == ["true", "false", "false", "true"]
        page.press("Send all")
        page.shows("Ordered.")
        page.idle()
        assert [json.loads(seen.body)["item"] for seen in api.seen] == ["tea"]


def test_enter_in_the_composer_approves_nothing(page: Page, up: ScriptedUpstream) -> None:
    with Api(_sunny) as api:
        _assistant(page, _weather_api(api, is_consequential=True))
        up.script(Reply(tool_calls=[("readWeather", {})]), Reply("Well then."))
        page.send("Weather?")
        page.shows("The run waits for you", f"GET {api.url}/weather")
        page.js("return document.activeElement").send_keys(ENTER)
        page.send("And tomorrow?")
        page.js("return document.activeElement").send_keys(ENTER)
        assert page.all("form.ask .request:focus")
        assert page.runs()[0]["status"] == "requires_action"
        page.js("return document.activeElement").send_keys(TAB, ENTER)  # the request's text
        page.js("return document.activeElement").send_keys(TAB, ENTER)
        page.shows("Well then.")
        assert len(api.seen) == 1
