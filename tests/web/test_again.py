"""Regenerating answers; editing and resending messages."""

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ENTER, ESCAPE, Page
from tests.web.states import DROP, FERRY


def test_an_answer_is_regenerated_for_the_same_question(page: Page, up: ScriptedUpstream) -> None:
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


def test_editing_a_message_replaces_all_later_ones(page: Page, up: ScriptedUpstream) -> None:
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


@pytest.mark.soak
def test_a_cancelled_edit_changes_nothing(page: Page) -> None:
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


def _waiting_elsewhere(page: Page, up: ScriptedUpstream) -> None:
    """Start a run that waits on the open thread, without the page's knowledge."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    made = page.server.request("POST", "/assistants", {"model": "", "tools": [tool]})
    up.script(Reply(tool_calls=[("look", {})]))
    page.server.request("POST", f"/threads/{page.thread_id()}/runs", {"assistant_id": made["id"]})
    page.eventually(lambda: page.runs()[0]["status"] == "requires_action", "the run waits")


@pytest.mark.soak
def test_an_answer_that_cannot_be_regenerated_stays(page: Page, up: ScriptedUpstream) -> None:
    page.send("one")
    page.shows("Echo: one")
    page.idle()
    _waiting_elsewhere(page, up)
    page.press("Regenerate")
    page.shows("already has an active run")
    page.idle()
    assert "Echo: one" in page.log
    assert page.messages() == [("user", "one"), ("assistant", "Echo: one")]
    run = page.runs()[0]
    page.server.request("POST", f"/threads/{page.thread_id()}/runs/{run['id']}/cancel")
    up.script(Reply("Second try."))
    page.press("Regenerate")
    page.shows("Second try.")
    page.idle()
    assert "Echo: one" not in page.log
    assert page.messages() == [("user", "one"), ("assistant", "Second try.")]


def test_a_refused_edit_removes_nothing_and_can_be_resent(page: Page) -> None:
    made = page.server.request("POST", "/assistants", {"model": "", "name": "Short-lived"})
    page.reload()
    page.choose("assistant", made["id"])
    for word in ("one", "two"):
        page.send(word)
        page.shows(f"Echo: {word}")
        page.idle()
    before = page.messages()
    page.server.request("DELETE", f"/assistants/{made['id']}")
    page.all("#log .me button")[1].click()
    page.by_id("human").send_keys(" and a half", ENTER)
    page.shows("No assistant found", "Choose another.")
    page.idle()
    assert page.messages() == before
    assert "Echo: two" in page.log
    assert len(page.all("#log .me")) == 2
    assert page.by_id("editing").is_displayed()
    assert page.by_id("human").get_attribute("value") == "one and a half"
    page.choose("assistant", "")
    page.by_id("human").send_keys(ENTER)
    page.shows("Echo: one and a half")
    page.idle()
    assert page.messages() == [("user", "one and a half"), ("assistant", "Echo: one and a half")]
    assert "two" not in page.log


def test_a_refused_message_is_put_back_with_its_files(page: Page, up: ScriptedUpstream) -> None:
    page.send("one")
    page.shows("Echo: one")
    page.idle()
    _waiting_elsewhere(page, up)
    page.js(DROP, "ferries.txt", FERRY)
    page.eventually(lambda: page.all("#chips [data-file]"), "the file is there")
    page.send("two")
    page.shows("already has an active run")
    page.idle()
    assert page.by_id("human").get_attribute("value") == "two"
    assert [chip.text[:-2] for chip in page.all("#chips [data-file]")] == ["ferries.txt"]
    assert len(page.all("#log .me")) == 1


@pytest.mark.soak
def test_a_regenerated_question_keeps_its_images_and_files(page: Page, up: ScriptedUpstream) -> None:
    page.send("Look at this")
    page.shows("Echo")
    page.idle()
    page.js(DROP, "ferries.txt", FERRY)
    page.eventually(lambda: page.all("#chips [data-file]"), "the file is there")
    file = page.all("#chips [data-file]")[0].get_attribute("data-file")
    picture = {"type": "image_url", "image_url": {"url": "https://example.test/cat.png", "detail": "low"}}
    question = {
        "role": "user",
        "content": [{"type": "text", "text": "What is this?"}, picture],
        "attachments": [{"file_id": file, "tools": [{"type": "file_search"}]}],
        "metadata": {"from": "elsewhere"},
    }
    path = f"/threads/{page.thread_id()}/messages"
    asked = page.server.request("POST", path, question)
    page.server.request("POST", path, {"role": "assistant", "content": "A dog."})
    page.reload()
    page.shows("A dog.")
    up.script(Reply("A cat."))
    page.press("Regenerate")
    page.shows("A cat.")
    page.idle()
    assert "A dog." not in page.log
    newest, again = page.server.request("GET", path)["data"][:2]
    assert newest["role"] == "assistant"
    assert again == asked
    assert picture in up.requests[-1].body["messages"][-1]["content"]


@pytest.mark.soak
def test_an_answer_longer_than_a_page_is_replaced_completely(page: Page, up: ScriptedUpstream) -> None:
    id = page.server.request("POST", "/threads", {"messages": [{"role": "user", "content": "Question"}]})["id"]
    for number in range(130):
        page.server.request("POST", f"/threads/{id}/messages", {"role": "assistant", "content": f"Part {number}."})
    page.visit(f"{page.server.url}/#{id}")
    page.shows("Part 129.")
    up.script(Reply("Anew."))
    page.press("Regenerate")
    page.shows("Anew.")
    page.idle()
    assert "Part " not in page.log
    assert page.messages() == [("user", "Question"), ("assistant", "Anew.")]
