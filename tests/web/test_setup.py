"""The settings box: server, model, assistant and metrics; an indicator of reachability; changes without a reload."""

import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream
from tests.web.conftest import KEY
from tests.web.page import Page
from tests.web.sources import INDEX


def test_the_server_s_models_are_offered(page: Page, up: ScriptedUpstream) -> None:
    seen = page.until("return [...document.querySelectorAll('#models option')].map(o => o.value)", "models are listed")
    assert seen == [model["id"] for model in up.models]
    assert page.by_id("model").get_attribute("list") == "models"


def test_model_temperature_and_limit_apply_from_the_next_message(page: Page, up: ScriptedUpstream) -> None:
    page.type("model", "one-model")
    page.send("First")
    page.shows("Echo: First")
    page.until("return document.querySelector('.it .who span').textContent === 'one-model'", "the model is named")
    page.until("return /\\d:\\d\\d/.test(document.querySelector('.me .who time').textContent)", "the time is shown")
    page.idle()
    page.type("model", "other-model")
    page.type("temperature", "0.3")
    page.type("tokens", "77")
    page.send("Second")
    page.shows("Echo: Second")
    page.idle()
    first, second = (seen.body for seen in up.requests)
    assert first["model"] == "one-model"
    assert "temperature" not in first
    assert second["model"] == "other-model"
    assert second["temperature"] == 0.3
    assert 77 in (second.get("max_tokens"), second.get("max_completion_tokens"))


def test_an_assistant_is_chosen_without_a_reload(page: Page, up: ScriptedUpstream) -> None:
    about = {"model": "its-model", "name": "Poet", "instructions": "Speak in rhymes."}
    made = page.server.request("POST", "/assistants", about)
    page.reload()
    page.choose("assistant", made["id"])
    page.send("Roses")
    page.shows("Echo: Roses")
    page.idle()
    body = up.requests[-1].body
    assert body["model"] == "its-model"
    assert body["messages"][0]["content"] == "Speak in rhymes."
    page.choose("assistant", "")
    page.send("Violets")
    page.shows("Echo: Violets")
    page.idle()
    assert "Speak in rhymes." not in str(up.requests[-1].body["messages"][0])
    assert page.runs()[1]["assistant_id"] == made["id"] != page.runs()[0]["assistant_id"]


@pytest.mark.soak
def test_settings_are_kept_after_a_reload(page: Page) -> None:
    page.type("model", "kept-model")
    page.type("temperature", "1.5")
    page.reload()
    page.open_setup()
    assert page.by_id("model").get_attribute("value") == "kept-model"
    assert page.by_id("temperature").get_attribute("value") == "1.5"


def test_the_indicator_shows_whether_the_model_is_reachable(page: Page, without_model: ServerProcess) -> None:
    page.until("return document.getElementById('dot').classList.contains('ok')", "the dot is good")
    assert "Ready" in page.by_id("state").text
    page.fresh(server=without_model)
    page.until("return document.getElementById('dot').classList.contains('bad')", "the dot is bad")
    assert "not ready" in page.by_id("state").text
    assert "127.0.0.1:9" in page.js("return document.getElementById('reach').textContent")


def test_a_server_that_requires_a_key_asks_for_it(tab: Page, locked: ServerProcess, up: ScriptedUpstream) -> None:
    tab.fresh(server=locked)
    tab.until(
        "return document.getElementById('reach').textContent === 'Requires an API key'", "the page asks for a key"
    )
    assert tab.js("return document.getElementById('dot').classList.contains('bad')")
    tab.send("Let me in")
    tab.shows("API key", "invalid_api_key · req_", "enter the key under Set-up")
    assert up.requests == []
    tab.open_setup()
    tab.type("key", KEY)
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the key opens")
    tab.until("return document.querySelector('#models option')", "the models are listed now")
    tab.wait_id("human").clear()
    tab.send("Hello")
    tab.shows("Echo: Hello")
    tab.idle()
    assert KEY not in tab.js("return JSON.stringify([localStorage, sessionStorage, location.href])")
    assert all(KEY not in str(seen.headers) for seen in up.requests)


def test_a_key_is_remembered_only_on_request(tab: Page, locked: ServerProcess, up: ScriptedUpstream) -> None:
    del up
    tab.fresh(server=locked)
    tab.open_setup()
    tab.click("keep")
    tab.type("key", KEY)
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the key opens")
    tab.reload()
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the key is still there")
    assert KEY not in tab.js("return JSON.stringify(localStorage)")


@pytest.mark.soak
def test_a_page_from_disk_can_use_several_servers(tab: Page, server: ServerProcess, locked: ServerProcess) -> None:
    tab.fresh(INDEX.as_uri())
    tab.js("window.__same = true")
    tab.type("server", server.url)
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the first server is found")
    tab.send("From disk")
    tab.shows("Echo: From disk")
    tab.idle()
    tab.type("server", locked.url + "/v1/")
    tab.until("return document.getElementById('reach').textContent === 'Requires an API key'", "the other one is found")
    tab.type("key", KEY)
    tab.until("return document.getElementById('reach').textContent === 'Ready'", "the other one opens")
    tab.click("new")
    tab.send("To the other")
    tab.shows("Echo: To the other")
    tab.idle()
    assert tab.js("return window.__same")
    titles = [thread["metadata"]["title"] for thread in server.request("GET", "/threads")["data"]]
    assert titles == ["From disk"]


@pytest.mark.soak
def test_a_page_from_disk_without_a_server_shows_advice(tab: Page) -> None:
    tab.fresh(INDEX.as_uri())
    tab.type("server", "http://127.0.0.1:9")
    tab.until("return document.getElementById('reach').textContent === 'Not reachable'", "no server is reachable")
    tab.send("Anyone?")
    tab.shows("Not reachable", "http://127.0.0.1:9", "CORS_ORIGINS")
