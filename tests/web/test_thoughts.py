"""A model's thoughts are shown apart from its answer, and messages left out of the prompt are reported."""

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page


def test_thoughts_are_folded_above_the_answer_and_separate(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("<think>Let me see: six by seven.</think>Forty-two."))
    page.send("What is it?")
    page.shows("Forty-two.")
    page.idle()
    (card,) = page.all("#log details.card")
    assert "Reasoning" in card.text
    assert "six by seven" not in page.log
    card.find_element("css selector", "summary").click()
    page.shows("six by seven")
    assert page.log.index("six by seven") < page.log.index("Forty-two.")
    assert page.messages() == [("user", "What is it?"), ("assistant", "Forty-two.")]
    page.press("Copy")
    page.eventually(lambda: page.copied() == "Forty-two.", "the answer alone is copied")


def test_messages_left_out_of_the_prompt_are_reported(page: Page, up: ScriptedUpstream) -> None:
    page.type("model", "narrow")  # the server learns a model's limit, so other tests use other names
    up.context = 60
    for number in (1, 2, 3):
        page.fill(page.by_id("human"), f"Question {number}: " + "word " * 25)
        page.click("send")
        page.shows(f"Echo: Question {number}")
        page.idle()
    page.shows("older messages did not fit")
    page.reload()
    page.shows("older messages did not fit")
