"""Screenshots of the main states: `python -m tests.web.screenshots FOLDER`.

Each state, in light and dark, English and French, wide and on a phone of 320 px, as `state-theme-language-width.png`.
"""

import argparse
import base64
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream
from tests.web.browser import chromium, missing
from tests.web.page import Page
from tests.web.states import STATES

__all__ = ["take"]

_PHONE_PX = 320


def take(folder: Path) -> Iterator[Path]:
    """Write the screenshots into that folder, one by one; they replace earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = stack.enter_context(ScriptedUpstream())
        server = stack.enter_context(ServerProcess(scratch, MODEL_URL=up.url))
        page = Page(stack.enter_context(chromium(scratch / "profile")), server)
        for (name, state), language in itertools.product(STATES.items(), ("en", "fr")):
            for row in server.request("GET", "/threads?limit=100")["data"]:
                server.request("DELETE", f"/threads/{row['id']}")
            up.context = None
            page.fresh(language=language, reduced_motion=True)
            state(page, up)
            for theme, width in itertools.product(("light", "dark"), (0, _PHONE_PX)):
                page.look(theme=theme, language=language, width=width, reduced_motion=True)
                yield _picture(
                    page, folder / f"{name}-{theme}-{language}-{width or 'wide'}.png", full_length=bool(width)
                )
            up.release()


def _picture(page: Page, file: Path, *, full_length: bool) -> Path:
    """Write the visible part, or the full length of the page."""
    captured = page.browser.cdp("Page.captureScreenshot", captureBeyondViewport=full_length)
    file.write_bytes(base64.b64decode(captured["data"]))
    return file


def main() -> None:
    """Take all screenshots, and print the path of each."""
    parser = argparse.ArgumentParser(description="Pictures of the page's main states.")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if what := missing():
        parser.error(what)
    for file in take(options.folder):
        print(file)  # noqa: T201 (for a person)


if __name__ == "__main__":
    main()
