"""Threads over HTTP."""

from tests.api.conftest import ApiClient
from tests.objects import check
from wire.threads import Thread


def test_a_thread_starts_with_its_messages_in_order(api: ApiClient) -> None:
    id = api.thread("one", "two")
    listed = api.get(f"/threads/{id}/messages", params={"order": "asc"})
    assert [one["content"][0]["text"]["value"] for one in listed["data"]] == ["one", "two"]


def test_an_empty_body_of_any_type_makes_a_thread(api: ApiClient) -> None:
    for headers in ({}, {"content-type": "application/json"}, {"content-type": "text/plain"}):
        made = api.client.post("/threads", headers=headers)
        assert made.status_code == 200
        check(Thread, made.json())
        assert made.json()["metadata"] == {}


def test_metadata_is_replaced_and_the_rest_stays(api: ApiClient) -> None:
    id = api.post("/threads", {"metadata": {"a": "1"}})["id"]
    assert api.post(f"/threads/{id}", {"metadata": {"title": "T"}})["metadata"] == {"title": "T"}
    assert api.post(f"/threads/{id}", {})["metadata"] == {"title": "T"}


def test_threads_are_listed_newest_first(api: ApiClient) -> None:
    made = [api.thread() for _ in range(3)]
    listed = api.get("/threads", params={"limit": 3})
    assert [one["id"] for one in listed["data"]] == made[::-1]
    assert all("metadata" in one for one in listed["data"])


def test_deleting_a_thread_deletes_its_contents(api: ApiClient) -> None:
    run = api.wait_ended(api.run())
    thread = run["thread_id"]
    assert api.delete(f"/threads/{thread}") == {"id": thread, "object": "thread.deleted", "deleted": True}
    for path in (
        "",
        "/messages",
        "/runs",
        f"/runs/{run['id']}",
        f"/runs/{run['id']}/steps",
        f"/runs/{run['id']}/events",
    ):
        assert api.get(f"/threads/{thread}{path}", 404)["error"]["message"] == f"No thread found with id '{thread}'."
