"""SIGKILL during the rewriting of an index of an older format: the server keeps answering, and the rewriting
resumes."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from store.folding import FORM
from tests.process import ServerProcess
from tests.store.former import write_former
from tests.upstream import ScriptedUpstream, embeddings
from wire.ids import DEFAULT_OWNER
from wire.vector_stores import VectorStoreCreate, new_vector_store

pytestmark = pytest.mark.timeout(360)

COUNT = 400
ALL = (FORM - 1) * COUNT
STORE, FILE = "vs_former0000000000000000", "file-former000000000000000000"
TEXTS = [f"환불정책{at}은 영수증을 number{at} 고객센터에서" for at in range(COUNT)]


@pytest.fixture
def embedded() -> list[str]:
    return []


@pytest.fixture
def upstream(embedded: list[str]) -> Iterator[ScriptedUpstream]:
    def embed(body: dict[str, Any]) -> dict[str, Any]:
        embedded.extend(body["input"])
        return embeddings(body)

    with ScriptedUpstream() as scripted:
        scripted.extra["/v1/embeddings"] = embed
        yield scripted


@pytest.fixture
def server(upstream: ScriptedUpstream, tmp_path: Path) -> Iterator[ServerProcess]:
    path = tmp_path / "threadhold.db"
    write_former(path, {FILE: [(text, text) for text in TEXTS]}, owner=DEFAULT_OWNER, store=STORE)
    store = json.dumps(new_vector_store(VectorStoreCreate(), id=STORE, now=int(time.time())))
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        sql = "INSERT INTO vector_stores (id, owner, status, body, private) VALUES (?, ?, 'completed', ?, '{}')"
        conn.execute(sql, (STORE, DEFAULT_OWNER, store))
        sql = "INSERT INTO files (id, owner, purpose, body, private) VALUES (?, ?, 'assistants', ?, '{}')"
        conn.execute(sql, (FILE, DEFAULT_OWNER, json.dumps({"id": FILE, "filename": "former.txt"})))
    process = ServerProcess(tmp_path, MODEL_URL=upstream.url, EMBEDDINGS_MODEL="of-words")
    yield process
    process.kill()


def find(server: ServerProcess, words: str) -> list[str]:
    asked = {"query": words, "max_num_results": 50}
    found = server.request("POST", f"/v1/vector_stores/{STORE}/search", asked)
    return [hit["content"][0]["text"] for hit in found["data"]]


def rewritten(server: ServerProcess) -> int:
    """Return how many passages are rewritten, counted once for each form."""
    with closing(sqlite3.connect(server.log.parent / "threadhold.db")) as conn:
        form, refolded = conn.execute("SELECT form, refolded FROM index_files").fetchone()
        return (form - 1) * COUNT + refolded


def wait_for(server: ServerProcess, count: int) -> None:
    end = time.monotonic() + 60
    while rewritten(server) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_interrupted_rewrite_resumes_and_searches_stay_complete(server: ServerProcess, embedded: list[str]) -> None:
    asked = set()
    for count in (COUNT // 4, COUNT + COUNT // 2):  # in each of the two former forms
        server.start()
        wait_for(server, count)
        for at in (0, COUNT - 1):  # one store that is rewritten, one that is not
            assert find(server, f"number{at}") == [TEXTS[at]]
            asked.add(f"number{at}")
        done = rewritten(server)
        assert done < ALL
        server.kill()
        assert rewritten(server) >= done
    server.start()
    wait_for(server, ALL)
    for at in (0, COUNT // 4, COUNT // 2, COUNT - 1):
        assert find(server, f"환불 정책 number{at}")[0] == TEXTS[at]
        asked.add(f"환불 정책 number{at}")
    assert len(find(server, "고객 센터")) == 50
    log = server.log.read_text()
    assert log.count("rewriting the word index in the background, files left: 1") == 3
    assert log.count("rewrote the word index, files: 1") == 1
    assert set(embedded) == asked | {"고객 센터"}
