"""What a model thinks aloud is shown apart from its answer; what did not fit into the prompt is told."""

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import Page


def test_thoughts_stand_before_the_answer_folded_and_are_no_part_of_it(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("<think>Let me see: six by seven.</think>Forty-two."))
    page.send("What is it?")
    page.shows("Forty-two.")
    page.idle()
    (card,) = page.all("#log details.card")
    assert "Thoughts" in card.text
    assert "six by seven" not in page.log
    card.find_element("css selector", "summary").click()
    page.shows("six by seven")
    assert page.log.index("six by seven") < page.log.index("Forty-two.")
    assert page.messages() == [("user", "What is it?"), ("assistant", "Forty-two.")]
    page.press("Copy")
    page.eventually(lambda: page.copied() == "Forty-two.", "the answer alone is copied")


def test_messages_that_the_prompt_had_no_room_for_are_told(page: Page, up: ScriptedUpstream) -> None:
    page.type("model", "narrow")  # the server learns the limit of a model, so the others' must not be called the same
    up.context = 60
    for number in (1, 2, 3):
        page.fill(page.by_id("human"), f"Question {number}: " + "word " * 25)
        page.click("send")
        page.shows(f"Echo: Question {number}")
        page.idle()
    page.shows("older messages did not fit")
    page.reload()
    page.shows("older messages did not fit")
