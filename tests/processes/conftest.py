"""Two servers, A and B, on one store. The model runs in this process."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream


class Two(NamedTuple):
    """The servers and their model."""

    a: ServerProcess
    b: ServerProcess
    upstream: ScriptedUpstream


LEASE_S = 5.0

_LONG_S = 60.0  # no process is declared dead, however busy the machine is


def sharing_server(folder: Path, upstream: ScriptedUpstream, lease_s: float = LEASE_S) -> ServerProcess:
    """Return a server on the store in `folder`, which it shares with others."""
    program = "tests/processes/shared_server.py"
    return ServerProcess(folder, program=program, MODEL_URL=upstream.url, DRAIN_S="0", LEASE_S=str(lease_s))


@contextmanager
def two_servers(folder: Path, lease_s: float = LEASE_S) -> Iterator[Two]:
    """Start two servers on one store."""
    if os.name == "nt":
        pytest.skip("Windows has no shared locks")
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        a = stack.enter_context(sharing_server(folder, upstream, lease_s))
        b = stack.enter_context(sharing_server(folder, upstream, lease_s))
        yield Two(a, b, upstream)


@pytest.fixture(scope="module")
def module_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Two servers for all tests of a module."""
    with two_servers(tmp_path_factory.mktemp("two"), _LONG_S) as two:
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
