"""The page as a user operates it: reading, clicking and typing, by id, label or text. Every wait has a limit.

`until` waits for a condition of the document; the other methods use it, and report what was visible if the wait fails.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.process import ServerProcess
from tests.web.browser import AXE, Browser, refuse

if TYPE_CHECKING:  # a machine without selenium skips these tests with the reason
    from selenium.webdriver.remote.webelement import WebElement

__all__ = ["CONTROL", "ENTER", "ESCAPE", "SHIFT", "TAB", "Page"]

TAB, ENTER, SHIFT, CONTROL, ESCAPE = "\ue004", "\ue007", "\ue008", "\ue009", "\ue00c"
"""Keys, as https://www.w3.org/TR/webdriver2/#keyboard-actions numbers them."""

LIMIT_S = 60.0
"""For what takes a fraction of a second on a machine without other work."""


class Page:
    """One tab on one server. `server` is the page's server; `url` is the last opened address."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self.browser = browser
        self.driver = browser.driver
        self.server = server
        self.url = server.url + "/"

    # --- opening ------------------------------------------------------------------------------------------------------

    def fresh(self, url: str | None = None, *, server: ServerProcess | None = None, **look: Any) -> None:
        """Open `url` (or the server's page) as a new visitor; `look` has the arguments of `look`."""
        self.server = server or self.server
        self.url = url or self.server.url + "/"
        self.look(**look)
        # A page at another address that clears the storage would be one more navigation, a third of a test's time.
        script = {"source": "try { localStorage.clear(); sessionStorage.clear() } catch {}"}
        cleared = self.browser.cdp("Page.addScriptToEvaluateOnNewDocument", **script)
        self.visit(self.url)
        self.browser.cdp("Page.removeScriptToEvaluateOnNewDocument", **cleared)

    def visit(self, url: str) -> None:
        """Open an address, and wait until the page has contacted its server."""
        here, there = urlsplit(self.driver.current_url), urlsplit(url)
        # With a fragment, an address of the open document only scrolls there.
        if there.fragment and there._replace(fragment="") == here._replace(fragment=""):
            self.driver.get("about:blank")
        self.driver.get(url)
        self.settled()

    def reload(self) -> None:
        """Press F5."""
        self.driver.refresh()
        self.settled()

    def settled(self) -> None:
        """Wait until the page knows whether its server is reachable."""
        self.until("return /ok|bad/.test(document.getElementById('dot').className)", "the dot tells a state")

    def look(
        self,
        *,
        theme: str = "light",
        language: str = "en-US",
        width: int = 0,
        height: int = 900,
        reduced_motion: bool = False,
    ) -> None:
        """Set the preferences that the browser reports to pages; `width` 0 is the window's own."""
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.browser.cdp("Emulation.setEmulatedMedia", features=features)
        agent = self.driver.execute_script("return navigator.userAgent")
        self.browser.cdp("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        if width:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.browser.cdp("Emulation.setDeviceMetricsOverride", **size)
        else:
            self.browser.cdp("Emulation.clearDeviceMetricsOverride")

    # --- reading ------------------------------------------------------------------------------------------------------

    def js(self, script: str, *args: Any) -> Any:
        """Run a function's body in the page."""
        return self.driver.execute_script(script, *args)

    def by_id(self, id: str) -> "WebElement":
        """Return the element with this id."""
        found: WebElement = self.driver.find_element("id", id)
        return found

    def all(self, css: str) -> "list[WebElement]":
        """Return the elements that match now."""
        found: list[WebElement] = self.driver.find_elements("css selector", css)
        return found

    @property
    def log(self) -> str:
        """The visible text of the conversation."""
        return str(self.js("return document.getElementById('log').innerText"))

    def until(self, script: str, what: str, *args: Any, limit_s: float = LIMIT_S) -> Any:
        """Wait until the script returns a true value, and return it."""
        return self.eventually(lambda: self.js(script, *args), what, limit_s=limit_s)

    def eventually(self, look: Callable[[], Any], what: str, *, limit_s: float = LIMIT_S) -> Any:
        """Wait until `look` returns a true value, and return it. Raises AssertionError with the visible text."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        end = time.monotonic() + limit_s
        while True:
            # the page is being redrawn
            with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
                if found := look():
                    return found
            assert time.monotonic() < end, f"not within {limit_s} s: {what}; the log reads {self.log!r}"
            time.sleep(0.02)

    def shows(self, *texts: str, limit_s: float = LIMIT_S) -> None:
        """Wait until the conversation has all these texts."""
        for text in texts:
            self.eventually(functools.partial(self._reads, text), f"the log has {text!r}", limit_s=limit_s)

    def _reads(self, text: str) -> bool:
        return text in self.log

    def idle(self, *, limit_s: float = LIMIT_S) -> None:
        """Wait until no answer is being written."""
        self.until("return document.getElementById('log').ariaBusy === 'false'", "no answer runs", limit_s=limit_s)

    def wait_id(self, id: str) -> "WebElement":
        """Wait until that element is visible."""
        found: WebElement = self.eventually(
            lambda: next((node for node in self.all(f"[id='{id}']") if node.is_displayed()), None), f"#{id} is shown"
        )
        return found

    def button(self, words: str, *, within: str = "") -> "WebElement":
        """Wait for a button with exactly these words, and return the last one of several."""
        path = f"//*[@id='{within}']" if within else ""
        found: WebElement = self.eventually(
            lambda: next(
                (
                    node
                    for node in reversed(self.driver.find_elements("xpath", f"{path}//button[.={words!r}]"))
                    if node.is_displayed()
                ),
                None,
            ),
            f"a button says {words!r}",
        )
        return found

    # --- acting -------------------------------------------------------------------------------------------------------

    def press(self, words: str, *, within: str = "") -> None:
        """Press the button with these words."""
        self._click(lambda: self.button(words, within=within), f"the button {words!r} is pressed")

    def click(self, id: str) -> None:
        """Click the element with that id."""
        self._click(lambda: self.wait_id(id), f"#{id} is pressed")

    def open_thread(self, title: str) -> None:
        """Click the thread with that title in the list."""
        self._click(lambda: self.driver.find_element("link text", title), f"the thread {title!r} is pressed")

    def _click(self, find: Callable[[], "WebElement"], what: str) -> None:
        """Click the element; if the page redraws it at that moment, find it once more."""

        def pressed() -> bool:
            find().click()
            return True

        self.eventually(pressed, what)

    def type(self, id: str, text: str) -> None:
        """Clear a field and type into it; the change takes effect when the field loses the focus."""
        field = self.wait_id(id)
        field.clear()
        field.send_keys(text)
        self.js("arguments[0].dispatchEvent(new Event('change', { bubbles: true }))", field)

    def fill(self, field: "WebElement", text: str) -> None:
        """Set a field's text in one step, as pasting does."""
        self.js(
            "arguments[0].focus(); arguments[0].value = arguments[1];"
            "for (const name of ['input', 'change']) arguments[0].dispatchEvent(new Event(name, { bubbles: true }))",
            field,
            text,
        )

    def open_setup(self) -> None:
        """Open the set-up unless it is open."""
        if not self.by_id("panel").is_displayed():
            self.click("panelButton")

    def send(self, text: str) -> None:
        """Type a message and press Enter."""
        self.wait_id("human").send_keys(text + ENTER)

    def choose(self, id: str, value: str) -> None:
        """Choose an entry of a list by its value, once it is available."""
        self.eventually(lambda: self.all(f"#{id} option[value='{value}']"), f"#{id} offers {value!r}")
        field = self.by_id(id)
        self.js(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', { bubbles: true }))",
            field,
            value,
        )

    def answer(self, text: str | None = None, *, yes: bool = True) -> str:
        """Answer the browser's dialog, with a text if it asks for one; returns its question."""
        from selenium.common.exceptions import NoAlertPresentException

        end = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(NoAlertPresentException):
                box = self.driver.switch_to.alert
                break
            assert time.monotonic() < end, "no dialog is open"
        asked = str(box.text)
        if text is not None:
            box.send_keys(text)
        if yes:
            box.accept()
        else:
            box.dismiss()
        return asked

    def copied(self) -> str:
        """Return the content of the clipboard."""
        self.browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        read = "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done('no clipboard: ' + e))"
        return str(self.driver.execute_async_script(read))

    # --- checking -----------------------------------------------------------------------------------------------------

    def thread_id(self) -> str:
        """Return the thread id in the address."""
        return str(urlsplit(self.driver.current_url).fragment)

    def runs(self) -> list[dict[str, Any]]:
        """Return the open thread's runs on the server, newest first."""
        rows: list[dict[str, Any]] = self.server.request("GET", f"/threads/{self.thread_id()}/runs")["data"]
        return rows

    def messages(self) -> list[tuple[str, str]]:
        """Return the open thread's messages on the server, oldest first: role and text."""
        rows: list[dict[str, Any]]
        rows = self.server.request("GET", f"/threads/{self.thread_id()}/messages?order=asc")["data"]
        return [(row["role"], "".join(part["text"]["value"] for part in row["content"])) for row in rows]

    def axe(self) -> list[str]:
        """Return axe's findings about the visible page, a line each: rule, element, reason."""
        if not AXE.exists():
            refuse("axe-core is not installed (`make sdks`)")
        if not self.js("return typeof axe === 'object'"):
            self.js(AXE.read_text(encoding="utf-8") + ";window.axe = axe")
        run = (
            "const done = arguments[0], rules = { 'target-size': { enabled: true } };"
            "axe.run({ resultTypes: ['violations'], rules }).then(r => done(r.violations),"
            " e => done([{ id: 'broken', nodes: [{ target: [], failureSummary: String(e) }] }]))"
        )
        found = self.driver.execute_async_script(run)
        return [
            f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"]
        ]
