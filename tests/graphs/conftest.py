"""Shared fixtures of the tests of `graphs`."""

from collections.abc import Iterator

import pytest

from tests.upstream import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted
