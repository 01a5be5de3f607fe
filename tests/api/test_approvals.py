"""The requests that a run would send after approval: equal to the real ones, without their secrets."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.api.conftest import ApiClient
from tests.graphs.tools.apis import Api, document
from tests.process import ServerProcess
from tests.upstream import Reply, ScriptedUpstream

KEY = "secret-of-the-shop"


@pytest.fixture(scope="module")
def server(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose actions are allowed to call this machine."""
    folder = tmp_path_factory.mktemp("shop")
    with ServerProcess(folder, MODEL_URL=upstream.url, ACTIONS_ALLOW_HOSTS="127.0.0.1") as process:
        yield process


@pytest.fixture
def api(server: ServerProcess) -> Iterator[ApiClient]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield ApiClient(client)


def order_api(url: str, media_type: str, *, note: str = "") -> dict[str, Any]:
    """An action whose one operation has a path, a query, a header and a body; `note` is a parameter's default."""
    parameters = [
        {"name": "shop", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "rush", "in": "query", "schema": {"type": "boolean"}},
        {"name": "note", "in": "query", "required": bool(note), "schema": {"type": "string", "default": note}},
        {"name": "key", "in": "query", "schema": {"type": "string"}},
        {"name": "X-Count", "in": "header", "schema": {"type": "integer"}},
    ]
    schema = {"type": "object", "required": ["item"], "properties": {"item": {"type": "string"}}}
    body = {"required": True, "content": {media_type: {"schema": schema}}}
    spec = document(
        url, {"/shops/{shop}/orders": {"post": {"operationId": "order", "parameters": parameters, "requestBody": body}}}
    )
    auth = {"type": "api_key", "in": "query", "name": "key", "value": KEY}
    return {"type": "action", "data": {"openapi_spec": spec, "is_consequential": True, "auth": auth}}


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", '{"item":"tea & salt"}'),
        ("application/x-www-form-urlencoded", "item=tea+%26+salt"),
        ("multipart/form-data", "item: tea & salt"),
    ],
)
def test_an_approval_shows_the_request_that_is_sent(
    api: ApiClient, script: Callable[..., None], media_type: str, body: str
) -> None:
    with Api() as remote:
        given = {"shop": "a/b", "rush": True, "X-Count": 2, "item": "tea & salt"}
        script(Reply(tool_calls=[("order", given)]), Reply("Done."))
        run = api.wait_ended(api.run(tools=[order_api(remote.url, media_type)]))
        assert run["status"] == "requires_action"
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        (approval,) = api.get(f"{path}/approvals")["data"]
        (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        assert approval == {
            "object": "run.approval",
            "tool_call_id": call["id"],
            "name": "order",
            "method": "POST",
            "url": f"{remote.url}/shops/a%2Fb/orders?rush=true",
            "headers": {"X-Count": "2"} | ({} if "multipart" in media_type else {"Content-Type": media_type}),
            "body": body,
            "problem": None,
        }
        outputs = [{"tool_call_id": call["id"], "output": "approved"}]
        api.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        api.wait_ended(run)
        (seen,) = remote.seen
        assert seen.path == f"/shops/a%2Fb/orders?rush=true&key={KEY}"
        assert api.get(f"{path}/approvals")["data"] == []


def test_arguments_that_make_no_request_are_reported(api: ApiClient, script: Callable[..., None]) -> None:
    with Api() as remote:
        script(Reply(tool_calls=[("order", {"shop": "..", "item": "tea"})]), Reply("Done."))
        run = api.wait_ended(api.run(tools=[order_api(remote.url, "application/json")]))
        (approval,) = api.get(f"/threads/{run['thread_id']}/runs/{run['id']}/approvals")["data"]
        assert "path" in approval["problem"]
        assert (approval["method"], approval["body"]) == ("POST", "")


@pytest.mark.parametrize("name", ["shop", "note"])
def test_an_unpaired_surrogate_in_the_url_is_replaced(api: ApiClient, script: Callable[..., None], name: str) -> None:
    with Api() as remote:
        given = json.dumps({"shop": "a", "note": "b", "item": "tea"} | {name: "c\ud83d"})
        script(Reply(tool_calls=[("order", given)]), Reply("Done."))
        run = api.wait_ended(api.run(tools=[order_api(remote.url, "application/json")]))
        path = f"/threads/{run['thread_id']}/runs/{run['id']}"
        (approval,) = api.get(f"{path}/approvals")["data"]
        assert "c%EF%BF%BD" in approval["url"]
        outputs = [{"tool_call_id": approval["tool_call_id"], "output": "approved"}]
        api.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        assert api.wait_ended(run)["status"] == "completed"
        (seen,) = remote.seen
        assert "c%EF%BF%BD" in seen.path


def test_another_thread_s_run_has_no_approvals(api: ApiClient, script: Callable[..., None]) -> None:
    script(Reply("Hi."))
    run = api.wait_ended(api.run())
    other = api.thread("Hello")
    api.get(f"/threads/{other}/runs/{run['id']}/approvals", status=404)


def test_previews_share_one_size_limit(api: ApiClient, script: Callable[..., None]) -> None:
    long, short = {"shop": "a", "item": "é" * 3_000}, {"shop": "a", "item": "tea", "note": "b"}
    script(Reply(tool_calls=[("order", long)] * 127 + [("order", short)]))
    tool = order_api("http://api.test", "application/x-www-form-urlencoded", note="é" * 9_000)
    run = api.wait_ended(api.run(tools=[tool]))
    approvals = api.get(f"/threads/{run['thread_id']}/runs/{run['id']}/approvals")["data"]
    shown = [each for each in approvals if each["problem"] is None]
    assert 100 < len(shown) < 128
    assert shown == approvals[: len(shown)]
    assert sum(len(each["url"]) + len(each["body"]) for each in shown) < 8_388_608
    assert all("8388608 characters" in each["problem"] for each in approvals[len(shown) :])  # the short one too
