"""Errors stay visible, with a message, code, request id and advice."""

import re

import pytest

from tests.process import ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream
from tests.web.page import Page


def _stays(page: Page, *texts: str) -> None:
    """Check that the error is an alert with these texts, and still visible after another exchange."""
    page.shows(*texts)
    page.idle()
    result = page.eventually(lambda: page.all("#log [role=alert]"), "an alert is there")[-1].text
    assert "→ " in result


def test_an_unreachable_model_is_named_by_its_address(tab: Page, without_model: ServerProcess) -> None:
    tab.fresh(server=without_model)
    tab.send("Hello?")
    _stays(tab, "127.0.0.1:9", "server_error · req_", "check the server's log, and MODEL_URL in its settings")


@pytest.mark.soak
def test_an_overloaded_model_is_reported(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(503, {"error": {"message": "Loading model"}}, headers={"Retry-After": "0"})
    page.send("Wake up")
    _stays(page, "503", "Loading model", "server_error · req_")


@pytest.mark.soak
def test_a_rate_limit_is_reported(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(429, headers={"Retry-After": "0"})
    page.send("Too often")
    _stays(page, "is limiting requests", "rate_limit_exceeded · req_", "wait a moment")
    up.default = lambda _: Reply("Fine again.")
    page.send("Later")
    page.shows("Fine again.")
    page.idle()
    assert "rate_limit_exceeded" in page.log


def test_a_failing_model_is_reported_and_again_after_a_reload(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(
        400, {"error": {"message": "no such model here", "type": "x", "code": "model_not_found"}}
    )
    page.send("Break")
    _stays(page, "no such model here")
    page.reload()
    page.shows("no such model here", "→ ")


@pytest.mark.soak
def test_a_truncated_answer_keeps_its_text_and_shows_why(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", cut_after=4))
    page.send("Break")
    _stays(page, "one two three")


def test_an_overflowing_context_is_reported_with_used_and_limit(page: Page, up: ScriptedUpstream) -> None:
    page.type("model", "tiny")  # the server learns a model's limit, so other tests use other names
    up.context = 60
    page.fill(page.by_id("human"), "x " * 300)
    page.click("send")
    _stays(page, "Context: 151 of 60 tokens", "start a new thread")


@pytest.mark.parametrize("language", [pytest.param("en", marks=pytest.mark.soak), "fr"])
def test_a_refusal_of_the_server_names_parameter_and_request(tab: Page, up: ScriptedUpstream, language: str) -> None:
    tab.fresh(language=language)
    tab.type("temperature", "9")
    tab.send("Hot")
    tab.shows("temperature", {"en": "→ correct", "fr": "→ corrigez"}[language])
    assert re.search(r" · req_\w+", tab.log)
    assert up.requests == []


def test_a_server_crash_in_mid_answer_loses_nothing(page: Page, server: ServerProcess, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", pause_after=3), Reply("five six seven eight", pause_after=4))
    page.send("Count")
    page.shows("one two")
    server.kill()
    server.start()
    page.shows("five six seven", limit_s=20)
    assert "one two" not in page.log  # regenerated, and the earlier text is replaced immediately
    up.release()
    page.shows("five six seven eight")
    page.idle()
    assert page.messages() == [("user", "Count"), ("assistant", "five six seven eight")]
