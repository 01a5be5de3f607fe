"""Assistants over HTTP."""

from typing import Any

import pytest

from tests.api.conftest import ApiClient
from tests.objects import check
from wire.assistants import Assistant

SPEC = {
    "openapi": "3.0.0",
    "info": {"title": "t", "version": "1"},
    "servers": [{"url": "https://api.example"}],
    "paths": {"/x": {"get": {"operationId": "getX", "responses": {"200": {"description": "ok"}}}}},
}


def action(**data: Any) -> dict[str, Any]:
    return {"type": "action", "data": {"openapi_spec": SPEC, **data}}


def test_an_assistant_has_every_field_and_is_read_unchanged(api: ApiClient) -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "string", "enum": ["a"]}}, "x-own": None}
    given = {
        "model": "gpt-4o",
        "name": "Tutor",
        "description": "d",
        "instructions": "Be brief.",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}, {"type": "file_search"}],
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    }
    made = api.post("/assistants", given)
    check(Assistant, made)
    assert {key: made[key] for key in given} == given
    assert made["id"].startswith("asst_")
    assert len(made["id"]) == len("asst_") + 24
    assert api.get(f"/assistants/{made['id']}") == made


def test_omitted_fields_get_their_defaults(api: ApiClient) -> None:
    made = api.post("/assistants", {"model": "m"})
    assert made["tools"] == []
    assert made["metadata"] == {}
    assert (made["temperature"], made["top_p"], made["response_format"]) == (1.0, 1.0, "auto")
    assert made["name"] is made["description"] is made["instructions"] is None


def test_modifying_changes_only_the_given_fields(api: ApiClient) -> None:
    id = api.assistant(name="A", instructions="I", metadata={"a": "1", "b": "2"})
    before = api.get(f"/assistants/{id}")
    after = api.post(f"/assistants/{id}", {"metadata": {"c": "3"}, "name": None})
    assert after == {**before, "metadata": {"c": "3"}, "name": None}


def test_a_deleted_assistant_is_not_found(api: ApiClient) -> None:
    id = api.assistant()
    assert api.delete(f"/assistants/{id}") == {"id": id, "object": "assistant.deleted", "deleted": True}
    for error in (api.get(f"/assistants/{id}", 404), api.delete(f"/assistants/{id}", 404)):
        assert error["error"]["message"] == f"No assistant found with id '{id}'."


def test_masked_secrets_of_an_action_survive_being_posted_back(api: ApiClient) -> None:
    tool = action(headers={"X-Key": "s3cret"}, auth={"type": "bearer", "token": "t0ken"})
    id = api.assistant(tools=[tool])
    read = api.get(f"/assistants/{id}")
    assert "s3cret" not in str(read)
    assert "t0ken" not in str(read)
    again = api.post(f"/assistants/{id}", {"tools": read["tools"], "name": "B"})
    assert again["tools"] == read["tools"]


@pytest.mark.parametrize(
    "spec",
    ["not: [yaml", "{}", "openapi: 3.0.0\ninfo: {title: t}\npaths: {}", 7],
    ids=["yaml", "empty", "short", "number"],
)
def test_an_invalid_document_is_a_400_with_its_position(api: ApiClient, spec: Any) -> None:
    error = api.post("/assistants", {"model": "m", "tools": [{"type": "action", "data": {"openapi_spec": spec}}]}, 400)
    assert error["error"]["param"] == "tools[0].data.openapi_spec"


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_cursors_list_every_assistant_once(api: ApiClient, order: str) -> None:
    made = [api.assistant(name=str(number)) for number in range(5)]
    wanted = made if order == "asc" else made[::-1]
    anchor = {"after": made[0]} if order == "asc" else {}
    first = api.get("/assistants", params={"limit": 2, "order": order, **anchor})
    assert first["has_more"] is True
    page = api.get("/assistants", params={"limit": 3, "order": order, "after": first["last_id"]})
    ids = [one["id"] for one in (*first["data"], *page["data"])]
    assert ids == (wanted[1:] if order == "asc" else wanted)[: len(ids)]
    back = api.get("/assistants", params={"limit": 1, "order": order, "before": page["first_id"]})
    assert back["data"][0]["id"] == first["last_id"]


def test_the_page_after_the_last_is_empty(api: ApiClient) -> None:
    made = api.assistant()
    page = api.get("/assistants", params={"order": "asc", "after": made})
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_a_cursor_outlives_its_object(api: ApiClient) -> None:
    made = [api.assistant() for _ in range(3)]
    api.delete(f"/assistants/{made[1]}")
    page = api.get("/assistants", params={"order": "asc", "after": made[1]})
    assert [one["id"] for one in page["data"]] == [made[2]]


def test_v1_clients_send_and_receive_file_ids(api: ApiClient) -> None:
    v1 = {"OpenAI-Beta": "assistants=v1"}
    file = api.file()
    made = api.post("/assistants", {"model": "m", "tools": [{"type": "retrieval"}], "file_ids": [file]}, headers=v1)
    assert made["file_ids"] == [file]
    assert made["tools"] == [{"type": "retrieval"}]
    as_v2 = api.get(f"/assistants/{made['id']}", headers={"OpenAI-Beta": "assistants=v2"})
    assert as_v2["tools"] == [{"type": "file_search"}]
    assert "file_ids" not in as_v2
    listed = api.get("/assistants", headers=v1, params={"limit": 1})
    assert listed["data"][0] == made
