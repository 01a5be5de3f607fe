"""Regenerate; edit and resend."""

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ENTER, ESCAPE, Page


def test_an_answer_is_made_again_from_the_same_question(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("First try."), Reply("Second try."))
    page.send("Question")
    page.shows("First try.")
    page.idle()
    page.press("Regenerate")
    page.shows("Second try.")
    page.idle()
    assert "First try." not in page.log
    assert page.messages() == [("user", "Question"), ("assistant", "Second try.")]
    assert [message["content"] for message in up.requests[-1].body["messages"]] == ["Question"]
    page.reload()
    page.shows("Second try.")
    assert "First try." not in page.log


def test_a_message_is_edited_and_all_after_it_is_replaced(page: Page, up: ScriptedUpstream) -> None:
    for word in ("one", "two", "three"):
        page.send(word)
        page.shows(f"Echo: {word}")
        page.idle()
    page.all("#log .me button")[3].click()
    assert page.by_id("editing").is_displayed()
    assert page.by_id("human").get_attribute("value") == "two"
    page.by_id("human").send_keys(" and a half", ENTER)
    page.shows("Echo: two and a half")
    page.idle()
    assert not page.by_id("editing").is_displayed()
    assert page.messages() == [
        ("user", "one"),
        ("assistant", "Echo: one"),
        ("user", "two and a half"),
        ("assistant", "Echo: two and a half"),
    ]
    assert "three" not in page.log
    assert [message["content"] for message in up.requests[-1].body["messages"]] == [
        "one",
        "Echo: one",
        "two and a half",
    ]


def test_an_edit_that_is_given_up_changes_nothing(page: Page) -> None:
    page.send("one")
    page.shows("Echo: one")
    page.idle()
    page.press("Edit and resend")
    page.wait_id("editing")
    page.by_id("human").send_keys(ESCAPE)
    page.eventually(lambda: not page.by_id("editing").is_displayed(), "the edit is given up")
    page.wait_id("human").clear()
    page.send("two")
    page.shows("Echo: two")
    page.idle()
    assert len(page.messages()) == 4
