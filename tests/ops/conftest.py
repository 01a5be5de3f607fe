"""A server with a conversation, a run, a file and a vector store, and functions that create more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(scope="session")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("data")
    with ServerProcess(folder, MODEL_URL=upstream.url, EMBEDDINGS_MODEL="of-words") as process:
        yield process


def data(server: ServerProcess) -> Path:
    """Return the server's DATA_DIR."""
    return server.log.parent


def upload(server: ServerProcess, content: bytes) -> str:
    """Upload a file and return its id."""
    answer = httpx2.post(
        f"{server.url}/files", files={"file": ("said.txt", content)}, data={"purpose": "user_data"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    made: str = answer.json()["id"]
    return made


def download(server: ServerProcess, file_id: str) -> bytes:
    """Return the bytes of a file."""
    answer = httpx2.get(f"{server.url}/files/{file_id}/content", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.content


def talk(server: ServerProcess, *texts: str) -> str:
    """Create a thread with these user messages and a run for each; returns its id."""
    assistant = server.request("POST", "/assistants", {"model": "test-model"})["id"]
    messages = [{"role": "user", "content": text} for text in texts]
    thread = server.request("POST", "/threads", {"messages": messages, "metadata": {"title": texts[0]}})["id"]
    body = {"assistant_id": assistant, "stream": True}
    answer = httpx2.post(f"{server.url}/threads/{thread}/runs", json=body, timeout=30)
    assert "thread.run.completed" in answer.text
    made: str = thread
    return made


def thread_content(server: ServerProcess, thread: str) -> dict[str, Any]:
    """Return everything that the API shows of a thread."""
    path = f"/threads/{thread}"

    def all_of(what: str) -> list[Any]:
        found: list[Any] = server.request("GET", f"{path}/{what}?order=asc&limit=100")["data"]
        return found

    runs = all_of("runs")
    return {
        "thread": server.request("GET", path),
        "messages": all_of("messages"),
        "runs": runs,
        "steps": [all_of(f"runs/{run['id']}/steps") for run in runs],
    }
