"""Errors stay, in words, with code and request id and what to do."""

import re

import pytest

from tests.process import ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream
from tests.web.page import Page


def _stays(page: Page, *texts: str) -> None:
    """The problem is an alert with these texts, and there still after another exchange."""
    page.shows(*texts)
    page.idle()
    told = page.eventually(lambda: page.all("#log [role=alert]"), "an alert is there")[-1].text
    assert "→ " in told


def test_a_model_that_is_not_there_is_told_by_its_address(page: Page, lonely: ServerProcess) -> None:
    page.fresh(server=lonely)
    page.send("Hello?")
    _stays(page, "127.0.0.1:9", "server_error · req_", "look at the server's log, and at its MODEL_URL")


def test_a_model_that_is_overloaded_is_told_in_words(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(503, {"error": {"message": "Loading model"}}, headers={"Retry-After": "0"})
    page.send("Wake up")
    _stays(page, "503", "Loading model", "server_error · req_")


def test_a_rate_limit_is_told_in_words(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(429, headers={"Retry-After": "0"})
    page.send("Too often")
    _stays(page, "is limiting requests", "rate_limit_exceeded · req_", "wait a moment")
    up.default = lambda _: Reply("Fine again.")
    page.send("Later")
    page.shows("Fine again.")
    page.idle()
    assert "rate_limit_exceeded" in page.log


def test_a_model_that_breaks_is_told_in_words_and_again_after_a_reload(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Fail(
        400, {"error": {"message": "no such model here", "type": "x", "code": "model_not_found"}}
    )
    page.send("Break")
    _stays(page, "no such model here")
    page.reload()
    page.shows("no such model here", "→ ")


def test_an_answer_that_is_cut_off_keeps_its_words_and_says_why(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", cut_after=4))
    page.send("Break")
    _stays(page, "one two three")


def test_a_context_that_overflows_is_told_with_used_and_limit(page: Page, up: ScriptedUpstream) -> None:
    page.type("model", "tiny")  # the server learns the limit of a model, so the others' must not be called the same
    up.context = 60
    page.fill(page.by_id("human"), "x " * 300)
    page.click("send")
    _stays(page, "Context: 151 of 60 tokens", "start a new thread")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_refusal_of_the_server_names_parameter_and_request(page: Page, up: ScriptedUpstream, language: str) -> None:
    page.fresh(language=language)
    page.type("temperature", "9")
    page.send("Hot")
    page.shows("temperature", {"en": "→ change", "fr": "→ changez"}[language])
    assert re.search(r" · req_\w+", page.log)
    assert up.requests == []


def test_a_server_that_dies_in_mid_answer_and_comes_back_loses_nothing(
    page: Page, server: ServerProcess, up: ScriptedUpstream
) -> None:
    up.script(Reply("one two three four", pause_after=3), Reply("five six seven eight", pause_after=4))
    page.send("Count")
    page.shows("one two")
    server.kill()
    server.start()
    page.shows("five six seven", limit_s=20)
    assert "one two" not in page.log  # made anew, and what was said before is taken back at once
    up.release()
    page.shows("five six seven eight")
    page.idle()
    assert page.messages() == [("user", "Count"), ("assistant", "five six seven eight")]
