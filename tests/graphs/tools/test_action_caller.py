import asyncio
import contextlib
import gzip
import json
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from graphs.tools import build_toolset
from graphs.tools.action import operations_of
from graphs.tools.action_caller import ActionCaller
from graphs.tools.network import Resolve, look_up
from tests.graphs.tools.apis import AUTHORITY, Answer, Api, Seen, document, operation, simple

LOCAL = ("127.0.0.1",)


def slow(_: Seen) -> Answer:
    time.sleep(0.3)
    return Answer()


@contextlib.asynccontextmanager
async def caller(
    *,
    allow_hosts: tuple[str, ...] = LOCAL,
    timeout_s: float = 5,
    max_bytes: int = 10_000,
    resolve: Resolve = look_up,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ActionCaller]:
    made = ActionCaller(allow_hosts=allow_hosts, timeout_s=timeout_s, max_bytes=max_bytes, resolve=resolve, tls=tls)
    try:
        yield made
    finally:
        await made.close()


WIKIPEDIA = Path(__file__).with_name("wikipedia.yaml").read_text()  # as in the Action walkthrough


async def test_the_wikipedia_action_uses_defaults_for_omitted_arguments() -> None:
    with Api() as api:
        getting = operation(WIKIPEDIA.replace("https://en.wikipedia.org", api.url))
        assert getting.name == "getRandomPages"
        assert "required" not in getting.parameters
        async with caller() as actions:
            assert await actions.call(getting, '{"rnlimit": 2}', call_id="call_1") == '{"ok":true}'
            assert await actions.call(getting, "", call_id="call_2") == '{"ok":true}'
    first, second = (urlsplit(seen.path) for seen in api.seen)
    assert first.path == "/w/api.php"
    assert dict(parse_qsl(first.query)) == {"action": "query", "format": "json", "list": "random", "rnlimit": "2"}
    assert dict(parse_qsl(second.query)) == {"action": "query", "format": "json", "list": "random"}
    assert api.seen[0].headers["Idempotency-Key"] == "call_1"


@pytest.mark.parametrize("method", ["get", "put", "post", "delete", "options", "patch", "trace", "head"])
async def test_every_method_is_sent(method: str) -> None:
    with Api() as api:
        async with caller() as actions:
            text = await actions.call(simple(api.url, method), "{}", call_id="c")
    assert api.seen[0].method == method.upper()
    assert text == ("(HTTP 200, no content)" if method == "head" else '{"ok":true}')


async def test_values_are_sent_in_path_query_header_cookie_and_body() -> None:
    spec = document(
        "{scheme}://{host}",
        {
            "/pets/{id}/{kind}": {
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "kind", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}, "description": "path's"},
                ],
                "post": {
                    "parameters": [
                        {"name": "id", "in": "query", "schema": {"type": "array", "items": {"type": "integer"}}},
                        {"name": "filter", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                        {"name": "tags", "in": "query", "explode": False, "schema": {"type": "array"}},
                        {"name": "X-Trace", "in": "header", "schema": {"type": "integer"}, "description": "own"},
                        {"name": "theme", "in": "cookie", "schema": {"type": "string"}},
                        {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                    },
                },
            }
        },
        components={
            "schemas": {
                "Pet": {
                    "type": "object",
                    "required": ["id", "kind", "size"],
                    "properties": {
                        "id": {"type": "string", "nullable": True},
                        "size": {"type": "integer", "default": 3},
                        "kind": {"type": "string"},
                        "seen": {"type": "string", "readOnly": True},
                    },
                }
            }
        },
    )
    with Api() as api:
        variables = {"scheme": {"default": "http"}, "host": {"default": f"127.0.0.1:{api.port}"}}
        spec["servers"][0]["variables"] = variables
        posting = operation(spec)
        assert list(posting.parameters["properties"]) == [
            *("id", "kind", "query_id", "filter", "tags", "X-Trace", "theme", "body_id", "size", "body_kind")
        ]
        assert posting.parameters["required"] == ["id", "kind", "body_id", "body_kind"]
        assert posting.parameters["properties"]["X-Trace"]["description"] == "own"
        arguments = {
            "id": "a/b?c#d é",
            "kind": "{id}",
            "query_id": [1, 2],
            "filter": {"a": "1&x=2", "b": {"c": True}},
            "tags": ["x", "y z"],
            "X-Trace": 7,
            "theme": "dark; admin=1",
            "body_id": None,
            "body_kind": "cat",
            "nonsense": 1,
        }
        async with caller() as actions:
            text = await actions.call(posting, json.dumps(arguments), call_id="c")
    seen = api.seen[0]
    url = urlsplit(seen.path)
    assert url.path == "/pets/a%2Fb%3Fc%23d%20%C3%A9/%7Bid%7D"
    assert parse_qsl(url.query) == [
        *[("id", "1"), ("id", "2"), ("filter[a]", "1&x=2"), ("filter[b][c]", "true"), ("tags", "x,y z")]
    ]
    assert seen.headers["X-Trace"] == "7"
    assert seen.headers["Cookie"] == "theme=dark%3B%20admin%3D1"
    assert "Authorization" not in seen.headers
    assert json.loads(seen.body) == {"id": None, "size": 3, "kind": "cat"}
    assert seen.headers["Content-Type"] == "application/json"
    assert "nonsense" in text


@pytest.mark.parametrize(
    ("media_type", "schema", "arguments", "expected"),
    [
        (
            "application/x-www-form-urlencoded",
            {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}},
            {"a": [1, 2], "b": "x & y"},
            b"a=1&a=2&b=x+%26+y",
        ),
        ("text/plain", {"type": "string"}, {"body": "hé"}, "hé".encode()),
        ("application/merge-patch+json", {"type": "array", "items": {"type": "integer"}}, {"body": [1]}, b"[1]"),
        (
            "application/json",
            {"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}},
            {"a": "1", "other": "2"},
            b'{"a":"1","other":"2"}',
        ),
    ],
    ids=["form", "text", "json list", "free-form object"],
)
async def test_bodies_are_encoded_in_their_media_type(
    media_type: str, schema: dict[str, object], arguments: dict[str, object], expected: bytes
) -> None:
    with Api() as api:
        body = {"requestBody": {"content": {media_type: {"schema": schema}}}}
        async with caller() as actions:
            await actions.call(operation(document(api.url, {"/x": {"post": body}})), json.dumps(arguments), call_id="c")
    assert api.seen[0].body == expected
    assert api.seen[0].headers["Content-Type"] == media_type


async def test_multipart_text_fields_are_parts() -> None:
    schema = {"type": "object", "properties": {"note": {"type": "string"}, "meta": {"type": "object"}}}
    with Api() as api:
        body = {"requestBody": {"content": {"multipart/form-data": {"schema": schema}}}}
        async with caller() as actions:
            arguments = '{"note": "a\\r\\n--x", "meta": {"k": 1}}'
            await actions.call(operation(document(api.url, {"/x": {"post": body}})), arguments, call_id="c")
    seen = api.seen[0]
    assert seen.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="note"\r\n\r\na\r\n--x\r\n' in seen.body
    assert b'name="meta"\r\nContent-Type: application/json\r\n\r\n{"k":1}\r\n' in seen.body


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"n": "x"}', "`n`"),
        ("{}", "'n' is a required property"),
        ('{"n": 1, "id": ".."}', "neither"),
        ('{"n": 1, "id": ""}', "empty"),
        ('{"n": 1, "id": "a", "X-A": "b\\r\\nX-Evil: 1"}', "line break"),
        ("[" * 100_000, "JSON"),
    ],
    ids=["json", "list", "type", "missing", "dots", "empty", "crlf", "deep"],
)
async def test_invalid_arguments_are_reported_and_nothing_is_sent(arguments: str, word: str) -> None:
    parameters = [
        {"name": "n", "in": "query", "required": True, "schema": {"type": "integer"}},
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "default": "d"}},
        {"name": "X-A", "in": "header", "schema": {"type": "string"}},
    ]
    with Api() as api:
        getting = operation(document(api.url, {"/x/{id}": {"get": {"parameters": parameters}}}))
        async with caller() as actions:
            text = await actions.call(getting, arguments, call_id="c")
    assert text.startswith("The arguments of `get_x_id` cannot be used")
    assert word in text
    assert api.seen == []


@pytest.mark.parametrize(
    ("auth", "where"),
    [
        ({"type": "bearer", "token": "s3cret/+token"}, "Bearer s3cret/+token"),
        ({"type": "basic", "username": "ann", "password": "s3cret/+token"}, "Basic YW5uOnMzY3JldC8rdG9rZW4="),
        ({"type": "api_key", "in": "header", "name": "X-Key", "value": "s3cret/+token"}, "s3cret/+token"),
        ({"type": "api_key", "in": "query", "name": "key", "value": "s3cret/+token"}, "key=s3cret%2F%2Btoken"),
        ({"type": "api_key", "in": "cookie", "name": "sid", "value": "s3cret/+token"}, "sid=s3cret/+token"),
    ],
    ids=["bearer", "basic", "header", "query", "cookie"],
)
async def test_secrets_are_sent_and_hidden_from_the_model(auth: dict[str, str], where: str) -> None:
    def echo(seen: Seen) -> Answer:
        body = json.dumps({"path": seen.path, "headers": seen.headers}).encode()
        return Answer(status=403, body=body + b" s3cret/+token s3cret%2F%2Btoken")

    with Api(echo) as api:
        parameters = [{"name": auth.get("name", "q"), "in": "query", "schema": {"type": "string"}}]
        getting = operation(
            document(api.url, {"/x": {"get": {"parameters": parameters}}}), auth=auth, headers={"X-Own": "mine-too"}
        )
        async with caller() as actions:
            text = await actions.call(getting, "{}", call_id="c")
    seen = api.seen[0]
    assert where in seen.path + " ".join(seen.headers.values())
    assert seen.headers["X-Own"] == "mine-too"
    assert text.startswith("HTTP 403 Forbidden")
    assert "[hidden]" in text
    for secret in ("s3cret", "mine-too", "YW5uOnMz"):
        assert secret not in text
        assert secret not in json.dumps(getting.spec())
        assert secret not in repr(getting)
    assert ("key" in getting.parameters["properties"]) is False


async def test_a_truncated_secret_does_not_leak_its_first_half() -> None:
    with Api(lambda _: Answer(body=b"x" * 95 + b"topsecrettoken" + b"y" * 500)) as api:
        getting = simple(api.url, auth={"type": "bearer", "token": "topsecrettoken"})
        async with caller(max_bytes=100) as actions:
            text = await actions.call(getting, "{}", call_id="c")
    assert "top" not in text
    assert "was cut here; it is longer than 100 bytes" in text


async def test_credentials_are_not_sent_to_a_redirect_s_other_host() -> None:
    with Api() as abroad, Api(lambda seen: Answer(status=307, headers={"Location": f"{abroad.url}/there"})) as home:
        posting = simple(
            home.url,
            "post",
            auth={"type": "api_key", "in": "cookie", "name": "sid", "value": "secret"},
            headers={"Authorization": "Bearer secret", "X-Own": "secret"},
        )
        async with caller() as actions:
            assert await actions.call(posting, "{}", call_id="call_7") == '{"ok":true}'
    assert home.seen[0].headers["Authorization"] == "Bearer secret"
    assert abroad.seen[0].method == "POST"
    assert abroad.seen[0].path == "/there"
    assert "secret" not in str(abroad.seen[0])
    assert abroad.seen[0].headers["Host"] == f"127.0.0.1:{abroad.port}"


async def test_a_redirect_on_the_host_keeps_credentials_and_uses_get() -> None:
    def answer(seen: Seen) -> Answer:
        return Answer(status=302, headers={"Location": "../b?c=1"}) if seen.path == "/a/x" else Answer()

    body = {"requestBody": {"content": {"application/json": {"schema": {"type": "array"}}}}}
    with Api(answer) as api:
        posting = operation(document(api.url, {"/a/x": {"post": body}}), headers={"X-Own": "secret"})
        async with caller() as actions:
            assert await actions.call(posting, '{"body": [1]}', call_id="c") == '{"ok":true}'
    assert (api.seen[1].method, api.seen[1].path, api.seen[1].body) == ("GET", "/b?c=1", b"")
    assert api.seen[1].headers["X-Own"] == "secret"
    assert "Content-Type" not in api.seen[1].headers


LONG_HOST = "\u0315" * 4_000


@pytest.mark.parametrize(
    "target",
    [
        *("http://127.0.0.2:{port}/", "http://169.254.169.254/latest/meta-data", "http://[::1]:{port}/"),
        *("http://2130706434:{port}/", "file:///etc/passwd", "gopher://127.0.0.1/", "http://user:pw@127.0.0.1:{port}/"),
        *("http://[::ffff:127.0.0.2]:{port}/", "//127.0.0.3:{port}/", "http://127.0.0.1:99999/"),
        pytest.param(f"http://{LONG_HOST}".encode().decode("latin-1"), id="a long host"),
    ],
)
async def test_a_redirect_is_checked_like_the_first_request(target: str) -> None:
    with Api() as inner:
        answer = Answer(status=302, headers={"Location": target.format(port=inner.port)})
        with Api(lambda _: answer) as outer:
            async with caller() as actions:
                text = await actions.call(simple(outer.url), "{}", call_id="c")
    assert "was not carried out" in text
    assert inner.seen == []
    assert len(outer.seen) == 1


async def test_redirects_are_limited_in_number() -> None:
    with Api(lambda _: Answer(status=302, headers={"Location": "/x"})) as api:
        async with caller() as actions:
            text = await actions.call(simple(api.url), "{}", call_id="c")
    assert "redirected more than 5 times" in text
    assert len(api.seen) == 6


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "0.0.0.0", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
        *(
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "[fe80::1]",
            "[fd00:ec2::254]",
        ),
        *("224.0.0.1", "255.255.255.255", "[ff02::1]", "192.0.0.192", "168.63.129.16"),
    ],
)
async def test_private_addresses_are_refused_and_only_the_log_has_why(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Api() as api:
        async with caller(allow_hosts=()) as actions:
            with caplog.at_level(logging.WARNING, "threadhold.actions"):
                text = await actions.call(simple(f"http://{host}:{api.port}"), "{}", call_id="c")
    assert text == "`get_x` was not carried out: its host is not one that this server is allowed to call."
    assert api.seen == []
    assert "ACTIONS_ALLOW_HOSTS" in caplog.text


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "api.test", "API.test."])
async def test_the_operator_can_allow_a_name_address_or_network(allowed: str) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    with Api() as api:
        async with caller(allow_hosts=(allowed,), resolve=resolve) as actions:
            text = await actions.call(simple(f"http://api.test:{api.port}"), "{}", call_id="c")
            assert text == '{"ok":true}'
            other = await actions.call(simple(f"http://other.test:{api.port}"), "{}", call_id="c")
    assert ("was not carried out" in other) == allowed.lower().startswith("api")


async def test_a_name_that_resolves_differently_gains_no_access() -> None:
    lookups: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        lookups.append(host)
        return ["127.0.0.1"] if len(lookups) % 2 else ["127.0.0.2"]

    with Api() as good:
        async with caller(resolve=resolve) as actions:
            getting = simple(f"http://api.test:{good.port}")
            assert await actions.call(getting, "{}", call_id="c") == '{"ok":true}'
            assert lookups == ["api.test"]  # one look-up per connection: nothing between check and connect
            assert "was not carried out" in await actions.call(getting, "{}", call_id="c")
    assert good.seen[0].headers["Host"] == f"api.test:{good.port}"
    assert len(good.seen) == 1


async def test_tls_is_verified_for_the_name_although_the_address_is_used() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    with Api(tls=True) as api:
        async with caller(resolve=resolve, tls=trusting) as actions:
            right = await actions.call(simple(f"https://api.test:{api.port}"), "{}", call_id="c")
            wrong = await actions.call(simple(f"https://other.test:{api.port}"), "{}", call_id="c")
        async with caller(resolve=resolve) as distrusting:
            unknown = await distrusting.call(simple(f"https://api.test:{api.port}"), "{}", call_id="c")
    assert right == '{"ok":true}'
    assert wrong == unknown == "`get_x` failed: no secure connection to the server could be made."
    assert len(api.seen) == 1


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Api() as proxy, Api() as api:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        async with caller() as actions:
            await actions.call(simple(api.url), "{}", call_id="c")
    assert (len(proxy.seen), len(api.seen)) == (0, 1)


async def test_a_slow_api_is_stopped_after_the_total_limit() -> None:
    with Api(slow) as api:
        async with caller(timeout_s=0.1) as actions:
            started = time.monotonic()
            text = await actions.call(simple(api.url), "{}", call_id="c")
    assert text == "`get_x` was stopped: no complete answer within 0.1 seconds."
    assert time.monotonic() - started < 1.5


async def test_cancelling_raises_and_closes_the_connection() -> None:
    closed = asyncio.Event()
    reached = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf")
        reached.set()
        assert await reader.read() == b""
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, caller() as actions:
        task = asyncio.create_task(actions.call(simple(url), "{}", call_id="c"))
        await asyncio.wait_for(reached.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(status=204, body=b"", headers={}), "(HTTP 204, no content)"),
        (Answer(status=404, body=b'{"e":1}'), 'HTTP 404 Not Found\n{"e":1}'),
        (Answer(status=500, body=b"x" * 9_000, headers={"Content-Type": "text/html"}), "HTTP 500"),
        (Answer(body=b"\x89PNG\0", headers={"Content-Type": "image/png"}), "(The answer is image/png, 5 bytes; "),
        (Answer(body=b"\xff\xfe\0", headers={}), "(The answer is unknown type, 3 bytes; "),
        (Answer(body="é".encode("latin-1"), headers={"Content-Type": "text/plain; charset=latin-1"}), "é"),
        (Answer(body=b"\xe9", headers={"Content-Type": "text/plain; charset=nonsense"}), "\ufffd"),
        (Answer(body=b"9" * 30, headers={"Content-Type": "text/plain; charset=punycode"}), "9" * 30),
        (Answer(body=b"\\u0041", headers={"Content-Type": "text/plain; charset=unicode_escape"}), "\\u0041"),
        (Answer(status=302, body=b"moved", headers={"Content-Type": "text/plain"}), "HTTP 302 Found\nmoved"),
        (Answer(status=799, body=b"odd", headers={"Content-Type": "text/plain"}), "HTTP 799\nodd"),
        (Answer(body=b"not gzip", headers={"Content-Encoding": "gzip"}), "\n\n(The answer was cut here"),
    ],
    ids=[
        "none",
        "404",
        "500",
        "image",
        "bytes",
        "latin-1",
        "charset",
        "punycode",
        "escape",
        "302",
        "799",
        "false gzip",
    ],
)
async def test_each_answer_becomes_a_text_for_the_model(answer: Answer, expected: str) -> None:
    with Api(lambda _: answer) as api:
        async with caller() as actions:
            text = await actions.call(simple(api.url), "{}", call_id="c")
    assert text.startswith(expected)
    assert len(text) < 4_100


async def test_a_gzip_bomb_is_truncated_at_the_limit() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    with Api(lambda _: Answer(body=bomb, headers=headers)) as api:
        async with caller(max_bytes=1_000) as actions:
            text = await actions.call(simple(api.url), "{}", call_id="c")
    assert text.startswith("a" * 1_000 + "\n\n(The answer was cut here")
    assert len(text) < 1_100


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["closed", "no http", "short", "bad length"],
)
async def test_a_broken_server_is_reported_not_raised(raw: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, caller() as actions:
        text = await actions.call(simple(url), "{}", call_id="c")
    assert text.startswith("`get_x` failed: ")


async def test_unreachable_hosts_and_unknown_names_are_reported() -> None:
    async def resolve(host: str, _port: int) -> list[str]:
        if host == "gone.test":
            raise OSError("no such name")
        return ["127.0.0.1"]

    with Api() as api:
        port = api.port
    async with caller(resolve=resolve) as actions:
        for host in ("gone.test", "here.test"):
            text = await actions.call(simple(f"http://{host}:{port}"), "{}", call_id="c")
            assert text == "`get_x` failed: the server cannot be reached."


async def test_cookies_of_an_api_are_forgotten() -> None:
    headers = {"Set-Cookie": "sid=other-owner", "Content-Type": "text/plain"}
    with Api(lambda _: Answer(headers=headers)) as api:
        async with caller() as actions:
            for _ in range(2):
                await actions.call(simple(api.url), "{}", call_id="c")
    assert "Cookie" not in api.seen[1].headers


async def test_two_actions_run_concurrently_with_their_own_secrets() -> None:
    both = threading.Barrier(2)

    def wait_for_both(_: Seen) -> Answer:
        both.wait(5)  # neither is answered before the other has arrived
        return Answer()

    with Api(wait_for_both) as api:
        action = {"openapi_spec": document(api.url, {"/x": {"get": {}}})}
        tools = build_toolset(
            [{"type": "action", "data": {**action, "headers": {"X-Who": who}}} for who in ("ann", "bob")]
        )
        async with caller() as actions:
            await asyncio.gather(
                *(actions.call(each, "{}", call_id="c") for each in operations_of(tools.served).values())
            )
    assert not both.broken
    assert sorted(seen.headers["X-Who"] for seen in api.seen) == ["ann", "bob"]


async def test_the_checked_address_is_the_one_connected_to() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["10.0.0.1", "127.0.0.3", "127.0.0.2"]  # refused; allowed, but nothing listens; allowed

    with Api() as usual, Api(host="127.0.0.2") as other:
        assert usual.port != other.port
        async with caller(allow_hosts=("127.0.0.2", "127.0.0.3"), resolve=resolve) as actions:
            text = await actions.call(simple(f"http://localhost:{other.port}"), "{}", call_id="c")
    assert text == '{"ok":true}'
    assert (len(usual.seen), len(other.seen)) == (0, 1)


async def test_an_endless_answer_is_truncated_and_its_connection_closed() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b"again and again " * 1_000)
                await writer.drain()
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, caller() as actions:
        text = await actions.call(simple(url), "{}", call_id="c")
        assert text.endswith("longer than 10000 bytes.)")
        await asyncio.wait_for(closed.wait(), 2)
