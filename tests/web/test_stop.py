"""Send becomes Stop: the run ends on the server, the model call is cancelled, and the partial text stays, marked."""

import pytest

from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ESCAPE, Page


@pytest.mark.parametrize("way", ["button", "Esc in the text", pytest.param("Esc anywhere", marks=pytest.mark.soak)])
def test_stop_reaches_the_model_and_keeps_the_partial_text(page: Page, up: ScriptedUpstream, way: str) -> None:
    up.script(Reply("one two three four five", pause_after=4))
    page.send("Count")
    page.shows("one two three")
    assert page.by_id("send").text == "Stop"
    if way == "button":
        page.click("send")
    elif way == "Esc in the text":
        page.by_id("human").send_keys(ESCAPE)
    else:
        page.by_id("log").click()
        page.driver.switch_to.active_element.send_keys(ESCAPE)
    up.wait_for(lambda u: u.closed_early == 1)
    page.shows("Stopped")
    page.idle()
    assert "one two three" in page.log
    assert page.by_id("send").text == "Send"
    assert [run["status"] for run in page.runs()] == ["cancelled"]
    assert page.messages()[-1] == ("assistant", "one two three")
    page.reload()
    page.shows("one two three", "Stopped")


def test_stop_before_the_first_token_works_too(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply("never", pause_after=0))
    page.send("Think")
    up.wait_for(lambda u: u.open_streams == 1)
    page.click("send")
    up.wait_for(lambda u: u.closed_early == 1)
    page.shows("Stopped")
    page.idle()
    assert [run["status"] for run in page.runs()] == ["cancelled"]


def _waiting(page: Page, up: ScriptedUpstream) -> None:
    """Start a run that waits for the user."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    made = page.server.request("POST", "/assistants", {"model": "", "name": "Looker", "tools": [tool]})
    page.reload()
    page.choose("assistant", made["id"])
    up.script(Reply(tool_calls=[("look", {})]))
    page.send("Look")
    page.shows("The run waits for you")
    page.idle()


@pytest.mark.parametrize("way", ["button", pytest.param("Esc", marks=pytest.mark.soak)])
def test_a_run_that_waits_for_the_user_is_stopped(page: Page, up: ScriptedUpstream, way: str) -> None:
    _waiting(page, up)
    if way == "button":
        page.press("Stop", within="log")
    else:
        page.driver.switch_to.active_element.send_keys(ESCAPE)
    page.shows("Stopped")
    page.eventually(lambda: page.runs()[0]["status"] == "cancelled", "the run is cancelled")
    page.eventually(lambda: page.all("form.ask") == [], "the form goes")


@pytest.mark.parametrize("where", ["field", "page"])
def test_esc_keeps_what_was_typed_for_a_waiting_run(page: Page, up: ScriptedUpstream, where: str) -> None:
    _waiting(page, up)
    page.all("form.ask textarea")[0].clear()
    page.all("form.ask textarea")[0].send_keys("typed")
    if where == "field":
        page.driver.switch_to.active_element.send_keys(ESCAPE)
    else:
        page.by_id("human").send_keys(ESCAPE)
    up.script(Reply("Seen."))
    page.press("Send all")
    page.shows("Seen.")
    page.idle()
    assert "typed" in str(up.requests[-1].body["messages"])
    assert [run["status"] for run in page.runs()] == ["completed"]


def test_stop_is_visible_and_usable_on_a_phone(page: Page, up: ScriptedUpstream) -> None:
    page.look(width=360, height=740)
    up.script(Reply("\n\n".join(f"line{number}" for number in range(60)), pause_after=50))
    page.send("Count")
    page.shows("line40")
    page.until("return document.getElementById('log').scrollTop > 100", "the page follows the answer")
    for y in ("1e9", "300"):
        page.js(f"document.getElementById('log').scrollTop = {y}")
        seen = page.js(
            "const b = document.getElementById('send').getBoundingClientRect();"
            "return b.top >= 0 && b.bottom <= innerHeight &&"
            " document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2).id"
        )
        assert seen == "send"
    page.js("document.getElementById('log').scrollTop = 1e9")
    covered = (
        "const last = [...document.querySelectorAll('.busy .md > *')].at(-1).getBoundingClientRect();"
        "return last.bottom - document.getElementById('compose').getBoundingClientRect().top"
    )
    assert page.js(covered) <= 0
    page.js("document.getElementById('send').click()")
    page.shows("Stopped")
    page.idle()
