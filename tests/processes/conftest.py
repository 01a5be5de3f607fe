"""Two servers, A and B, on one store. The model lives on in this process."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process import ROOT, ServerProcess
from tests.upstream import ScriptedUpstream

COMMAND = (sys.executable, str(ROOT / "tests/processes/shared_server.py"))


class Two(NamedTuple):
    """The servers and their model."""

    a: ServerProcess
    b: ServerProcess
    upstream: ScriptedUpstream


def sharing_server(folder: Path, upstream: ScriptedUpstream, **settings: str) -> ServerProcess:
    """Return a server on the store in `folder`, which it shares with others."""
    return ServerProcess(folder, before=COMMAND, MODEL_URL=upstream.url, DRAIN_S="0", **settings)


@contextmanager
def two_servers(folder: Path) -> Iterator[Two]:
    """Start two servers on one store."""
    if os.name == "nt":
        pytest.skip("Windows has no shared locks")
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        a = stack.enter_context(sharing_server(folder, upstream))
        b = stack.enter_context(sharing_server(folder, upstream))
        yield Two(a, b, upstream)


@pytest.fixture(scope="module")
def module_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Two servers for all tests of a module."""
    with two_servers(tmp_path_factory.mktemp("two")) as two:
        yield two


@pytest.fixture
def two(module_servers: Two) -> Two:
    """Two servers that the test must not stop."""
    module_servers.upstream.requests.clear()
    module_servers.upstream.closed_early = 0
    return module_servers


@pytest.fixture
def own_two(tmp_path: Path) -> Iterator[Two]:
    """Two servers that the test can stop."""
    with two_servers(tmp_path) as two:
        yield two
