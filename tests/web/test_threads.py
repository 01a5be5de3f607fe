"""Threads of the server: listed, created, renamed, deleted, opened by address, resumed in mid-answer."""

import pytest

from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.page import ENTER, Page


def _listed(page: Page) -> list[str]:
    names: list[str] = page.js("return [...document.querySelectorAll('#threads a')].map(a => a.textContent)")
    return names


def _thread(server: ServerProcess, title: str, *texts: str) -> str:
    messages = [{"role": "user", "content": text} for text in texts]
    made = server.request("POST", "/threads", {"metadata": {"title": title}, "messages": messages})
    return str(made["id"])


def test_threads_are_listed_newest_first_and_open_on_press(page: Page, server: ServerProcess) -> None:
    for title in ("Oldest", "Middle", "RequireNewest"):
        _thread(server, title, f"In {title}")
    page.reload()
    page.eventually(lambda: len(_listed(page)) == 3, "three threads are listed")
    assert _listed(page) == ["RequireNewest", "Middle", "Oldest"]
    page.open_thread("Middle")
    page.shows("In Middle")
    assert page.by_id("title").text == "Middle"
    assert page.all("#threads a[aria-current=page]")[0].text == "Middle"
    page.open_thread("Oldest")
    page.shows("In Oldest")
    assert "In Middle" not in page.log
    page.driver.back()
    page.shows("In Middle")


def test_a_thread_opens_by_its_address(page: Page, server: ServerProcess) -> None:
    id = _thread(server, "By address", "Here I am")
    page.visit(f"{server.url}/#{id}")
    page.shows("Here I am")
    assert page.driver.title.startswith("By address")


def test_an_unknown_thread_address_is_reported(page: Page, server: ServerProcess) -> None:
    page.visit(f"{server.url}/#thread_000000000000000000000000")
    page.shows("No thread found", "req_", "→ ")


def test_a_first_message_creates_and_names_a_thread(page: Page, server: ServerProcess) -> None:
    page.send("What is rain?")
    page.shows("Echo: What is rain?")
    page.idle()
    page.eventually(lambda: _listed(page) == ["What is rain?"], "it is listed")
    page.click("new")
    page.until("return document.querySelector('#log .hello')", "an empty page again")
    assert page.thread_id() == ""
    page.send("What is snow?")
    page.shows("Echo: What is snow?")
    page.idle()
    page.eventually(lambda: _listed(page) == ["What is snow?", "What is rain?"], "both are listed")
    assert len(server.request("GET", "/threads")["data"]) == 2


def test_a_thread_is_renamed_and_deleted_by_keyboard(page: Page, server: ServerProcess) -> None:
    id = _thread(server, "Old title", "Text")
    page.visit(f"{server.url}/#{id}")
    page.shows("Text")
    page.wait_id("rename").send_keys(ENTER)
    assert page.answer("New title") == "Title of this thread"
    page.eventually(lambda: _listed(page) == ["New title"], "the list has the new title")
    assert page.by_id("title").text == "New title"
    assert server.request("GET", f"/threads/{id}")["metadata"]["title"] == "New title"
    page.wait_id("remove").send_keys(ENTER)
    page.answer(yes=False)
    assert len(server.request("GET", "/threads")["data"]) == 1
    page.wait_id("remove").send_keys(ENTER)
    assert "and everything in it" in page.answer()
    page.eventually(lambda: not server.request("GET", "/threads")["data"], "the thread is gone")
    page.eventually(lambda: _listed(page) == [], "the list is empty")
    assert page.thread_id() == ""


def test_a_reload_in_mid_answer_loses_no_token(page: Page, up: ScriptedUpstream) -> None:
    words = " ".join(f"w{number}" for number in range(200))
    up.script(Reply(words, pause_after=100))
    page.send("Count")
    page.shows("w98")
    page.reload()
    page.shows(words[: words.index(" w99")])  # before the end, which has the complete text once more
    assert page.by_id("send").text == "Stop"
    up.release()
    page.shows("w199")
    page.idle()
    assert words in page.log
    assert up.closed_early == 0
    assert len(up.requests) == 1


def test_switching_threads_in_mid_answer_loses_no_token(
    page: Page, server: ServerProcess, up: ScriptedUpstream
) -> None:
    _thread(server, "Another", "Elsewhere")
    page.reload()
    up.script(Reply("one two three four five", pause_after=4))
    page.send("Count")
    page.shows("one two three")
    page.open_thread("Another")
    page.shows("Elsewhere")
    assert page.by_id("send").text == "Send"
    page.open_thread("Count")
    page.shows("one two three")
    up.release()
    page.shows("one two three four five")
    page.idle()
    assert up.closed_early == 0


def _long_thread(server: ServerProcess, count: int) -> str:
    """Create a thread of `count` numbered messages, alternating between user and assistant, through the API."""
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": f"Message number {number}."}
        for number in range(count)
    ]
    id = str(server.request("POST", "/threads", {"metadata": {"title": "Long"}, "messages": messages[:500]})["id"])
    for message in messages[500:]:
        server.request("POST", f"/threads/{id}/messages", message)
    return id


@pytest.mark.soak
def test_a_long_thread_shows_its_newest_messages_first(page: Page, up: ScriptedUpstream, server: ServerProcess) -> None:
    id = _long_thread(server, 410)
    page.visit(f"{server.url}/#{id}")
    page.shows("Message number 409.")
    assert "Message number 200." not in page.log
    up.script(Reply("The newest of all."))
    page.send("And now?")
    page.shows("The newest of all.")
    page.idle()
    page.reload()
    page.shows("And now?", "The newest of all.")
    for shown in (200, 100):
        page.press("Older messages")
        page.shows(f"Message number {shown + 20}.")
    numbers = page.js("return document.getElementById('log').innerText.match(/number \\d+/g)")
    read = [int(number.split()[1]) for number in numbers]
    assert read == list(range(read[0], 410))
    saved = page.js(
        "const sizes = []; URL.createObjectURL = blob => { sizes.push(blob); return 'data:,' };"
        "window.__blobs = sizes; document.getElementById('json').click(); document.getElementById('markdown').click()"
    )
    assert saved is None
    page.until("return window.__blobs.length === 2", "both files are saved", limit_s=30)
    texts = page.driver.execute_async_script(
        "const done = arguments[0]; Promise.all(window.__blobs.map(blob => blob.text())).then(done)"
    )
    for text in texts:
        assert text.count("Message number ") == 410
        assert "The newest of all." in text


def test_loading_older_messages_keeps_the_scroll_position(page: Page, server: ServerProcess) -> None:
    id = _long_thread(server, 130)
    page.visit(f"{server.url}/#{id}")
    page.shows("Message number 129.")
    mark = "return [...document.querySelectorAll('#log article')].find(a => /number 30\\./.test(a.textContent))"
    page.js("document.getElementById('log').scrollTop = 0")
    page.shows("Message number 0.")
    assert page.js(mark) is not None
    top = page.js(f"return (() => {{ {mark} }})().getBoundingClientRect().top")
    assert 0 <= top < 900, "the message at the top is no longer on the screen"
    assert page.all(".older") == []


@pytest.mark.soak
def test_threads_beyond_the_first_page_of_the_list_are_reached(page: Page, server: ServerProcess) -> None:
    for number in range(105):
        _thread(server, f"Thread {number}")
    page.reload()
    page.eventually(lambda: len(page.all("#threads a")) == 100, "the newest are listed")
    page.press("More threads")
    page.eventually(lambda: len(page.all("#threads a")) == 105, "the rest are listed, too")
    assert _listed(page)[-1] == "Thread 0"


@pytest.mark.soak
def test_a_run_keeps_its_cards_where_pages_share_seconds(
    page: Page, up: ScriptedUpstream, server: ServerProcess
) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    assistant = server.request("POST", "/assistants", {"model": "", "tools": [tool]})["id"]
    id = _long_thread(server, 10)
    up.script(Reply(tool_calls=[("look_up", {})]), Reply("Found."))
    path = f"/threads/{id}/runs"
    run = server.request("POST", path, {"assistant_id": assistant})["id"]
    page.eventually(lambda: server.request("GET", f"{path}/{run}")["status"] == "requires_action", "the run waits")
    call = server.request("GET", f"{path}/{run}")["required_action"]["submit_tool_outputs"]["tool_calls"][0]["id"]
    outputs = {"tool_outputs": [{"tool_call_id": call, "output": "it"}]}
    server.request("POST", f"{path}/{run}/submit_tool_outputs", outputs)
    page.eventually(lambda: server.request("GET", f"{path}/{run}")["status"] == "completed", "the run ends")
    for number in range(100):
        server.request("POST", f"/threads/{id}/messages", {"role": "user", "content": f"Later {number}."})
    page.js(
        """
        const original = window.fetch, round = rows => rows.forEach(row => { row.created_at = 1; });
        window.fetch = async (...args) => {
            const answer = await original(...args);
            if (!/\\/(messages|runs)\\?/.test(args[0])) return answer;
            const body = await answer.json();
            round(body.data);
            return new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } });
        };
        location.hash = arguments[0];
        """,
        id,
    )
    page.shows("Later 99.")
    assert page.all("details.card") == []
    page.js("document.getElementById('log').scrollTop = 0")
    page.shows("Message number 0.", "Found.")
    assert len(page.all("details.card")) == 1


@pytest.mark.soak
def test_a_message_sent_while_a_thread_loads_goes_there(page: Page, server: ServerProcess) -> None:
    id = _thread(server, "Slow", "Remember this.")
    page.reload()
    slow = {"offline": False, "latency": 1_500, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.cdp("Network.emulateNetworkConditions", **slow)
    try:
        page.open_thread("Slow")
        page.send("And this.")
        page.shows("Remember this.", "Echo: And this.", limit_s=30)
    finally:
        page.browser.cdp("Network.emulateNetworkConditions", **(slow | {"latency": 0}))
    page.idle()
    assert page.thread_id() == id
    assert [text for _, text in page.messages()] == ["Remember this.", "And this.", "Echo: And this."]


@pytest.mark.soak
def test_an_export_is_of_the_thread_that_was_open(page: Page, server: ServerProcess) -> None:
    id = _thread(server, "First", "Question one.")
    page.visit(f"{server.url}/#{id}")
    page.shows("Question one.")
    page.js(
        "window.__blobs = []; URL.createObjectURL = blob => { window.__blobs.push(blob); return 'data:,' };"
        "document.getElementById('markdown').click(); document.getElementById('new').click()"
    )
    page.until("return window.__blobs.length === 1", "the file is saved")
    text = page.driver.execute_async_script("window.__blobs[0].text().then(arguments[0])")
    assert text.startswith("# First\n")


@pytest.mark.soak
def test_older_messages_are_read_by_keyboard_at_the_same_position(page: Page, server: ServerProcess) -> None:
    page.visit(f"{server.url}/#{_long_thread(server, 250)}")
    page.shows("Message number 249.")
    older = page.all(".older")[0]
    older.send_keys(ENTER)
    page.shows("Message number 60.")
    assert page.js("return document.activeElement.className").endswith("older")
    older.send_keys(ENTER)
    page.shows("Message number 0.")
    page.until("return document.activeElement.id === 'log'", "the conversation has the focus")
