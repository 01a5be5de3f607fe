"""Uploads: files that are sent in parts, over HTTP and by the official SDK."""

import hashlib
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.api.conftest import ApiClient, client_of
from tests.objects import check
from tests.process import ServerProcess
from wire.files import File
from wire.uploads import Upload, UploadPart

TEXT = b"Cats purr. " * 20


def create(api: ApiClient, size: int = len(TEXT), status: int = 200, **fields: Any) -> Any:
    asked = {"filename": "cats.txt", "purpose": "assistants", "bytes": size, "mime_type": "text/plain", **fields}
    return api.post("/uploads", asked, status)


def add(api: ApiClient, upload: str, data: bytes, status: int = 200) -> Any:
    answer = api.client.post(f"/uploads/{upload}/parts", files={"data": ("blob", data)})
    assert answer.status_code == status, answer.text
    return answer.json()


def part_files(server: ServerProcess) -> list[str]:
    return [path.name for path in (server.log.parent / "files").rglob("part_*")]


def test_parts_become_a_file_in_the_requested_order(api: ApiClient, server: ServerProcess) -> None:
    upload = create(api, purpose="user_data")
    check(Upload, upload)
    assert (upload["status"], upload["file"], upload["expires_at"] - upload["created_at"]) == ("pending", None, 3600)
    last, first = add(api, upload["id"], TEXT[100:]), add(api, upload["id"], TEXT[:100])
    check(UploadPart, last)
    assert last["upload_id"] == upload["id"]
    asked = {"part_ids": [first["id"], last["id"]], "md5": hashlib.md5(TEXT).hexdigest()}
    done = api.post(f"/uploads/{upload['id']}/complete", asked)
    assert {**done, "file": None, "status": "pending"} == upload
    file = done["file"]
    check(File, file)
    assert (done["status"], file["filename"], file["bytes"], file["purpose"]) == (
        "completed",
        "cats.txt",
        len(TEXT),
        "user_data",
    )
    assert api.get(f"/files/{file['id']}") == done["file"]
    assert api.client.get(f"/files/{file['id']}/content").content == TEXT
    assert part_files(server) == []


def test_an_uploaded_file_is_searched_like_any_other(api: ApiClient) -> None:
    upload = create(api)
    part = add(api, upload["id"], TEXT)
    file = api.post(f"/uploads/{upload['id']}/complete", {"part_ids": [part["id"]]})["file"]["id"]
    store_id = api.post("/vector_stores", {"file_ids": [file]})["id"]
    assert api.wait_processed(f"/vector_stores/{store_id}")["file_counts"]["completed"] == 1
    found = api.post(f"/vector_stores/{store_id}/search", {"query": "purr"})
    assert [hit["file_id"] for hit in found["data"]] == [file]


def test_completing_twice_makes_one_file(api: ApiClient) -> None:
    upload = create(api)
    part = add(api, upload["id"], TEXT)["id"]
    path = f"/uploads/{upload['id']}/complete"
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: api.post(path, {"part_ids": [part]}), range(4)))
    assert len({one["file"]["id"] for one in done}) == 1
    error = api.post(path, {"part_ids": []}, 400)["error"]
    assert "is completed" in error["message"]


def test_parts_that_are_sent_concurrently_are_all_kept(api: ApiClient) -> None:
    size = 64 * 1024
    data = [bytes([number]) * size for number in range(12)]
    upload = create(api, size * len(data), purpose="user_data")["id"]
    with ThreadPoolExecutor(6) as threads:
        parts = list(threads.map(lambda block: add(api, upload, block)["id"], data))
    file = api.post(f"/uploads/{upload}/complete", {"part_ids": parts})["file"]["id"]
    assert api.client.get(f"/files/{file}/content").content == b"".join(data)


def test_a_cancelled_upload_accepts_and_keeps_no_parts(api: ApiClient, server: ServerProcess) -> None:
    upload = create(api)["id"]
    part = add(api, upload, TEXT)["id"]
    assert part in part_files(server)
    done = api.post(f"/uploads/{upload}/cancel")
    assert (done["status"], done["file"]) == ("cancelled", None)
    assert part_files(server) == []
    answer = api.client.post(f"/uploads/{upload}/parts", files={"data": b"x"})
    for error in (
        answer.json()["error"],
        api.post(f"/uploads/{upload}/complete", {"part_ids": [part]}, 400)["error"],
        api.post(f"/uploads/{upload}/cancel", status=400)["error"],
    ):
        assert "is cancelled" in error["message"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"part_ids": ["part_none"]}, "part_ids"),
        ({"part_ids": []}, "part_ids"),
        ({"part_ids": ["{first}"]}, "part_ids"),
        ({"part_ids": ["{first}", "{first}"]}, "part_ids"),
        ({"part_ids": ["{first}", "{rest}"], "md5": "0" * 32}, "md5"),
        ({}, "part_ids"),
    ],
    ids=["unknown", "none", "too few bytes", "twice", "other md5", "missing"],
)
def test_parts_that_do_not_match_leave_the_upload_pending(api: ApiClient, asked: dict[str, Any], param: str) -> None:
    upload = create(api)["id"]
    ids = {"{first}": add(api, upload, TEXT[:60])["id"], "{rest}": add(api, upload, TEXT[60:])["id"]}
    wrong = {**asked, "part_ids": [ids.get(one, one) for one in asked["part_ids"]]} if "part_ids" in asked else asked
    assert api.post(f"/uploads/{upload}/complete", wrong, 400)["error"]["param"] == param
    done = api.post(f"/uploads/{upload}/complete", {"part_ids": list(ids.values())})
    assert done["status"] == "completed"


def test_an_upload_is_limited_in_size(api: ApiClient, tight: ServerProcess) -> None:
    with httpx2.Client(base_url=f"{tight.url}/v1", timeout=10) as client:
        error = create(ApiClient(client), 200_001, 413)["error"]
    assert "200001, which is more than the 200000 that MAX_FILE_BYTES allows" in error["message"]
    upload = create(api, 10)["id"]
    assert "only 10" in add(api, upload, b"x" * 11, 400)["error"]["message"]
    for _ in range(3):
        add(api, upload, b"x" * 10)
    assert "31 bytes in total, which is more than 3 times the 10" in add(api, upload, b"x", 400)["error"]["message"]
    head = {"content-length": str(65 * 1024 * 1024), "content-type": "multipart/form-data; boundary=b"}
    with closing(http.client.HTTPConnection("127.0.0.1", tight.port, timeout=10)) as connection:
        with httpx2.Client(base_url=f"{tight.url}/v1", timeout=10) as client:
            upload = create(ApiClient(client), 10)["id"]
        connection.request("POST", f"/v1/uploads/{upload}/parts", headers=head)  # refused by its head alone
        answer = connection.getresponse()
        assert answer.status == 413
        message = json.loads(answer.read())["error"]["message"]
        assert f"The part, with its form, has {65 * 1024 * 1024} bytes" in message
        assert "more than the 67108864 that are allowed. Send the file in smaller parts." in message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bytes": -1}, "bytes"),
        ({"bytes": "5"}, "bytes"),
        ({"purpose": "x"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"filename": "x" * 256}, "filename"),
        ({"mime_type": 5}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
    ids=["negative", "text", "purpose", "no name", "long name", "type", "expiry", "unknown"],
)
def test_an_invalid_upload_is_refused_with_the_parameter_named(
    api: ApiClient, fields: dict[str, Any], param: str
) -> None:
    assert create(api, status=400, **fields)["error"]["param"] == param


def test_another_owner_s_upload_looks_unknown(keyed: ServerProcess) -> None:
    with client_of(keyed, "key-ann") as ann, client_of(keyed, "key-bob") as bob:
        upload = create(ApiClient(ann))["id"]
        result = [
            bob.post(f"/uploads/{upload}/parts", files={"data": TEXT}),
            bob.post(f"/uploads/{upload}/complete", json={"part_ids": []}),
            bob.post(f"/uploads/{upload}/cancel"),
        ]
        unknown = bob.post("/uploads/upload_none/cancel")
        assert {answer.status_code for answer in (*result, unknown)} == {404}
        assert (
            result[-1].json()["error"]["message"].replace(upload, "upload_none") == unknown.json()["error"]["message"]
        )
        add(ApiClient(ann), upload, TEXT)


def test_the_file_s_expiry_counts_from_its_completion(api: ApiClient) -> None:
    upload = create(api, expires_after={"anchor": "created_at", "seconds": 7200})["id"]
    part = add(api, upload, TEXT)["id"]
    file = api.post(f"/uploads/{upload}/complete", {"part_ids": [part]})["file"]
    assert file["expires_at"] == file["created_at"] + 7200


@pytest.mark.parametrize("in_memory", [True, False], ids=["bytes", "path"])
def test_the_official_sdk_uploads_a_file_in_chunks(server: ServerProcess, tmp_path: Path, in_memory: bool) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "data.bin").write_bytes(data)
    md5 = hashlib.md5(data).hexdigest()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        options: Any = {
            "mime_type": "application/octet-stream",
            "purpose": "user_data",
            "part_size": 100_000,
            "md5": md5,
        }
        if in_memory:
            done = client.uploads.upload_file_chunked(file=data, filename="data.bin", bytes=len(data), **options)
        else:
            done = client.uploads.upload_file_chunked(file=tmp_path / "data.bin", **options)
        assert done.status == "completed"
        assert done.file is not None
        assert client.files.content(done.file.id).read() == data


@pytest.mark.parametrize("path", ["/files", "/audio/transcriptions"])
def test_a_form_s_content_type_has_a_length(server: ServerProcess, path: str) -> None:
    kind = "multipart/form-data; boundary=b" + "; a=b" * 300
    answer = httpx2.post(f"{server.url}/v1{path}", content=b"--b--", headers={"content-type": kind}, timeout=10)
    assert answer.status_code == 400
    assert "1024" in answer.json()["error"]["message"]
