"""No text of a model, a tool or a user runs scripts, loads, navigates or makes requests, wherever it is shown.

The checks are at the end of the `page` fixture (scripts, policy reports, requests) and in `_harmless`; the last test
shows that they detect what a page without protection allows.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.graphs.tools.apis import Answer, Api
from tests.process import ServerProcess
from tests.upstream import Fail, Reply, ScriptedUpstream
from tests.web.browser import Browser
from tests.web.hostile import HOSTILE, HOSTILE_MARKDOWN
from tests.web.page import Page

_ELEMENTS = (
    "script:not([defer][src^='page/']), img, iframe, object, embed, base, video, audio, source, math, template, "
    "form[action]"
)
_ALLOWED = ["http:", "https:", "mailto:"]


@contextmanager
def _harmless(page: Page) -> Iterator[None]:
    """Check that the document is unchanged: no new kind of element, no bad link, no other address."""
    page.js("window.__same = true")
    scripts = page.js("return document.scripts.length")
    yield
    page.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.js("return window.__same"), "the page navigated away"
    assert page.js("return document.scripts.length") == scripts
    assert page.all(_ELEMENTS) == []
    attributes = "return [...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
    assert [name for name in page.js(attributes) if name.startswith("on") or name == "style"] == []
    protocols = "return [...document.querySelectorAll('#log a')].map(a => a.protocol)"
    assert set(page.js(protocols)) <= set(_ALLOWED)
    assert [url for url in page.browser.asked() if "pwned" in url] == []


def _seen(text: str) -> str:
    """Return the text as `innerText` can show it, without white space and control characters."""
    return "".join(char for char in text if char.isprintable() and not char.isspace())


def test_an_answer_is_harmless_streamed_and_loaded(page: Page, up: ScriptedUpstream) -> None:
    text = "\n\n".join((*HOSTILE, *HOSTILE_MARKDOWN)) + "\n\nthe end"
    up.script(Reply(chunks=[text[start : start + 7] for start in range(0, len(text), 7)]))
    with _harmless(page):
        page.send("Attack")
        page.shows("the end")
        page.idle()
        assert "<script>pwned(1)</script>" in page.log
    page.reload()
    with _harmless(page):
        page.shows("the end")


def test_thoughts_are_harmless(page: Page, up: ScriptedUpstream) -> None:
    up.script(Reply(f"<think>{' '.join((*HOSTILE, *HOSTILE_MARKDOWN))}</think>the end"))
    with _harmless(page):
        page.send("Think")
        page.shows("the end")
        page.idle()
        page.js("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert "<script>pwned(1)</script>" in page.log


def test_a_question_is_harmless(page: Page, up: ScriptedUpstream) -> None:
    up.default = lambda _: Reply("ok")
    text = "\n".join((*HOSTILE, *HOSTILE_MARKDOWN)).replace("\0", "")
    with _harmless(page):
        page.fill(page.by_id("human"), text)
        page.click("send")
        page.shows("ok")
        page.idle()
        assert _seen(text) in _seen(page.log)
    page.reload()
    with _harmless(page):
        page.shows("ok")


def test_arguments_and_outputs_of_tools_are_harmless(page: Page, up: ScriptedUpstream) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    made = page.server.request("POST", "/assistants", {"model": "", "name": "F", "tools": [tool]})
    page.reload()
    page.choose("assistant", made["id"])
    up.script(Reply(tool_calls=[("f", {"x": list(HOSTILE)}), ("f", {HOSTILE[0]: HOSTILE[1]})]), Reply("the end"))
    with _harmless(page):
        page.send("Call")
        page.shows("The run waits for you")
        for box in page.all("form.ask textarea"):
            page.fill(box, json.dumps(HOSTILE))
        page.press("Send all")
        page.shows("the end")
        page.idle()
    page.reload()
    with _harmless(page):
        page.shows("the end", "f")
        page.js("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.shows("pwned(1)")


def test_titles_and_names_are_harmless(page: Page, server: ServerProcess) -> None:
    for text in HOSTILE:
        plain = text.replace("\0", "")
        thread = server.request("POST", "/threads", {"metadata": {"title": plain}})
        server.request("POST", "/assistants", {"model": plain, "name": plain, "instructions": plain})
    page.reload()
    with _harmless(page):
        page.until("return document.querySelectorAll('#threads a').length === 16", "the threads are listed")
        page.until("return document.querySelectorAll('#assistant option').length === 17", "the assistants are listed")
        page.driver.get(f"{server.url}/#{thread['id']}")
        page.until("return document.title.includes('<dialog')", "the thread is open")
        page.choose("assistant", page.js("return document.querySelector('#assistant').options[1].value"))
        page.click("edit")
        page.click("mCancel")


def test_error_messages_are_harmless(page: Page, up: ScriptedUpstream) -> None:
    refusals = [Fail(400, {"error": {"message": text, "code": text}}) for text in HOSTILE[:4]]
    with _harmless(page):
        for number, refusal in enumerate((*refusals, Fail(400, "\n".join(HOSTILE))), 1):
            up.default = lambda _, refusal=refusal: refusal  # each question is asked again in other turns
            page.send(f"Fail {number}")
            count = "return document.querySelectorAll('#log [role=alert]').length === arguments[0]"
            page.until(count, "an alert more", number)
            page.idle()
        assert "<script>pwned(1)</script>" in page.log


def test_an_address_is_harmless(page: Page, server: ServerProcess) -> None:
    for text in ("<img src=x onerror=alert(1)>", "javascript:alert(2)", "thread_<svg onload=alert(3)>", "__proto__"):
        page.visit(f"{server.url}/?{text}#{text}")
        with _harmless(page):
            page.until("return document.getElementById('log').children.length", "something is said")


def test_the_checks_detect_an_unprotected_page(browser: Browser, server: ServerProcess) -> None:
    """The same checks detect scripts that run and hosts that are requested, in a page that allows them."""
    del server
    body = "<!doctype html>" + HOSTILE[0] + HOSTILE[1] + HOSTILE[7]
    with Api(lambda _: Answer(headers={"Content-Type": "text/html"}, body=body.encode())) as api:
        browser.forget()
        browser.driver.get(api.url)
        end = time.monotonic() + 60
        while len(browser.driver.execute_script("return window.__ran")) < 2:
            assert time.monotonic() < end
        assert browser.foreign_addresses()
        fetch = "const [url, done] = arguments; fetch(url, { mode: 'no-cors' }).then(() => done('got'), () => done(''))"
        for url in ("http://example.com/", "https://192.0.2.1/", "http://localhost:9/"):
            assert browser.driver.execute_async_script(fetch, url) == "", f"{url} could be reached"
        browser.forget()
