"""Files over HTTP: uploads in every form, and the operations that are refused."""

import re
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient, client_of
from tests.objects import check
from tests.process import ServerProcess
from wire.files import File

NAUGHTY = 'evil"\r\nX-Injected: yes\r\n.txt'


def upload(client: httpx2.Client, name: str = "a.txt", data: bytes = b"x", **fields: str) -> httpx2.Response:
    return client.post("/files", files={"file": (name, data)}, data={"purpose": "user_data", **fields})


def form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> dict[str, Any]:
    """Return a handwritten form: Content-Disposition and bytes of each part."""
    body = b"".join(f"--b\r\nContent-Disposition: {head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts)
    return {"content": body + end, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


PURPOSE = ('form-data; name="purpose"', b"user_data")
DATA = ('form-data; name="file"; filename="a.txt"', b"hello")
SECONDS = ('form-data; name="expires_after[seconds]"', b"3600")


def test_a_file_has_every_field_and_is_returned_unchanged(api: ApiClient) -> None:
    data = bytes(range(256)) * 1000
    made = upload(api.client, "Zoë.bin", data).json()
    check(File, made)
    assert re.fullmatch(r"file-[A-Za-z0-9]{24}", made["id"])
    result = {name: made[name] for name in ("object", "bytes", "filename", "purpose", "status", "expires_at")}
    assert result == {
        "object": "file",
        "bytes": len(data),
        "filename": "Zoë.bin",
        "purpose": "user_data",
        "status": "processed",
        "expires_at": None,
    }
    assert api.get(f"/files/{made['id']}") == made
    answer = api.client.get(f"/files/{made['id']}/content")
    assert answer.content == data
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''Zo%C3%AB.bin"
    assert (answer.headers["x-content-type-options"], answer.headers["content-type"]) == (
        "nosniff",
        "application/octet-stream",
    )


def test_an_empty_file_is_accepted(api: ApiClient) -> None:
    made = upload(api.client, data=b"").json()
    assert made["bytes"] == 0
    assert api.client.get(f"/files/{made['id']}/content").content == b""


def test_a_deleted_file_is_reported_with_openai_s_message(api: ApiClient) -> None:
    file = api.file()
    assert api.delete(f"/files/{file}") == {"id": file, "object": "file", "deleted": True}
    for path in (f"/files/{file}", f"/files/{file}/content"):
        error = api.get(path, 404)["error"]
        assert (error["message"], error["param"]) == (f"No such File object: {file}", "id")
    assert api.delete(f"/files/{file}", 404)["error"]["message"] == f"No such File object: {file}"


def test_files_for_assistants_cannot_be_downloaded(api: ApiClient) -> None:
    error = api.get(f"/files/{api.file()}/content", 400)["error"]
    assert error["message"] == "Not allowed to download files of purpose: assistants"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.txt", "x.txt"),
        ("..", "file"),
        ("/", "file"),
        ("a\x7fb\x1b[31m\u202egnp.exe", "ab[31mgnp.exe"),
        (NAUGHTY, 'evil"X-Injected: yes.txt'),
        ("日本語 ☃.md", "日本語 ☃.md"),
        ("x" * 255, "x" * 255),
    ],
    ids=["up", "windows", "dots", "slash", "control", "header", "unicode", "long"],
)
def test_a_file_name_never_becomes_a_path_or_a_header(api: ApiClient, given: str, kept: str) -> None:
    made = upload(api.client, given).json()
    assert made["filename"] == kept
    answer = api.client.get(f"/files/{made['id']}/content")
    assert "x-injected" not in answer.headers
    assert answer.headers["content-disposition"].isascii()


def test_files_are_stored_under_their_ids_only(api: ApiClient, server: ServerProcess) -> None:
    made = upload(api.client, "../../../escape.txt").json()
    folder = server.log.parent / "files"
    kept = [path.name for path in folder.rglob("*") if path.is_file()]
    assert made["id"] in kept
    assert [name for name in kept if not re.fullmatch(r"(file-|part_)[A-Za-z0-9]{24}(\.text)?", name)] == []
    assert not list(server.log.parent.rglob("*escape*"))


def test_files_are_listed_by_purpose_and_in_pages(api: ApiClient) -> None:
    made = [upload(api.client, f"{number}.txt", purpose="evals").json()["id"] for number in range(3)]
    listed = api.get("/files", params={"purpose": "evals", "limit": 2})
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == (made[:0:-1], True)
    rest = api.get("/files", params={"purpose": "evals", "after": made[1]})
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (made[:1], False)
    assert api.get("/files", params={"purpose": "evals", "after": made[0]})["data"] == []
    assert [one["id"] for one in api.get("/files", params={"purpose": "evals", "order": "asc"})["data"]] == made
    assert {one["purpose"] for one in api.get("/files", params={"limit": 10_000})["data"]} > {"evals"}
    api.get("/files", 400, params={"limit": 10_001})


def test_a_file_can_expire(api: ApiClient) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = upload(api.client, **expiry).json()
    assert made["expires_at"] == made["created_at"] + 3600
    error = upload(api.client, **{**expiry, "expires_after[seconds]": "60"})
    assert (error.status_code, error.json()["error"]["param"]) == (400, "expires_after.seconds")


@pytest.mark.parametrize(
    ("parts", "end", "status", "result"),
    [
        ([PURPOSE], b"--b--\r\n", 400, "Missing required parameter: 'file'."),
        ([DATA], b"--b--\r\n", 400, "Missing required parameter: 'purpose'."),
        ([('form-data; name="purpose"', b"x"), DATA], b"--b--\r\n", 400, "Invalid value: 'x'."),
        ([PURPOSE, DATA, ('form-data; name="colour"', b"red")], b"--b--\r\n", 400, "Unknown parameter: 'colour'."),
        ([PURPOSE, DATA, DATA], b"--b--\r\n", 400, "more than one `file`"),
        ([PURPOSE, DATA, PURPOSE], b"--b--\r\n", 400, "more than one `purpose`"),
        ([PURPOSE, DATA, SECONDS, SECONDS], b"--b--\r\n", 400, "more than one `expires_after[seconds]`"),
        ([PURPOSE, DATA], b"", 400, "has no end"),
        ([PURPOSE, ("form-data", b"x")], b"--b--\r\n", 400, "has no name"),
        ([('form-data; name="purpose"', b"x" * 100_000), DATA], b"--b--\r\n", 400, "allowed besides its file"),
        ([PURPOSE, ('form-data; name="file"; filename="' + "x" * 256 + '"', b"")], b"--b--\r\n", 400, "at most 255"),
        ([(f'form-data; name="{n}"', b"") for n in range(17)], b"--b--\r\n", 400, "more than the 16 parts"),
    ],
    ids=[
        "no file",
        "none",
        "purpose",
        "unknown",
        "two",
        "twice",
        "[] twice",
        "cut",
        "nameless",
        "fields",
        "name",
        "parts",
    ],
)
def test_an_invalid_form_is_refused(
    api: ApiClient, server: ServerProcess, parts: Any, end: bytes, status: int, result: str
) -> None:
    answer = api.client.post("/files", **form(*parts, end=end))
    assert (answer.status_code, result in answer.json()["error"]["message"]) == (status, True), answer.text
    assert not list((server.log.parent / "files" / "incoming").iterdir())


def test_a_body_that_is_no_form_is_refused(api: ApiClient) -> None:
    assert api.post("/files", {"purpose": "assistants"}, 415)["error"]["code"] == "unsupported_media_type"
    broken = {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}
    assert "could not parse" in api.client.post("/files", **broken).json()["error"]["message"]
    nameless = {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}
    assert api.client.post("/files", **nameless).status_code == 400


def test_a_file_over_the_limit_is_refused_announced_or_not(tight: ServerProcess) -> None:
    with httpx2.Client(base_url=f"{tight.url}/v1", timeout=10) as client:
        assert upload(client, data=b"x" * 200_000).status_code == 200
        for data in (b"x" * 200_001, b"x" * 5_000_000):
            answer = upload(client, data=data)
            assert answer.status_code == 413
            message = answer.json()["error"]["message"]
            assert "more than the 200000 " in message
            assert "raise MAX_FILE_BYTES" in message
        assert message.startswith("The file, with its form, has 5000")  # as announced

        def unannounced() -> Any:
            yield form(PURPOSE, DATA, end=b"")["content"][:-2]
            for _ in range(100):
                yield b"x" * 10_000

        result = client.post("/files", content=unannounced(), headers=form()["headers"])
        assert result.status_code == 413
    assert not list((tight.log.parent / "files" / "incoming").iterdir())


def test_owners_cannot_see_each_other_s_files(keyed: ServerProcess) -> None:
    with client_of(keyed, "key-ann") as ann, client_of(keyed, "key-bob") as bob:
        file, mine = upload(ann).json()["id"], upload(bob).json()["id"]
        listed = [one["id"] for one in bob.get("/files").json()["data"]]
        assert mine in listed
        assert file not in listed
        for answer in (bob.get(f"/files/{file}"), bob.get(f"/files/{file}/content"), bob.delete(f"/files/{file}")):
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"No such File object: {file}")
        assert bob.get("/files", params={"after": file}).status_code == 400
        assert ann.get(f"/files/{file}").status_code == 200
    assert httpx2.post(f"{keyed.url}/v1/files", files={"file": b"x"}, timeout=10).status_code == 401
