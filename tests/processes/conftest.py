"""Two servers, A and B, on one store. The model runs in this process."""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
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
        stack.callback(lambda: sys.stderr.write(a.log.read_text()[-8000:]))  # pytest shows it if the test fails
        yield Two(a, b, upstream)


@contextmanager
def suspended(*servers: ServerProcess) -> Iterator[None]:
    """Suspend servers on one store between two of their transactions.

    A process that is suspended inside a transaction keeps SQLite's lock, and no other process can write.
    """
    end = time.monotonic() + 60
    while True:
        with ExitStack() as stack:
            for server in servers:
                stack.enter_context(server.paused())
            if _is_unlocked(servers[0].log.parent / "threadhold.db"):
                yield
                return
        assert time.monotonic() < end, "the servers always hold SQLite's lock"
        time.sleep(0.01)


def _is_unlocked(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as conn:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        conn.execute("ROLLBACK")
        return True


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
