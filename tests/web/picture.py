"""Takes the picture of the page that the README shows: `python -m tests.web.picture` writes `docs/images/page.png`."""

import base64
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.process import ROOT, ServerProcess
from tests.upstream import Reply, ScriptedUpstream
from tests.web.browser import chromium
from tests.web.page import Page
from tests.web.states import DROP, FERRY

__all__ = ["take"]

_TITLES: Final = ("Notes of the meeting", "Translate a letter", "Weekend in Oslo", "What is a container?")
_ANSWER: Final = """\
The ferry to **Naxos** leaves Piraeus at seven in the morning 【0:0†source】, on every day but Monday.

| day | departure | from |
|---|---|---|
| Tuesday to Sunday | 07:00 | Piraeus |
| Monday | none | |

1. Be at the harbour half an hour before.
2. Take the ticket with you, on paper or as `ticket.pdf`.
"""


def take(file: Path) -> None:
    """Write the picture: some threads, and an answer from a file with its footnote open."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = stack.enter_context(ScriptedUpstream())
        server = stack.enter_context(ServerProcess(scratch, MODEL_URL=up.url))
        page = Page(stack.enter_context(chromium(scratch / "profile")), server)
        page.fresh(language="en", reduced_motion=True)
        for title in _TITLES:
            server.request("POST", "/threads", {"metadata": {"title": title}})
        page.reload()
        page.js(DROP, "ferries of the Cyclades.txt", FERRY)
        page.eventually(lambda: page.all("#chips [data-file]"), "the file is there")
        up.script(Reply(tool_calls=[("file_search", {"query": "ferry to Naxos"})]), Reply(_ANSWER))
        page.send("When does the ferry to Naxos leave?")
        page.shows("ticket.pdf", limit_s=30)
        page.idle()
        page.all("sup button")[0].click()
        page.eventually(lambda: page.all("blockquote"), "the passage")
        page.look(theme="light", language="en", width=0, reduced_motion=True)
        captured = page.browser.cdp("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(captured["data"]))


if __name__ == "__main__":
    take(ROOT / "docs" / "images" / "page.png")
