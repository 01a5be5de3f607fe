"""Files of threads, messages and assistants: vector stores are created on demand; and v1's file routes."""

from typing import Any

import pytest

from tests.api.conftest import ApiClient

V1 = {"OpenAI-Beta": "assistants=v1"}
SEARCH = [{"type": "file_search"}]
CODE = [{"type": "code_interpreter"}]


def store_of(holder: Any) -> str:
    (store,) = holder["tool_resources"]["file_search"]["vector_store_ids"]
    assert isinstance(store, str)
    return store


def files_in(api: ApiClient, store: str) -> set[str]:
    api.wait_processed(f"/vector_stores/{store}")
    return {one["id"] for one in api.get(f"/vector_stores/{store}/files")["data"]}


def user(file: str, tools: Any = SEARCH) -> dict[str, Any]:
    return {"role": "user", "content": "x", "attachments": [{"file_id": file, "tools": tools}]}


def test_attachments_create_and_extend_the_thread_s_store(api: ApiClient) -> None:
    first, second, thread = api.file(), api.file("Dogs bark."), api.thread()
    assert api.get(f"/threads/{thread}")["tool_resources"] == {}
    message = api.post(f"/threads/{thread}/messages", user(first))
    assert message["attachments"] == [{"file_id": first, "tools": SEARCH}]
    store = store_of(api.get(f"/threads/{thread}"))
    body = api.get(f"/vector_stores/{store}")
    assert body["expires_after"] == {"anchor": "last_active_at", "days": 7}
    api.post(f"/threads/{thread}/messages", user(second))
    api.post(f"/threads/{thread}/messages", user(first))
    assert store_of(api.get(f"/threads/{thread}")) == store
    assert files_in(api, store) == {first, second}


def test_attachments_of_new_threads_and_runs_are_indexed(api: ApiClient) -> None:
    files = [api.file(f"Cat {number}.") for number in range(4)]
    thread = api.post("/threads", {"messages": [user(files[0]), user(files[1])]})
    store = store_of(thread)
    assert store_of(api.get(f"/threads/{thread['id']}")) == store
    assistant = api.assistant()
    run = api.post(
        f"/threads/{thread['id']}/runs", {"assistant_id": assistant, "additional_messages": [user(files[2])]}
    )
    api.wait_ended(run)
    assert files_in(api, store) == set(files[:3])
    run = api.post("/threads/runs", {"assistant_id": assistant, "thread": {"messages": [user(files[3])]}})
    api.wait_ended(run)
    assert files_in(api, store_of(api.get(f"/threads/{run['thread_id']}"))) == {files[3]}


def test_attachments_go_into_the_thread_s_existing_store(api: ApiClient) -> None:
    file, other = api.file(), api.file("Dogs bark.")
    store = api.post("/vector_stores", {})["id"]
    thread = api.post("/threads", {"tool_resources": {"file_search": {"vector_store_ids": [store]}}})
    api.post(f"/threads/{thread['id']}/messages", user(file))
    assert files_in(api, store) == {file}
    helped = {"file_search": {"vector_stores": [{"file_ids": [file], "metadata": {"a": "b"}}]}}
    thread = api.post("/threads", {"tool_resources": helped, "messages": [user(file), user(other)]})
    assert files_in(api, store_of(thread)) == {file, other}
    assert api.get(f"/vector_stores/{store_of(thread)}")["metadata"] == {"a": "b"}


def test_attachments_for_code_are_listed(api: ApiClient) -> None:
    file, thread = api.file(), api.thread()
    api.post(f"/threads/{thread}/messages", user(file, CODE))
    api.post(f"/threads/{thread}/messages", user(file, CODE))
    assert api.get(f"/threads/{thread}")["tool_resources"] == {"code_interpreter": {"file_ids": [file]}}


def test_an_unknown_attachment_or_image_refuses_the_message(api: ApiClient) -> None:
    thread, file = api.thread(), api.file()
    image = [{"type": "image_file", "image_file": {"file_id": "file-none"}}]
    for body in (user("file-none"), user("file-none", CODE), {"role": "user", "content": image}):
        error = api.post(f"/threads/{thread}/messages", body, 404)["error"]
        assert error["message"] == "No such File object: file-none"
    api.post("/threads", {"messages": [user(file), user("file-none")]}, 404)
    run = {"assistant_id": api.assistant(), "additional_messages": [user("file-none")]}
    api.post(f"/threads/{thread}/runs", run, 404)
    assert api.get(f"/threads/{thread}/messages")["data"] == []
    assert api.get(f"/threads/{thread}")["tool_resources"] == {}


@pytest.mark.parametrize("path", ["/assistants", "/threads"])
def test_vector_stores_in_tool_resources_are_created(api: ApiClient, path: str) -> None:
    file = api.file()
    strategy = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}}
    helper = {"file_search": {"vector_stores": [{"file_ids": [file], "chunking_strategy": strategy}]}}
    model = {"model": "m"} if path == "/assistants" else {}
    holder = api.post(path, {**model, "tool_resources": helper})
    store = store_of(holder)
    assert files_in(api, store) == {file}
    assert api.get(f"/vector_stores/{store}/files/{file}")["chunking_strategy"] == strategy
    assert api.get(f"{path}/{holder['id']}") == holder
    both = {"file_search": {"vector_stores": [{}], "vector_store_ids": [store]}}
    assert "not both" in api.post(path, {**model, "tool_resources": both}, 400)["error"]["message"]


def test_a_v1_assistant_s_files_are_searched_listed_and_removed(api: ApiClient) -> None:
    files = [api.file(f"Cat {number}.") for number in range(3)]
    tools = [{"type": "retrieval"}]
    assistant = api.post("/assistants", {"model": "m", "tools": tools, "file_ids": files[:2]}, headers=V1)
    path = f"/assistants/{assistant['id']}"
    store = store_of(api.get(path))
    assert files_in(api, store) == set(files[:2])
    added = api.post(f"{path}/files", {"file_id": files[2]}, headers=V1)
    assert (added["id"], added["object"], added["assistant_id"]) == (files[2], "assistant.file", assistant["id"])
    assert api.get(path, headers=V1)["file_ids"] == files
    assert files_in(api, store) == set(files)
    listed = api.get(f"{path}/files", params={"order": "asc", "limit": 2})
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == (files[:2], True)
    assert api.get(f"{path}/files", params={"order": "asc", "after": files[1]})["data"] == [added]
    assert api.get(f"{path}/files", params={"order": "asc", "after": files[2]})["data"] == []
    assert api.get(f"{path}/files/{files[2]}") == added
    gone = api.delete(f"{path}/files/{files[0]}")
    assert gone == {"id": files[0], "object": "assistant.file.deleted", "deleted": True}
    assert files_in(api, store) == set(files[1:])
    api.get(f"{path}/files/{files[0]}", 404)
    changed = api.post(path, {"file_ids": files[:1]}, headers=V1)
    assert changed["file_ids"] == files[:1]
    changed_store = store_of(api.get(path))
    assert files_in(api, changed_store) == {files[0]}
    api.get(f"/vector_stores/{store}", 404)
    api.delete(path)
    api.get(f"/vector_stores/{changed_store}", 404)


def test_v1_files_of_an_assistant_without_retrieval_are_for_code(api: ApiClient) -> None:
    file, other = api.file(), api.file()
    assistant = api.post("/assistants", {"model": "m", "file_ids": [file]}, headers=V1)
    path = f"/assistants/{assistant['id']}"
    assert api.get(path)["tool_resources"] == {"code_interpreter": {"file_ids": [file]}}
    api.post(f"{path}/files", {"file_id": other})
    assert api.get(path)["tool_resources"] == {"code_interpreter": {"file_ids": [file, other]}}
    api.delete(f"{path}/files/{file}")
    assert api.get(path, headers=V1)["file_ids"] == [other]
    api.post(f"{path}/files", {"file_id": "file-none"}, 404)


def test_v1_lists_a_message_s_files(api: ApiClient) -> None:
    file, thread = api.file(), api.thread()
    message = api.post(f"/threads/{thread}/messages", {"role": "user", "content": "x", "file_ids": [file]}, headers=V1)
    path = f"/threads/{thread}/messages/{message['id']}/files"
    expected = {"id": file, "object": "thread.message.file", "created_at": message["created_at"]}
    expected["message_id"] = message["id"]
    assert api.get(path)["data"] == [expected]
    assert api.get(f"{path}/{file}") == expected
    api.get(f"{path}/file-other", 404)
    assert files_in(api, store_of(api.get(f"/threads/{thread}"))) == {file}


def test_a_header_names_tools_that_the_model_does_not_get(api: ApiClient) -> None:
    made = api.client.post("/assistants", json={"model": "m", "tools": [*CODE, {"type": "file_search"}]})
    thread = api.thread("Hi")
    for stream in (False, True):
        body = {"assistant_id": made.json()["id"], "stream": stream}
        with api.client.stream("POST", f"/threads/{thread}/runs", json=body) as run:
            assert run.headers["x-threadhold-not-offered"] == "code_interpreter"
            run.read()
        thread = api.thread("Hi")
    assert made.headers["x-threadhold-not-offered"] == "code_interpreter"
    assert "x-threadhold-not-offered" not in api.client.post("/assistants", json={"model": "m"}).headers


IDS = [f"file-{number}" for number in range(2_000)]


def attached(ids: list[str], tools: list[dict[str, str]]) -> dict[str, Any]:
    """Return a body of messages with up to 500 attachments each."""
    attachments = [{"file_id": id, "tools": tools} for id in ids]
    blocks = [attachments[start : start + 500] for start in range(0, len(ids), 500)]
    return {"messages": [{"role": "user", "content": "a", "attachments": block} for block in blocks]}


def made_of(ids: list[str]) -> dict[str, Any]:
    return {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ids}]}}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", attached(IDS, SEARCH)),
        ("/threads", attached(IDS, CODE)),
        ("/threads", made_of(IDS)),
        ("/assistants", {"model": "m", **made_of(IDS)}),
        ("/vector_stores/{store}/file_batches", {"file_ids": IDS}),
    ],
    ids=["file_search", "code_interpreter", "thread's store", "assistant's store", "batch"],
)
def test_the_first_missing_file_of_many_is_named(api: ApiClient, path: str, body: dict[str, Any]) -> None:
    path = path.format(store=api.post("/vector_stores", {})["id"])
    error = api.post(path, body, 404)["error"]
    assert error["message"] == "No such File object: file-0"


def test_many_attached_files_are_each_searched_once(api: ApiClient) -> None:
    ids = [api.file() for _ in range(70)]
    thread = api.post("/threads", attached([*ids, *ids], SEARCH))
    (store,) = thread["tool_resources"]["file_search"]["vector_store_ids"]
    assert api.get(f"/vector_stores/{store}")["file_counts"]["total"] == 70
    api.post(f"/threads/{thread['id']}/messages", attached([*ids[:65], api.file()], SEARCH)["messages"][0])
    assert api.get(f"/vector_stores/{store}")["file_counts"]["total"] == 71
    made = api.post("/threads", made_of([*ids, *ids]))
    (store,) = made["tool_resources"]["file_search"]["vector_store_ids"]
    assert api.get(f"/vector_stores/{store}")["file_counts"]["total"] == 70
