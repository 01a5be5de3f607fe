"""The files of the documentation are served completely, in small blocks."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from api.docs_files import serve_in_small_blocks


async def test_files_are_served_completely_in_small_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    (tmp_path / "a.js").write_bytes(content)
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=tmp_path))
    serve_in_small_blocks(app)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/static/a.js",
        "headers": [],
        "query_string": b"",
        "root_path": "",
    }
    await app({**scope, "asgi": {"spec_version": "2.4"}, "raw_path": b"/static/a.js"}, receive, send)
    assert sent[0]["status"] == 200
    blocks = [message["body"] for message in sent[1:]]
    assert b"".join(blocks) == content
    assert max(map(len, blocks)) == 16 * 1024
