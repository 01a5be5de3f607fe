"""The OpenAPI document agrees with the routes."""

import asyncio
import threading
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest

from api.app import Access, build_app
from tests.process import ServerProcess

METHODS = ("get", "post", "delete")


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = server.request("GET", "/openapi.json")
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item[method]["operationId"]: item[method] for item in document["paths"].values() for method in item}


def test_every_error_has_openai_s_shape_and_none_is_422(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for status, result in operation["responses"].items():
            assert status != "422", name
            if status != "200" and name != "ready":
                schema = result["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, (name, status)


def test_operations_that_write_list_507_for_a_full_disk(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            may_write = method != "get" and "200" in operation["responses"] and "503" in operation["responses"]
            assert ("507" in operation["responses"]) is may_write, path


def test_the_document_is_made_once_outside_the_event_loop() -> None:
    app: Any = build_app(nullcontext, access=Access(hosts=None), version="0")  # type: ignore[arg-type] # never entered
    make, makers = app.openapi, []

    def made() -> dict[str, Any]:
        makers.append(threading.current_thread())
        document: dict[str, Any] = make()
        return document

    app.openapi = made

    async def ask() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://a") as client:
            leaving = asyncio.ensure_future(client.get("/openapi.json"))
            while not makers:
                await asyncio.sleep(0)
            leaving.cancel()
            return await asyncio.gather(*(client.get("/openapi.json") for _ in range(3)))

    answers = asyncio.run(ask())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [maker is threading.main_thread() for maker in makers] == [False]


def test_every_link_leads_to_an_operation_with_all_path_parameters(document: dict[str, Any]) -> None:
    known = operations(document)
    seen = set()
    for maker in known.values():
        for link in maker["responses"]["200"].get("links", {}).values():
            parameters = known[link["operationId"]].get("parameters", ())
            wanted = {f"path.{one['name']}" for one in parameters if one["in"] == "path"}
            assert set(link.get("parameters", wanted)) == wanted
            seen.add(link["operationId"])
    with_ids = {name for name, one in known.items() if any(each["in"] == "path" for each in one.get("parameters", ()))}
    assert with_ids - seen == {"get_model", "get_message_file"}, (
        "models have no creating operation, and a message's file is a file"
    )


def test_a_refused_method_gets_all_allowed_methods(server: ServerProcess, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        if path == "/v1/threads/runs":  # of another method it is `/threads/{thread_id}`
            continue
        answer = httpx2.request("PATCH", server.url + path.format_map(Ids()), json={})
        assert answer.status_code == 405
        result = set(answer.headers["allow"].lower().split(", ")) - {"head"}
        assert result == set(item), path
        assert set(item) <= set(METHODS)


class Ids(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name
