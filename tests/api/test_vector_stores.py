"""Vector stores, their files and batches over HTTP, from an upload to an answer and to deletion."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import ApiClient, client_of
from tests.documents.files import pdf_file
from tests.objects import check
from tests.process import ServerProcess
from wire.vector_stores import FileBatch, VectorStore, VectorStoreFile

STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}


SLOW = "<p></p>" * 100_000 + "cats"
"""A page that takes a moment to read and contains one word."""


def made(api: ApiClient, *file_ids: str, **fields: Any) -> str:
    """Return a vector store whose files are all processed."""
    store: str = api.post("/vector_stores", {"file_ids": list(file_ids), **fields})["id"]
    api.wait_processed(f"/vector_stores/{store}")
    return store


def found(api: ApiClient, store: str, query: Any = "cats", **fields: Any) -> list[Any]:
    page = api.post(f"/vector_stores/{store}/search", {"query": query, **fields})
    assert (page["object"], page["has_more"], page["next_page"]) == ("vector_store.search_results.page", False, None)
    data: list[Any] = page["data"]
    return data


def test_a_vector_store_has_every_field_and_expires(api: ApiClient) -> None:
    file = api.file("Cats purr.")
    expiry = {"anchor": "last_active_at", "days": 3}
    store = api.post("/vector_stores", {"name": "docs", "file_ids": [file], "expires_after": expiry})
    check(VectorStore, store)
    assert store["file_counts"] == {"in_progress": 1, "completed": 0, "failed": 0, "cancelled": 0, "total": 1}
    assert (store["status"], store["name"], store["description"]) == ("in_progress", "docs", None)
    assert store["expires_at"] == store["last_active_at"] + 3 * 86_400
    done = api.wait_processed(f"/vector_stores/{store['id']}")
    assert done["file_counts"] == {"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}
    assert done["usage_bytes"] > 0
    listed = api.get("/vector_stores", params={"limit": 1})["data"]
    assert listed == [done]
    entry = api.get(f"/vector_stores/{store['id']}/files/{file}")
    check(VectorStoreFile, entry)
    result = {name: entry[name] for name in ("id", "status", "last_error", "attributes")}
    assert result == {"id": file, "status": "completed", "last_error": None, "attributes": {}}
    assert entry["chunking_strategy"]["static"] == {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}


def test_a_file_s_text_is_found_and_can_be_read(api: ApiClient) -> None:
    file = api.file(pdf_file("Bears are big", "Cats purr"), "zoo.pdf")
    store = made(api, file)
    (hit,) = found(api, store, "bears")
    assert (hit["file_id"], hit["filename"], hit["attributes"]) == (file, "zoo.pdf", {})
    assert 0 < hit["score"] <= 1
    content = api.get(f"/vector_stores/{store}/files/{file}/content")
    assert content["object"] == "vector_store.file_content.page"
    assert content["data"] == [{"type": "text", "text": "Bears are big\nCats purr\n"}]
    assert hit["content"][0]["text"] in content["data"][0]["text"]


def test_a_bad_file_fails_alone_with_a_reason(api: ApiClient) -> None:
    files = [api.file("Cats purr."), api.file(b"", "empty.txt"), api.file(bytes(range(256)) * 9, "x.bin")]
    store = made(api, *files)
    counts = api.get(f"/vector_stores/{store}")["file_counts"]
    assert counts == {"in_progress": 0, "completed": 1, "failed": 2, "cancelled": 0, "total": 3}
    errors = [api.get(f"/vector_stores/{store}/files/{file}")["last_error"] for file in files]
    assert [error and error["code"] for error in errors] == [None, "invalid_file", "unsupported_file"]
    assert errors[1]["message"] == "The file is empty."
    failed = api.get(f"/vector_stores/{store}/files", params={"filter": "failed"})["data"]
    assert {one["id"] for one in failed} == set(files[1:])
    assert "failed" in api.get(f"/vector_stores/{store}/files/{files[1]}/content", 400)["error"]["message"]


def test_only_given_fields_change(api: ApiClient) -> None:
    store = made(api, name="a", metadata={"k": "v"})
    changed = api.post(f"/vector_stores/{store}", {"name": "b"})
    assert (changed["name"], changed["metadata"], changed["expires_at"]) == ("b", {"k": "v"}, None)
    changed = api.post(f"/vector_stores/{store}", {"expires_after": {"anchor": "last_active_at", "days": 1}})
    assert changed["expires_at"] == changed["last_active_at"] + 86_400
    changed = api.post(f"/vector_stores/{store}", {"expires_after": None, "name": None})
    assert (changed["expires_at"], changed["expires_after"], changed["name"]) == (None, None, "")


def test_a_removed_file_is_no_longer_found_and_stays_a_file(api: ApiClient) -> None:
    file = api.file()
    store = made(api, file)
    assert found(api, store)
    gone = api.delete(f"/vector_stores/{store}/files/{file}")
    assert gone == {"id": file, "object": "vector_store.file.deleted", "deleted": True}
    assert found(api, store) == []
    api.get(f"/vector_stores/{store}/files/{file}", 404)
    api.get(f"/files/{file}")
    api.post(f"/vector_stores/{store}/files", {"file_id": file})
    assert api.wait_processed(f"/vector_stores/{store}/files/{file}")["status"] == "completed"
    assert found(api, store)


def test_a_deleted_file_leaves_every_store(api: ApiClient) -> None:
    file = api.file()
    stores = [made(api, file), made(api, file, api.file("Dogs bark."))]
    api.delete(f"/files/{file}")
    assert [file in {hit["file_id"] for hit in found(api, store)} for store in stores] == [False, False]
    assert [api.get(f"/vector_stores/{store}")["file_counts"]["total"] for store in stores] == [0, 1]


def test_a_deleted_store_is_not_found_and_keeps_its_files(api: ApiClient) -> None:
    file = api.file()
    store = made(api, file)
    deleted = api.delete(f"/vector_stores/{store}")
    assert deleted == {"id": store, "object": "vector_store.deleted", "deleted": True}
    for path in ("", "/files", f"/files/{file}"):
        error = api.get(f"/vector_stores/{store}{path}", 404)["error"]
        assert error["message"] == f"No vector store found with id '{store}'."
    api.get(f"/files/{file}")


def test_attributes_are_kept_changed_and_filter_a_search(api: ApiClient) -> None:
    file, other = api.file("Cats purr."), api.file("Cats sleep.")
    store = made(api, other)
    attributes = {"year": 2020, "kind": "pet", "wild": False, "weight": 4.5}
    entry = api.post(f"/vector_stores/{store}/files", {"file_id": file, "attributes": attributes})
    assert entry["attributes"] == attributes
    api.wait_processed(f"/vector_stores/{store}/files/{file}")
    only = {"type": "eq", "key": "year", "value": 2020}
    assert [hit["file_id"] for hit in found(api, store, filters=only)] == [file]
    changed = api.post(f"/vector_stores/{store}/files/{file}", {"attributes": {"year": 2021}})
    assert changed["attributes"] == {"year": 2021}
    assert found(api, store, filters=only) == []
    both = {"type": "and", "filters": [{"type": "gt", "key": "year", "value": 2020}]}
    assert [hit["attributes"] for hit in found(api, store, filters=both)] == [{"year": 2021}]


def test_several_queries_find_the_best_of_all(api: ApiClient) -> None:
    store = made(api, api.file("Cats purr."), api.file("Dogs bark."))
    assert {hit["filename"] for hit in found(api, store, ["cats", "dogs"])} == {"cats.txt"}
    assert len(found(api, store, ["cats", "dogs"])) == 2
    assert len(found(api, store, ["cats", "dogs"], max_num_results=1)) == 1


def test_a_batch_completes_with_settings_for_each_file(api: ApiClient) -> None:
    files = [api.file(f"Cat number {number}. " * 60) for number in range(3)]
    store = made(api)
    given = [{"file_id": files[0], "attributes": {"n": 0}, "chunking_strategy": STATIC}, {"file_id": files[1]}]
    batch = api.post(f"/vector_stores/{store}/file_batches", {"files": given})
    check(FileBatch, batch)
    path = f"/vector_stores/{store}/file_batches/{batch['id']}"
    done = api.wait_processed(path)
    assert (done["status"], done["file_counts"]["completed"], done["file_counts"]["total"]) == ("completed", 2, 2)
    api.post(f"/vector_stores/{store}/files", {"file_id": files[2]})
    api.wait_processed(f"/vector_stores/{store}")
    listed = api.get(f"{path}/files", params={"order": "asc"})["data"]
    assert [one["id"] for one in listed] == files[:2]
    assert [one["chunking_strategy"]["static"]["max_chunk_size_tokens"] for one in listed] == [100, 800]
    assert api.get(f"{path}/files", params={"order": "asc", "after": files[0]})["data"][0]["id"] == files[1]
    assert api.get(f"{path}/files", params={"filter": "failed"})["data"] == []
    assert len(found(api, store, "cat", max_num_results=50)) > 3
    error = api.post(f"{path}/cancel", None, 400)["error"]
    assert error["message"] == "Cannot cancel file batch with status 'completed'."


def test_a_batch_of_broken_files_has_failed(api: ApiClient) -> None:
    store = made(api)
    batch = api.post(f"/vector_stores/{store}/file_batches", {"file_ids": [api.file(b"")]})
    assert api.wait_processed(f"/vector_stores/{store}/file_batches/{batch['id']}")["status"] == "failed"


def test_a_cancelled_batch_indexes_no_more(api: ApiClient) -> None:
    store = made(api)
    slow = [api.file(SLOW, f"{number}.html") for number in range(6)]
    batch = api.post(f"/vector_stores/{store}/file_batches", {"file_ids": slow})
    path = f"/vector_stores/{store}/file_batches/{batch['id']}"
    cancelled = api.post(f"{path}/cancel")
    assert cancelled["status"] == "cancelled"
    counts = cancelled["file_counts"]
    assert (counts["in_progress"], counts["total"]) == (0, 6)
    assert counts["cancelled"] >= 4
    assert api.get(path) == cancelled
    assert api.wait_processed(f"/vector_stores/{store}")["file_counts"] == counts


def test_a_store_or_file_deleted_during_ingestion_leaves_nothing(api: ApiClient) -> None:
    slow = [api.file(SLOW, f"{number}.html") for number in range(2)]
    store = api.post("/vector_stores", {"file_ids": slow})["id"]
    other = api.post("/vector_stores", {"file_ids": slow})["id"]
    api.delete(f"/vector_stores/{store}")
    api.delete(f"/files/{slow[0]}")
    assert api.wait_processed(f"/vector_stores/{other}")["file_counts"]["completed"] == 1
    assert {hit["file_id"] for hit in found(api, other)} == {slow[1]}
    api.get(f"/vector_stores/{store}", 404)


def test_an_unknown_file_or_store_is_a_404_without_effect(api: ApiClient) -> None:
    file, store = api.file(), made(api)
    missing = "No such File object: file-none"
    assert api.post("/vector_stores", {"file_ids": [file, "file-none"]}, 404)["error"]["message"] == missing
    bodies: list[tuple[str, Any]] = [
        ("files", {"file_id": "file-none"}),
        ("file_batches", {"file_ids": [file, "file-none"]}),
    ]
    for path, body in bodies:
        assert api.post(f"/vector_stores/{store}/{path}", body, 404)["error"]["message"] == missing
    assert api.get(f"/vector_stores/{store}")["file_counts"]["total"] == 0
    unknown = "No vector store found with id 'vs_none'."
    resources = {"file_search": {"vector_store_ids": ["vs_none"]}}
    for path in ("/threads", "/assistants"):
        error = api.post(
            path, {"model": "m", "tool_resources": resources} if "ass" in path else {"tool_resources": resources}, 404
        )["error"]
        assert error["message"] == unknown
    assert api.post("/vector_stores/vs_none/files", {"file_id": file}, 404)["error"]["message"] == unknown


EQUAL = {"type": "eq", "key": "k"}


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("", {"file_ids": ["f"] * 501}, "file_ids", "array_above_max_length"),
        ("", {"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor", "invalid_value"),
        ("", {"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days", None),
        ("", {"chunking_strategy": {"type": "static"}}, "chunking_strategy.static", "missing_required_parameter"),
        ("/files", {}, "file_id", "missing_required_parameter"),
        ("/files", {"file_id": "f", "attributes": {"a": {}}}, "attributes.a", "invalid_type"),
        ("/files", {"file_id": "f", "attributes": {"a": None}}, "attributes.a", "invalid_type"),
        ("/files", {"file_id": "f", "attributes": {"a": "x" * 513}}, "attributes.a", "string_above_max_length"),
        ("/files", {"file_id": "f", "attributes": {str(n): 1 for n in range(17)}}, "attributes", None),
        ("/file_batches", {}, None, "invalid_value"),
        ("/file_batches", {"file_ids": ["f"], "files": [{"file_id": "f"}]}, None, "invalid_value"),
        ("/file_batches", {"file_ids": []}, "file_ids", "empty_array"),
        ("/search", {}, "query", "missing_required_parameter"),
        ("/search", {"query": "x", "max_num_results": 51}, "max_num_results", "integer_above_max_value"),
        ("/search", {"query": "x", "filters": {"type": "near"}}, "filters.type", "invalid_value"),
        ("/search", {"query": "x", "filters": EQUAL | {"value": None}}, "filters.value", "invalid_type"),
        (
            "/search",
            {"query": "x", "filters": {**EQUAL, "type": "in", "value": [{}]}},
            "filters.value[0]",
            "invalid_type",
        ),
        ("/search", {"query": ["x", 1]}, "query[1]", "invalid_type"),
    ],
)
def test_an_invalid_request_is_a_400_with_its_position(
    api: ApiClient, path: str, body: Any, param: str | None, code: str | None
) -> None:
    where = f"/vector_stores/{made(api)}{path}" if path else "/vector_stores"
    error = api.post(where, body, 400)["error"]
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param
    assert code is None or error["code"] == code


@pytest.fixture
def ann_and_bob(keyed: ServerProcess) -> Iterator[tuple[ApiClient, ApiClient]]:
    with client_of(keyed, "key-ann") as ann, client_of(keyed, "key-bob") as bob:
        yield ApiClient(ann), ApiClient(bob)


def test_owners_cannot_see_each_other_s_stores(ann_and_bob: tuple[ApiClient, ApiClient]) -> None:
    ann, bob = ann_and_bob
    file = ann.file()
    store = made(ann, file)
    batch = ann.post(f"/vector_stores/{store}/file_batches", {"file_ids": [file]})["id"]
    ann.wait_processed(f"/vector_stores/{store}/file_batches/{batch}")
    at = f"/vector_stores/{store}"
    assert store not in [other["id"] for other in bob.get("/vector_stores?limit=100")["data"]]
    for path in (
        "",
        "/files",
        f"/files/{file}",
        f"/files/{file}/content",
        f"/file_batches/{batch}",
        f"/file_batches/{batch}/files",
    ):
        assert bob.get(at + path, 404)["error"]["message"] == f"No vector store found with id '{store}'."
    for path, body in (
        ("", {"name": "x"}),
        ("/files", {"file_id": file}),
        ("/search", {"query": "x"}),
        (f"/files/{file}", {"attributes": {}}),
        ("/file_batches", {"file_ids": [file]}),
        (f"/file_batches/{batch}/cancel", {}),
    ):
        bob.post(at + path, body, 404)
    bob.delete(at, 404)
    bob.delete(f"{at}/files/{file}", 404)
    assert bob.post("/vector_stores", {"file_ids": [file]}, 404)["error"]["param"] == "id"
    mine = made(bob)
    bob.post(f"/vector_stores/{mine}/files", {"file_id": file}, 404)
    assert found(bob, mine) == []
    assert found(ann, store)
