"""Edge cases of bodies: JSON's and HTTP's ambiguities, compression, and bodies that break off."""

import gzip
import json
import random
import socket
import time
from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.process import ServerProcess


def test_a_partial_body_is_not_treated_as_empty(server: ServerProcess, api: ApiClient) -> None:
    before = api.get("/threads", params={"limit": 1})["first_id"]
    head = (
        "POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head.encode() + b'{"metadata": {')
    time.sleep(0.3)
    assert api.get("/threads", params={"limit": 1})["first_id"] == before


def post(api: ApiClient, body: bytes, **headers: str) -> tuple[int, Any]:
    headers_sent = {
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    answer = api.client.post("/threads", content=body, headers=headers_sent)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (b'\xef\xbb\xbf{"metadata": {"a": "b"}}', {"a": "b"}),
        (b'{"metadata": {"a": "1"}, "metadata": {"a": "2"}}', {"a": "2"}),
        (b'{"metadata": {"a": "1", "a": "2"}}', {"a": "2"}),
        (b'{"metadata": {"a": "x\\u0000y", "\\u0000": ""}}', {"a": "x\0y", "\0": ""}),
        (b'{"metadata": {"a": "\\ud83d\\ude00"}}', {"a": "\U0001f600"}),
        ('{"metadata": {"\u202e": "\ufeff\U0010ffff\ufffe"}}'.encode(), {"\u202e": "\ufeff\U0010ffff\ufffe"}),
        (b'\r\n\t {"metadata": null} \n', {}),
        (b"", {}),
    ],
    ids=["bom", "twice", "twice within", "nul", "pair", "odd letters", "space around", "nothing"],
)
def test_valid_json_is_accepted_and_returned_unchanged(api: ApiClient, body: bytes, metadata: dict[str, str]) -> None:
    status, made = post(api, body)
    assert (status, made.get("metadata")) == (200, metadata), made
    assert api.get(f"/threads/{made['id']}")["metadata"] == metadata


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"a": "\\ud83d"}}',
        b'{"metadata": {"a": "\xed\xa0\xbd"}}',
        b'{"metadata": {"a": "\xc0\x80"}}',
        b'{"metadata": {"a": "x\0y"}}',
        b'{"metadata": {"a": 1e999}}',
        b'{"metadata": Infinity}',
        b"{'metadata': {}}",
        b'{"metadata": {},}',
        b'{"metadata": {}} {}',
        b'{"metadata": {}} // said',
        b"{}\0",
        '{"metadata": {}}'.encode("utf-16"),
        '{"metadata": {}}'.encode("utf-32"),
        b'{"metadata": {"a": "\xe9"}}',
        b" \r\n ",
    ],
    ids=[
        *("half a pair", "half in utf-8", "overlong", "raw nul", "too large", "infinity", "quotes", "comma", "two"),
        *("comment", "nul behind", "utf-16", "utf-32", "latin-1", "space"),
    ],
)
def test_invalid_json_or_utf_8_is_refused(api: ApiClient, body: bytes) -> None:
    for content_type in ("application/json", "application/json; charset=utf-16", "application/vnd.x+json"):
        status, headers_sent = post(api, body, content_type=content_type)
        assert (status, headers_sent["error"]["code"]) == (400, "invalid_json")


def test_a_compressed_body_is_refused_without_decompression(api: ApiClient) -> None:
    bomb = gzip.compress(b'{"metadata": {"a": "' + b"x" * 50_000_000 + b'"}}')
    assert len(bomb) < 100_000
    start = time.monotonic()
    for coding in ("gzip", "br", "gzip, identity"):
        status, headers_sent = post(api, bomb, content_encoding=coding)
        assert (status, headers_sent["error"]["code"]) == (415, "unsupported_media_type")
    assert time.monotonic() - start < 2
    assert post(api, b"{}", content_encoding="identity")[0] == 200


def test_a_chunked_body_is_read_as_one(server: ServerProcess) -> None:
    """Chunks of one byte, with extensions, and a trailer that must not become a header."""
    body = b'{"metadata": {"a": "b"}}'
    sent = b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
    sent += b"transfer-encoding: chunked\r\n\r\n"
    sent += b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body)
    sent += b"0\r\ncontent-encoding: gzip\r\nx-trailer: " + b"t" * 1000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        got = b""
        while block := connection.recv(65_536):
            got += block
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["metadata"] == {"a": "b"}


def test_text_that_looks_like_a_stream_stays_text(api: ApiClient) -> None:
    source_text = "a\r\n\r\nevent: done\rdata: [DONE]\n\nevent: error\ndata: {}\n\n\u2028\u2029\x00"
    thread, assistant = api.thread(source_text), api.assistant()
    with api.client.stream(
        "POST", f"/threads/{thread}/runs", json={"assistant_id": assistant, "stream": True}
    ) as answer:
        events = answer.read().decode().strip().split("\n\n")
    names = [event.partition("\n")[0] for event in events]
    assert names.count("event: done") == 1
    assert "event: error" not in names
    data = [json.loads(event.partition("data: ")[2]) for event in events[:-1]]
    spoken = [
        each["delta"]["content"][0]["text"]["value"]
        for each in data
        if "delta" in each and each["object"] == "thread.message.delta"
    ]
    assert "".join(spoken) == f"Echo: {source_text}"


def test_a_corrupted_form_is_accepted_or_refused(api: ApiClient) -> None:
    chance = random.Random(20260826)
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
        b"what is in it\r\n--b--\r\n"
    )
    seen = set()
    for _ in range(300):
        start = chance.randrange(len(form))
        stop = start + chance.choice((0, 1, 1, 2, 20))
        changed = form[:start] + chance.choice((b"", b"\0", b"\r\n", b"--b", b'"', b";", b"\xff", b"=")) + form[stop:]
        answer = api.client.post("/files", content=changed, headers={"content-type": "multipart/form-data; boundary=b"})
        assert answer.status_code in (200, 400, 413), (changed, answer.text)
        if answer.status_code == 200:
            assert api.delete(f"/files/{answer.json()['id']}")["deleted"]
        seen.add(answer.status_code)
    assert seen == {200, 400}


@pytest.mark.parametrize(("count", "status"), [(1_000, "x0"), (1_001, None)])
def test_a_body_has_a_limit_of_fields(api: ApiClient, count: int, status: str | None) -> None:
    error = api.post("/threads", {f"x{number}": number for number in range(count)}, 400)["error"]
    assert error["param"] == status
    assert status or "1001 fields; at most 1000 are allowed" in error["message"]
