"""With UNKNOWN_FIELDS=ignore, objects that an SDK has read can be sent back unchanged."""

import shutil
from collections.abc import Iterator

import pytest

from tests.process import ServerProcess
from tests.sdk.conftest import Programs, absent
from tests.sdk.test_node import FOLDER
from tests.sdk.test_python import under
from tests.upstream import ScriptedUpstream, echo

pytestmark = pytest.mark.timeout(270)


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    folder = tmp_path_factory.mktemp("ignoring")
    with (
        ScriptedUpstream() as upstream,
        ServerProcess(folder, MODEL_URL=upstream.url, UNKNOWN_FIELDS="ignore") as server,
    ):
        upstream.default = lambda body: echo(body)
        yield Programs(server.url, upstream, "any")


@pytest.mark.parametrize("version", ["1.20", "1.51", "newest"])
def test_python_objects_can_be_sent_back(version: str, ignoring: Programs) -> None:
    assert under(version, ignoring)("whole_objects") == {
        "assistant": [True, True, True],
        "thread": [True, {"user": "u1"}],
        "messages": ["Hello", "Echo: Hello"],
        "ignored": ["id", "created_at", "object"],
        "runs": ["completed", "thread.run"],
    }


@pytest.mark.parametrize("package", ["openai4v1", "openai", "openai7"], ids=["4.36", "4.104", "7.55"])
def test_node_objects_can_be_sent_back(package: str, ignoring: Programs) -> None:
    if shutil.which("node") is None or not (FOLDER / "node_modules" / package).exists():
        absent("Node with the openai packages (`make sdks`)")
    assert ignoring.run(["node", FOLDER / "whole.js"], OPENAI_PACKAGE=package) == {
        "same": "Tutor",
        "copy": [True, {"user": "u1"}],
        "runs": ["completed", "thread.run"],
    }
