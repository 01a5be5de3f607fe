"""One server in open mode and one with keys, both real processes on real ports, with one scripted upstream."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import pytest

from tests.process import ServerProcess
from tests.upstream import ScriptedUpstream, Step, echo

_numbers = itertools.count()


def wait_loaded(process: ServerProcess) -> ServerProcess:
    """Wait until all routes are loaded: on a busy machine that takes longer than a request's timeout."""
    assert httpx2.get(f"{process.url}/openapi.json", timeout=90).status_code == 200
    return process


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture(autouse=True)
def echoes(upstream: ScriptedUpstream) -> None:
    """Reset the upstream before every test: it echoes, and its script is empty."""
    upstream.default = lambda body: echo(body)


@pytest.fixture(scope="session")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {
        "MODEL_URL": upstream.url,
        "MODEL_API_KEY": "sk-of-the-server",
        "MODEL_ALIASES": "gpt-4o=test-model",
        "EMBEDDINGS_MODEL": "of-words",
        "MAX_BODY_BYTES": "200000",
        "CORS_ORIGINS": "http://allowed.example",
        "ALLOWED_HOSTS": "named.example",
    }
    with ServerProcess(tmp_path_factory.mktemp("open"), **settings) as process:
        yield wait_loaded(process)


@pytest.fixture(scope="session")
def keyed(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    keys = "ann=key-ann,bob=key-bob,plain-key"
    with ServerProcess(tmp_path_factory.mktemp("keyed"), MODEL_URL=upstream.url, API_KEYS=keys) as process:
        yield wait_loaded(process)


@pytest.fixture(scope="session")
def tight(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a low limit for the size of files."""
    folder = tmp_path_factory.mktemp("tight")
    with ServerProcess(folder, MODEL_URL=upstream.url, MAX_FILE_BYTES="200000") as process:
        yield wait_loaded(process)


@pytest.fixture(scope="module")
def roomy(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the default limit for the size of bodies."""
    with ServerProcess(tmp_path_factory.mktemp("roomy"), MODEL_URL=upstream.url) as process:
        yield wait_loaded(process)


def client_of(server: ServerProcess, key: str, *, timeout: float = 60, **options: Any) -> httpx2.Client:
    """Return a client of a server with keys; the caller closes it."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=f"{server.url}/v1", headers=headers, timeout=timeout, **options)


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{server.url}/v1", timeout=60) as made:
        yield made


@pytest.fixture
def script(upstream: ScriptedUpstream) -> Callable[..., None]:
    """Return a function that sets the model's next answers; after them, the model echoes."""

    def script_replies(*steps: Step) -> None:
        left = iter(steps)
        upstream.default = lambda body: next(left, None) or echo(body)

    return script_replies


class ApiClient:
    """Creates and fetches the objects that tests need."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def post(self, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        answer = self.client.post(path, json={} if body is None else body, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200, **options: Any) -> Any:
        answer = self.client.get(path, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def delete(self, path: str, status: int = 200) -> Any:
        answer = self.client.delete(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def assistant(self, **fields: Any) -> str:
        made: str = self.post("/assistants", {"model": "m", **fields})["id"]
        return made

    def file(self, content: bytes | str = "Cats purr.", name: str = "cats.txt", purpose: str = "assistants") -> str:
        """Upload a file and return its id."""
        data = content.encode() if isinstance(content, str) else content
        answer = self.client.post("/files", files={"file": (name, data)}, data={"purpose": purpose})
        assert answer.status_code == 200, answer.text
        made: str = answer.json()["id"]
        return made

    def wait_processed(self, path: str) -> Any:
        """Wait until nothing of a vector store, its file or a batch is in progress; returns the object."""
        end = time.monotonic() + 60
        while (found := self.get(path))["status"] == "in_progress" and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def thread(self, *texts: str) -> str:
        messages = [{"role": "user", "content": text} for text in texts]
        made: str = self.post("/threads", {"messages": messages})["id"]
        return made

    def run(self, *, tools: Sequence[Any] = (), **fields: Any) -> dict[str, Any]:
        """Start a run on a new thread and return the response's run."""
        assistant = self.assistant(tools=list(tools))
        made: dict[str, Any] = self.post(f"/threads/{self.thread('Hello')}/runs", {"assistant_id": assistant, **fields})
        return made

    def wait_ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return the run once it has paused or ended."""
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        with self.client.stream("GET", f"{path}/events") as answer:
            answer.read()
        found: dict[str, Any] = self.get(path)
        return found


@pytest.fixture
def api(client: httpx2.Client) -> ApiClient:
    return ApiClient(client)
