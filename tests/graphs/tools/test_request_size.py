"""The size of an action's request is a product of two lengths, so each of its parts has a limit."""

import json
from typing import Any

import pytest

from graphs.tools.action_caller import ActionCaller
from graphs.tools.arguments import BadArguments, read_arguments
from graphs.tools.http_requests import MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_URL_BYTES, build_request
from graphs.tools.operations import Operation
from graphs.tools.urls import MAX_URL_CHARS
from tests.graphs.tools.apis import Api, document, operation
from wire.errors import InvalidRequest

LONG = "q" * 9_000
MANY = [1] * 9_000
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


def _parameter(location: str, *, name: str = LONG, path: str = "/x", **more: Any) -> Operation:
    field = {"name": name, "in": location, "required": True, "schema": {}, **more}
    return operation(document("https://api.test", {path: {"get": {"parameters": [field]}}}))


def _body(media_type: str, encoding: dict[str, Any] | None = None) -> Operation:
    media: dict[str, Any] = {"schema": {"type": "object", "properties": {LONG: {}}}}
    media |= {"encoding": {LONG: encoding}} if encoding else {}
    body = {"requestBody": {"content": {media_type: media}}}
    return operation(document("https://api.test", {"/x": {"post": body}}))


URL, HEADER, BODY = (
    f"{part} has more than {maximum} bytes"
    for part, maximum in (("URL", MAX_URL_BYTES), ("header", MAX_HEADER_BYTES), ("body", MAX_BODY_BYTES))
)


@pytest.mark.parametrize(
    ("called", "value", "result"),
    [
        (_parameter("path", name="a", path="/" + "{a}" * 5_000), "v" * 5_000, URL),
        (_parameter("path", path=f"/{{{LONG}}}", style="matrix", explode=True), MANY, URL),
        (_parameter("path", name="a", path="/{a}"), "é" * 20_000, URL),
        (_parameter("query"), MANY, URL),
        (_parameter("query", name="é" * 5_000), MANY, URL),
        (_parameter("query", style="pipeDelimited", explode=True), MANY, URL),
        (_parameter("query", name="q", style="spaceDelimited", explode=False), MANY * 3, URL),
        (_parameter("query", style="deepObject"), {"k": MANY}, URL),
        (_parameter("query", style="deepObject"), {"k": [[]] * 9_000}, URL),
        (_parameter("query", name="q"), {"k" * 40_000: 1, "l" * 40_000: 1}, URL),
        (_parameter("header", name="h"), ["v" * 100] * 1_000, HEADER),
        (_parameter("cookie"), MANY, HEADER),
        (_body(FORM), MANY, BODY),
        (_body(FORM, {"style": "deepObject"}), {"k": {str(number): 1 for number in range(9_000)}}, BODY),
        (_body(MULTIPART), MANY, BODY),
        (_body(MULTIPART, {"contentType": "text/" + "t" * 9_000}), MANY, BODY),
        (_body("application/json"), ["é" * 1_000_000] * 3, BODY),
    ],
    ids=[
        *("path named often", "path matrix", "path encoded", "query", "query encoded", "query pipes", "query spaces"),
        *("deep object", "deep object of nothing", "query object", "header", "cookie"),
        *("form", "form deep object", "multipart", "multipart media type", "json"),
    ],
)
def test_a_request_over_its_limit_is_refused_by_name(called: Operation, value: Any, result: str) -> None:
    argument = next(iter(called.parameters["properties"]))
    with pytest.raises(BadArguments, match=result):
        build_request(called, {argument: value})


def test_all_parameters_share_one_limit() -> None:
    fields = [{"name": f"q{number}", "in": "query", "schema": {}} for number in range(8)]
    called = operation(document("https://api.test", {"/x": {"get": {"parameters": fields}}}))
    with pytest.raises(BadArguments, match=URL):
        build_request(called, {field["name"]: "v" * 9_000 for field in fields})


async def test_a_large_request_within_the_limits_arrives_complete() -> None:
    with Api() as api:
        called = operation(
            document(
                api.url, {"/x": {"post": {"requestBody": {"content": {MULTIPART: {"schema": {
                    "type": "object", "properties": {"files": {"type": "array", "items": {}}}}}}}}}}
            )
        )  # fmt: skip
        caller = ActionCaller(allow_hosts=["127.0.0.1"])
        sent = [f"part {number}" for number in range(10_000)]
        result = await caller.call(called, json.dumps({"files": sent}), call_id="call_1")
        await caller.close()
        assert result == '{"ok":true}'
        (seen,) = api.seen
        assert seen.body.count(b'name="files"') == len(sent)
        assert b"part 9999\r\n" in seen.body


async def test_a_refused_request_is_never_sent_and_names_its_limit() -> None:
    with Api() as api:
        schema = {"type": "array", "items": {"type": "integer"}, "default": MANY}
        field = {"name": LONG, "in": "query", "required": True, "schema": schema}
        called = operation(document(api.url, {"/x": {"get": {"parameters": [field]}}}))
        caller = ActionCaller(allow_hosts=["127.0.0.1"])
        result = await caller.call(called, "{}", call_id="call_1")
        await caller.close()
        assert URL in result
        assert not api.seen


async def test_arguments_of_too_many_values_are_refused_unchecked() -> None:
    field = {"name": "q", "in": "query", "schema": {"type": "array", "items": {}}}
    called = operation(document("https://api.test", {"/x": {"get": {"parameters": [field]}}}))
    with pytest.raises(BadArguments, match="more than 40000 values"):
        await read_arguments(called, json.dumps({"q": [1] * 40_000}))
    values, _ = await read_arguments(called, json.dumps({"q": [1] * 39_000}))
    assert len(values["q"]) == 39_000


async def test_a_key_that_makes_the_url_too_long_is_refused() -> None:
    with Api() as api:
        auth = {"type": "api_key", "in": "query", "name": "key", "value": "é" * 8_000}
        field = {"name": "q", "in": "query", "schema": {"type": "string"}}
        called = operation(document(api.url, {"/x": {"get": {"parameters": [field]}}}), auth=auth)
        caller = ActionCaller(allow_hosts=["127.0.0.1"])
        result = await caller.call(called, json.dumps({"q": "v" * 60_000}), call_id="call_1")
        await caller.close()
        assert f"at most {MAX_URL_BYTES} are allowed" in result
        assert not api.seen


def test_a_server_s_variables_make_no_url_beyond_its_limit() -> None:
    spec = document("https://api.test", {"/x": {"get": {}}})
    spec["servers"] = [{"url": "https://api.test/" + "{v}" * 5_000, "variables": {"v": {"default": "v" * 5_000}}}]
    with pytest.raises(InvalidRequest, match=f"more than {MAX_URL_CHARS} characters"):
        operation(spec)


def test_an_error_in_arguments_has_a_short_message() -> None:
    assert len(str(BadArguments("x" * 1_000_000))) == 4_000
