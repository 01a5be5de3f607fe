"""The tokens and speed of each answer, and what happens while the user reads elsewhere."""

import re

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page


def test_an_answer_shows_tokens_first_token_time_and_speed(page: Page, up: ScriptedUpstream) -> None:
    usage = {"prompt_tokens": 1234, "completion_tokens": 56, "total_tokens": 1290}
    up.script(Reply(" ".join(["word"] * 40), start_s=0.3, delay_s=0.03, usage=usage))
    page.send("Measure")
    page.shows("1,234 in, 56 out")
    result = page.log
    first = re.search(r"first token after (\d+\.\d+) s", result)
    assert first
    assert 0.3 <= float(first[1]) < 3
    speed = re.search(r"([\d.]+) tokens/s", result)
    assert speed
    assert 5 < float(speed[1]) < 56 / 1.0
    page.reload()
    page.shows("1,234 in, 56 out")


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.soak
def test_the_speed_is_that_of_the_last_reply_alone(page: Page, up: ScriptedUpstream) -> None:
    made = page.server.request("POST", "/assistants", {"model": "", "name": "Tools", "tools": [TOOL]})
    page.reload()
    page.choose("assistant", made["id"])
    call = Reply(
        tool_calls=[("look_up", {})], usage={"prompt_tokens": 9, "completion_tokens": 900, "total_tokens": 909}
    )
    words = " ".join(["word"] * 20)
    up.script(call, Reply(words, delay_s=0.05, usage={"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}))
    page.send("Measure")
    page.shows("The run waits for you")
    page.fill(page.eventually(lambda: page.all("form.ask textarea"), "an answer is wanted")[0], "found")
    page.press("Send all")
    page.shows("18 in, 920 out")
    speed = re.search(r"([\d.,]+) tokens/s", page.log)
    assert speed
    assert 5 < float(speed[1].replace(",", "")) < 25


@pytest.mark.soak
def test_numbers_have_the_language_s_format(tab: Page, up: ScriptedUpstream) -> None:
    tab.fresh(language="fr-FR")
    up.script(Reply("Oui.", usage={"prompt_tokens": 1234, "completion_tokens": 5, "total_tokens": 1239}))
    tab.send("Combien ?")
    tab.shows("1\u202f234 en entrée, 5 en sortie", "premier jeton après 0,")


_BELOW = """
const log = document.getElementById('log'), end = log.lastElementChild.getBoundingClientRect().bottom;
return end - Math.min(innerHeight, log.getBoundingClientRect().bottom);
"""
_UP = "document.getElementById('log').scrollTop = 100; if (scrollY > 100) scrollTo(0, 100);"
_PLACE = "return [document.getElementById('log').scrollTop, scrollY]"


@pytest.mark.parametrize("width", [0, 320], ids=["wide", "phone"])
def test_scrolling_up_is_not_disturbed_and_a_button_returns(page: Page, up: ScriptedUpstream, width: int) -> None:
    page.look(width=width)
    lines = [f"line {number}\n\n" for number in range(120)]
    up.script(Reply(chunks=lines, pause_after=100))
    page.send("Long")
    page.shows("line 90")
    page.eventually(lambda: page.js(_BELOW) < 80, "it follows what comes")
    assert not page.by_id("down").is_displayed()
    page.js(_UP)
    page.wait_id("down")
    place = page.js(_PLACE)
    up.release()
    page.shows("line 119")
    page.idle()
    assert page.js(_PLACE) == place
    page.press("↓ Latest")
    page.eventually(lambda: page.js(_BELOW) < 80, "the end is shown")
    page.until("return document.getElementById('down').hidden", "nothing more to jump to")
