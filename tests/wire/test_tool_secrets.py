import copy
from typing import Any

import pytest

from wire.errors import InvalidRequest
from wire.tool_secrets import MASK, drop_masked, mask_tools, restore_secrets


def action(spec: str = "doc", **data: Any) -> dict[str, Any]:
    return {"type": "action", "data": {"openapi_spec": spec, **data}}


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f"}},
    action("a", headers={"X-Key": "secret-1"}, auth={"type": "bearer", "token": "secret-2"}),
    action("b", auth={"type": "basic", "username": "ann", "password": "secret-3"}),
    action("b", auth={"type": "api_key", "in": "query", "name": "key", "value": "secret-4"}),
    action("c", is_consequential=True),
]


def test_masking_leaves_no_secret_and_keeps_the_input() -> None:
    before = copy.deepcopy(TOOLS)
    masked = mask_tools(TOOLS)
    assert before == TOOLS
    assert "secret" not in str(masked)
    assert masked[2]["data"]["auth"] == {"type": "basic", "username": "ann", "password": MASK}
    assert masked[4] == TOOLS[4]


def test_posting_masked_values_keeps_the_stored_secrets() -> None:
    assert restore_secrets(mask_tools(TOOLS), TOOLS) == TOOLS


def test_secrets_stay_with_their_document_when_the_order_changes() -> None:
    masked = mask_tools(TOOLS)
    assert restore_secrets([masked[2], masked[1]], TOOLS) == [TOOLS[2], TOOLS[1]]


def origins(tool: dict[str, Any]) -> frozenset[str]:
    """Return the origins of a document, which is a list of them in these tests."""
    data = tool["data"]
    return frozenset(data["openapi_spec"].split()) | {data.get("base_url") or "https://one.example"}


@pytest.mark.parametrize(
    "changed",
    [{"openapi_spec": "https://two.example"}, {"openapi_spec": "https://one.example"}, {"openapi_spec": ""}],
    ids=["other document", "fewer origins", "none of its own"],
)
def test_a_secret_is_kept_while_the_origins_are(changed: dict[str, Any]) -> None:
    stored = [action("https://one.example https://two.example", headers={"X-Key": "secret", "X-Two": "other"})]
    posted = [action(headers={"x-key": MASK, "X-Two": "changed"})]
    posted[0]["data"] |= changed
    (restored,) = restore_secrets(posted, stored, origins=origins)
    assert restored["data"] == {**changed, "headers": {"x-key": "secret", "X-Two": "changed"}}


SECRETS: list[dict[str, Any]] = [
    {"headers": {"X-Key": "secret"}},
    {"auth": {"type": "bearer", "token": "secret"}},
    {"auth": {"type": "basic", "username": "ann", "password": "secret"}},
    {"auth": {"type": "api_key", "in": "query", "name": "key", "value": "secret"}},
]


@pytest.mark.parametrize("secret", SECRETS, ids=["header", "bearer", "basic", "key"])
@pytest.mark.parametrize(
    "moved",
    [{"openapi_spec": "https://evil.example"}, {"base_url": "https://evil.example"}],
    ids=["document", "base url"],
)
def test_a_secret_does_not_follow_an_action_to_another_origin(secret: dict[str, Any], moved: dict[str, Any]) -> None:
    stored = [action("https://one.example", **secret)]
    (posted,) = mask_tools(stored)
    posted = {**posted, "data": {**posted["data"], **moved}}
    for known in (origins, None):
        with pytest.raises(InvalidRequest, match="calls another address now"):
            restore_secrets([posted], stored, origins=known)


@pytest.mark.parametrize("change", [{"in": "header"}, {"name": "echo"}, {"type": "bearer"}], ids=str)
def test_a_secret_does_not_move_to_another_field(change: dict[str, Any]) -> None:
    stored = [action("a", auth={"type": "api_key", "in": "query", "name": "key", "value": "secret"})]
    posted = [action("a", auth={"type": "api_key", "in": "query", "name": "key", "value": MASK, **change})]
    with pytest.raises(InvalidRequest, match="no stored value"):
        restore_secrets(posted, stored, origins=origins)


@pytest.mark.parametrize(
    ("posted", "param"),
    [
        (action("a", headers={"X-Other": MASK}), "tools[0].data.headers.X-Other"),
        (action("a", auth={"type": "basic", "username": "u", "password": MASK}), "tools[0].data.auth.password"),
    ],
)
def test_a_mask_without_a_stored_value_is_refused(posted: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restore_secrets([posted], TOOLS[1:2])
    assert caught.value.param == param
    with pytest.raises(InvalidRequest):
        restore_secrets([posted], [])


def test_masked_values_are_dropped_and_listed() -> None:
    masked = [*mask_tools(TOOLS), {"type": "action"}, action("d", headers={"X-Key": MASK, "X-Open": "mine"}, auth=None)]
    before = copy.deepcopy(masked)
    bare, lacking = drop_masked(masked)
    assert masked == before
    assert lacking == {
        1: ["headers.X-Key", "auth.token"],
        2: ["auth.password"],
        3: ["auth.value"],
        6: ["headers.X-Key"],
    }
    assert bare == [
        TOOLS[0],
        action("a", headers={}),
        action("b"),
        action("b"),
        TOOLS[4],
        {"type": "action"},
        action("d", headers={"X-Open": "mine"}, auth=None),
    ]
