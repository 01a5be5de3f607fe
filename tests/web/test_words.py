"""French and English: chosen by the browser's language or the switch, and kept."""

import re

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page
from tests.web.sources import texts


@pytest.mark.parametrize(
    ("browser_says", "page_speaks"), [("fr-CA", "fr"), ("fr", "fr"), ("en-GB", "en"), ("de-DE", "en")]
)
def test_the_page_has_the_browser_s_language_or_english(tab: Page, browser_says: str, page_speaks: str) -> None:
    tab.fresh(language=browser_says)
    words = texts(page_speaks)
    assert tab.js("return document.documentElement.lang") == page_speaks
    assert tab.by_id("send").text == words["send"]
    assert tab.by_id("new").text == words["newThread"]
    assert str(words["helloTitle"]) in tab.log


def test_the_switch_changes_every_text_immediately_and_is_kept(page: Page, up: ScriptedUpstream) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    made = page.server.request("POST", "/assistants", {"model": "", "name": "L", "tools": [tool]})
    page.reload()
    page.choose("assistant", made["id"])
    up.script(Reply(tool_calls=[("look", {})]))
    page.send("Look")
    page.shows("The run waits for you")
    page.idle()
    page.choose("lang", "fr")
    page.shows(str(texts("fr")["asks"]), "Tout envoyer")
    english = {word for word in texts("en").values() if isinstance(word, str) and not re.search("^.{,6}$|{", word)}
    french = set(map(str, texts("fr").values()))
    shown = page.js(
        "return [...document.querySelectorAll('body *')].flatMap(e => [e.getAttribute('aria-label'), e.title,"
        " e.placeholder, e.childElementCount ? null : e.textContent]).filter(Boolean)"
    )
    assert [text for text in shown if text in english - french and text != "English"] == []
    page.reload()
    assert page.js("return document.documentElement.lang") == "fr"
    page.shows(str(texts("fr")["asks"]))
    page.choose("lang", "en")
    page.shows("The run waits for you")
    page.by_id("log").click()
