"""Two servers, A and B, on one store. The model lives on in this process."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
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


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Two servers that have run long enough to take each other for dead if one stops."""
    if os.name == "nt":
        pytest.skip("Windows has no shared locks")
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        a = stack.enter_context(sharing_server(tmp_path, upstream))
        b = stack.enter_context(sharing_server(tmp_path, upstream))
        yield Two(a, b, upstream)
