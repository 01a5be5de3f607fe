"""Programs written for Azure OpenAI run unchanged except for their endpoint."""

import shutil

import pytest

from tests.sdk.conftest import Programs, absent
from tests.sdk.test_node import FOLDER
from tests.sdk.test_python import under

pytestmark = pytest.mark.timeout(270)


@pytest.mark.parametrize("version", ["1.20", "1.51", "newest"])
def test_a_python_program_written_for_azure_runs(version: str, programs: Programs) -> None:
    assert under(version, programs)("azure") == {
        "run": ["completed", "Echo: Hello"],
        "streamed": "Echo: More",
        "completions": ["Echo: Hi", "my-gpt-4o", "Echo: Hi"],
        "stored": [True, "thread", "cats.txt"],
        "refused": [401, "invalid_api_key"],
        "deleted": [True, True],
    }
    asked = [seen.body["model"] for seen in programs.upstream.requests if "my-" in seen.body["model"]]
    assert asked[-2:] == ["my-gpt-4o", "my-deployment"]


@pytest.mark.parametrize("package", ["openai", "openai7"], ids=["4.104", "7.55"])
def test_a_node_program_written_for_azure_runs(package: str, programs: Programs) -> None:
    if shutil.which("node") is None or not (FOLDER / "node_modules" / package).exists():
        absent("Node with the openai packages (`make sdks`)")
    environment = {"OPENAI_PACKAGE": package, "AZURE_ENDPOINT": programs.url, "OPENAI_BASE_URL": ""}
    assert programs.run(["node", FOLDER / "azure.js"], **environment) == {
        "run": ["completed", "Echo: Hello"],
        "completions": ["Echo: Hello", "my-gpt-4o", "Echo: Hello"],
        "stored": "thread",
        "refused": [401, "invalid_api_key"],
    }
    assert "mine" in [seen.body["model"] for seen in programs.upstream.requests]
