"""Questions and their answers: two texts, three examples, token by token, below the thread's history."""

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page
from tests.web.sources import texts


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_example_fills_both_texts_in_the_page_s_language(tab: Page, up: ScriptedUpstream, language: str) -> None:
    tab.fresh(language=language)
    presets = texts(language)["presets"]
    assert isinstance(presets, list)
    for number, preset in enumerate(presets):
        tab.choose("preset", str(number))
        assert tab.by_id("system").get_attribute("value") == preset["system"]
        assert tab.by_id("human").get_attribute("value") == preset["human"]
    tab.click("send")
    tab.shows(f"Echo: {presets[-1]['human']}")
    tab.idle()
    system, human = up.requests[-1].body["messages"]
    assert (system["role"], system["content"]) == ("system", presets[-1]["system"])
    assert (human["role"], human["content"]) == ("user", presets[-1]["human"])


def test_own_texts_reach_the_model_unchanged(page: Page, up: ScriptedUpstream) -> None:
    system, human = "Be a pirate.\n\nAlways.", "Où est le trésor ? <b>&amp;</b> 🏴\u200d☠️ \\n"
    page.fill(page.by_id("system"), system)
    page.fill(page.by_id("human"), human)
    page.click("send")
    page.idle()
    page.eventually(lambda: up.requests, "the model is asked")
    assert [message["content"] for message in up.requests[-1].body["messages"]] == [system, human]
    page.idle()
    assert page.messages()[0] == ("user", human)


def test_shift_enter_breaks_the_line_and_empty_text_is_not_sent(page: Page, up: ScriptedUpstream) -> None:
    page.send("")
    page.click("send")
    page.by_id("human").send_keys("one")
    page.js("arguments[0].setRangeText('\\ntwo', 3, 3, 'end')", page.by_id("human"))
    page.click("send")
    page.shows("Echo: one")
    page.idle()
    assert [message["content"] for message in up.requests[-1].body["messages"]] == ["one\ntwo"]
    assert len(up.requests) == 1


def test_tokens_appear_before_the_answer_ends(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four five", pause_after=4))
    page.send("Count")
    page.shows("one two three")
    assert up.finished == 0
    assert "four" not in page.log
    assert page.by_id("log").get_attribute("aria-busy") == "true"
    up.release()
    page.shows("one two three four five")
    page.idle()


def test_the_history_is_above_the_answer_in_order(page: Page, up: ScriptedUpstream) -> None:
    for word in ("first", "second", "third"):
        page.send(f"The {word} question")
        page.shows(f"Echo: The {word} question")
        page.idle()
    result = page.log
    places = [
        result.index(text) for word in ("first", "second", "third") for text in (f"The {word}", f"Echo: The {word}")
    ]
    assert places == sorted(places)
    assert len(up.requests[-1].body["messages"]) == 5
    page.reload()
    page.shows("Echo: The third question")
    assert [line for line in page.log.splitlines() if "question" in line] == [
        line for line in result.splitlines() if "question" in line
    ]
