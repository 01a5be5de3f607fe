"""The main states of the page, reached as a user reaches them, for axe and for screenshots."""

from collections.abc import Callable
from typing import Final

from tests.upstream import Fail, Reply, ScriptedUpstream
from tests.web.page import Page

__all__ = ["DROP", "FERRY", "STATES", "State"]

State = Callable[[Page, ScriptedUpstream], None]

FERRY: Final = "The ferry to Naxos leaves Piraeus at seven in the morning, on every day but Monday."
DROP: Final = """
const data = new DataTransfer();
data.items.add(new File([arguments[1]], arguments[0], { type: 'text/plain' }));
const drop = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
document.getElementById('compose').dispatchEvent(drop);
"""
"""Drops a file on the composer; arguments are its name and its text."""

_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
_ANSWER: Final = """\
## Containers

A container is a **process with its own view** of the system; see [the manual](https://example.test/manual) and
`man 7 namespaces`.

1. It starts in milliseconds.
2. It carries what it needs.
   - libraries
   - settings

> Ship the machine, not the instructions.

```sh
podman run --rm -it debian:stable sh -c 'echo "a line that is rather long, so that it has to scroll in its box"'
```

| kind | starts in | isolates |
|---|---|---|
| process | 1 ms | nothing |
| container | 200 ms | files, network, names |
| machine | 20 s | all but the hardware |
"""


def empty(page: Page, up: ScriptedUpstream) -> None:
    """No question has been asked."""
    del up
    page.until("return document.querySelector('#log .hello')", "the page explains itself")


def answer(page: Page, up: ScriptedUpstream) -> None:
    """A formatted answer after a tool call, with further threads in the list."""
    _ready(page)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"})]), Reply(chunks=[_ANSWER]))
    page.send("What is the weather, and why use containers?")
    page.fill(page.eventually(lambda: page.all("form.ask textarea"), "the form is there")[0], "Sunny.")
    page.idle()
    page.all("form.ask button.main")[0].click()
    page.eventually(lambda: page.all("#log table"), "the answer is there")
    page.idle()
    page.js("document.querySelector('details.card').open = true; scrollTo(0, 0)")


def streaming(page: Page, up: ScriptedUpstream) -> None:
    """In the middle of an answer."""
    _ready(page)
    up.script(Reply("The sky is blue because small things scatter short waves more", pause_after=6))
    page.send("Why is the sky blue?")
    page.shows("The sky is blue")


def requires_action(page: Page, up: ScriptedUpstream) -> None:
    """The run waits for two outputs."""
    _ready(page)
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome", "days": 3})]))
    page.send("Compare the weather.")
    page.eventually(lambda: len(page.all("form.ask textarea")) == 2, "the form is there")
    page.idle()


def assistant_dialog(page: Page, up: ScriptedUpstream) -> None:
    """An assistant is being created: one tool is valid, one is not."""
    del up
    page.open_setup()
    page.click("create")
    page.click("addFunction")
    page.click("addAction")
    page.fill(page.all("#mTools textarea")[1], "openapi: 2.0\n")


def error(page: Page, up: ScriptedUpstream) -> None:
    """The model's context is full, and the model failed before that."""
    up.script(Fail(400, {"error": {"message": "This model cannot be loaded.", "code": "broken"}}))
    page.send("Break")
    page.eventually(lambda: page.all("#log [role=alert]"), "it broke")
    page.idle()
    page.open_setup()
    page.type("model", "small-model")
    up.context = 60
    page.fill(page.by_id("human"), "word " * 90)
    page.click("send")
    page.eventually(lambda: len(page.all("#log [role=alert]")) == 2, "the metrics are shown")
    page.idle()


def files(page: Page, up: ScriptedUpstream) -> None:
    """An answer from a dropped file, with its footnote open; another file waits below the next question."""
    page.js(DROP, "ferries of the Cyclades.txt", FERRY)
    page.eventually(lambda: page.all("#chips [data-file]"), "the file is there")
    up.script(
        Reply(tool_calls=[("file_search", {"query": "ferry"})]), Reply("At seven 【0:0†source】, but not on Monday.")
    )
    page.send("When does it leave?")
    page.shows("but not on Monday", limit_s=30)
    page.idle()
    page.all("sup button")[0].click()
    page.eventually(lambda: page.all("blockquote"), "the passage")
    page.js(DROP, "next.txt", FERRY)
    page.eventually(lambda: page.all("#chips [data-file]"), "the other file is there")


def _ready(page: Page) -> None:
    """Some threads, and an assistant with a function."""
    for title in ("A very long title of a thread that will not fit into the list", "Shopping"):
        page.server.request("POST", "/threads", {"metadata": {"title": title}})
    made = page.server.request("POST", "/assistants", {"model": "", "name": "Weather", "tools": [_TOOL]})
    page.reload()
    page.choose("assistant", made["id"])


STATES: Final[dict[str, State]] = {
    state.__name__: state
    for state in (
        empty,
        answer,
        streaming,
        requires_action,
        assistant_dialog,
        error,
        files,
    )
}
