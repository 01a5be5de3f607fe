"""One Chromium and one server for all tests of the page (for each worker); a separate model for each test.

Each test starts as a new visitor, on a server without threads and assistants. At its end, it checks that no other host
was requested, no policy was violated and no script failed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.process import ServerProcess, free_port
from tests.upstream import ScriptedUpstream
from tests.web.browser import Browser, chromium, missing, refuse
from tests.web.page import Page

KEY = "sesame-opens"
_LIMIT_S = 360  # the first test waits for Chromium and a server, on a machine that can have other work


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time."""
    for item in items:
        if item.nodeid.startswith("tests/web/"):
            item.add_marker(pytest.mark.timeout(_LIMIT_S))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if what := missing():
        refuse(what)
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="session")
def upstream_port() -> int:
    """The port of each test's own model, so that one server serves all tests."""
    return free_port()


@pytest.fixture
def up(upstream_port: int) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(port=upstream_port) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory, upstream_port: int
) -> Iterator[Callable[..., ServerProcess]]:
    """Return a function that starts a server with more settings; it runs until the last test."""
    with ExitStack() as stack:

        def start(**settings: str) -> ServerProcess:
            folder: Path = tmp_path_factory.mktemp("server")
            settings: dict[str, Any] = {
                "CORS_ORIGINS": "null",
                "MODEL_URL": f"http://127.0.0.1:{upstream_port}/v1",
                **settings,
            }
            return stack.enter_context(ServerProcess(folder, **settings))

        yield start


@pytest.fixture(scope="session")
def _open_server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    return start_server(ACTIONS_ALLOW_HOSTS="127.0.0.1")


@pytest.fixture(scope="session")
def locked(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server that requires `KEY`."""
    return start_server(API_KEYS=KEY)


@pytest.fixture(scope="session")
def without_model(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server whose model is not reachable."""
    return start_server(MODEL_URL="http://127.0.0.1:9/v1")


@pytest.fixture(scope="session")
def expiring(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server whose runs expire after three seconds."""
    return start_server(RUN_EXPIRY_S="3")


@pytest.fixture
def server(_open_server: ServerProcess) -> ServerProcess:
    """The open server, emptied."""
    for kind in ("threads", "assistants"):
        while rows := _open_server.request("GET", f"/{kind}?limit=100")["data"]:
            for row in rows:
                _open_server.request("DELETE", f"/{kind}/{row['id']}")
    return _open_server


@pytest.fixture
def tab(browser: Browser, server: ServerProcess, up: ScriptedUpstream) -> Iterator[Page]:
    """A tab in which the test opens a page itself, by `fresh`; its activity is checked at the end."""
    del up  # set before the page looks for it
    browser.forget()
    opened = Page(browser, server)
    yield opened
    assert browser.foreign_addresses() == []
    assert opened.js("return window.__ran") == []
    assert opened.js("return window.__reports") == []
    assert opened.js("return window.__errors") == []
    opened.look()


@pytest.fixture
def page(tab: Page) -> Page:
    """A tab with the server's page."""
    tab.fresh()
    return tab
