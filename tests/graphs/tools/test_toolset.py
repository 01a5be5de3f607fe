import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from graphs.tools import build_toolset
from graphs.tools.action import operations_of
from graphs.tools.document_worker import parse_to_json
from graphs.tools.operations import METHODS
from graphs.tools.resources import Resources, ToolContext
from tests.cpu_time import limit_cpu_time
from tests.graphs.tools.apis import document, operation
from wire.errors import InvalidRequest

SERVER = "https://api.test"


def action(spec: Any, **data: Any) -> dict[str, Any]:
    return {"type": "action", "data": {"openapi_spec": spec, **data}}


@pytest.fixture(scope="module", autouse=True)
def file_queries() -> None:
    """The first document of a process loads the validator, which is not part of the work on that document."""
    build_toolset([action(schema_document({"s0": {}}))])


def refusal(spec: Any, **data: Any) -> InvalidRequest:
    """Return the error for a second action, which can use at most a second of this thread's processor time."""

    def refused() -> InvalidRequest:
        with pytest.raises(InvalidRequest) as caught:
            build_toolset([{"type": "file_search"}, action(spec, **data)])
        return caught.value

    return limit_cpu_time(1, refused)


def schema_document(schemas: dict[str, Any], version: str = "3.0.3") -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/s0"}}}
    made = document(SERVER, {"/a": {"post": {"requestBody": {"content": content}}}}, components={"schemas": schemas})
    return {**made, "openapi": version}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_functions_pass_unchanged_and_unsupported_tools_are_named() -> None:
    strict = {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {}, "$defs": {"x": {}}}}
    tools = build_toolset(
        [
            {"type": "function", "function": strict},
            {"type": "function", "function": {"name": "bare"}},
            {"type": "code_interpreter"},
            {"type": "file_search", "file_search": {"max_num_results": 3}},
        ],
        ToolContext(resources=Resources()),
    )
    assert tools.specs[0] == {"type": "function", "function": strict}
    assert tools.specs[1]["function"] == {"name": "bare", "parameters": {"type": "object", "properties": {}}}
    assert tools.functions == {"f", "bare"}
    assert tools.not_offered == ("code_interpreter", "file_search")
    assert tools.served == {}


def test_names_are_derived_cleaned_and_unique() -> None:
    paths = {"/pets/{id}": {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {}}], "get": {}}}
    tools = build_toolset(
        [
            {"type": "function", "function": {"name": "get_pets_id"}},
            action(document(SERVER, paths)),
            action(document(SERVER, paths), headers={"X-A": "other"}),
            action(document(SERVER, {"/x": {"get": {"operationId": "Späße machen!" + "x" * 80}}})),
            {"type": "function", "function": {"name": "get_pets_id_2"}},
        ]
    )
    assert list(operations_of(tools.served))[:2] == ["get_pets_id_3", "get_pets_id_4"]
    long = list(operations_of(tools.served))[2]
    assert long.startswith("Sp_e_machen_xxx")
    assert len(long) == 64
    assert len({spec["function"]["name"] for spec in tools.specs}) == 5


def test_yaml_json_and_objects_mean_the_same() -> None:
    made = document(SERVER, {"/x": {"get": {"parameters": [{"name": "on", "in": "query", "schema": {}}]}}})
    yaml = """
openapi: 3.0.3
info: {title: Test, version: 2024-01-01}
servers: [{url: https://api.test}]
paths:
  /x:
    get:
      parameters: [{name: on, in: query, schema: {}}]
      responses: {200: &fine {description: yes}, default: *fine}
"""
    specs = [build_toolset([action(each)]).specs for each in (made, json.dumps(made), yaml)]
    assert specs[0] == specs[1] == specs[2]


def test_openapi_3_0_schemas_are_converted_and_3_1_kept() -> None:
    size = {"type": "integer", "nullable": True, "minimum": 1, "exclusiveMinimum": True, "example": 5, "enum": [2, 3]}
    old = operation(schema_document({"s0": {"type": "object", "properties": {"size": size}}}))
    assert old.parameters["properties"]["size"] == {
        "type": ["integer", "null"],
        "exclusiveMinimum": 1,
        "enum": [2, 3, None],
    }
    new = schema_document({"s0": {"type": "object", "properties": {"n": {**ref("s1"), "description": "own"}}}}, "3.1.0")
    new["components"]["schemas"]["s1"] = {"type": ["integer", "null"], "exclusiveMinimum": 1, "description": "shared"}
    assert operation(new).parameters["properties"]["n"] == {
        "type": ["integer", "null"],
        "exclusiveMinimum": 1,
        "description": "own",
    }


def test_all_of_is_merged_and_other_bodies_are_one_argument() -> None:
    part = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}
    merged = operation(schema_document({"s0": {"allOf": [{"properties": {"a": {}}}, ref("s1")]}, "s1": part}))
    assert list(merged.parameters["properties"]) == ["a", "b"]
    either = operation(schema_document({"s0": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}))
    assert list(either.parameters["properties"]) == ["body"]


def test_a_recursive_schema_is_cut_at_the_recursion() -> None:
    tree = {"type": "object", "description": "a tree", "properties": {"kids": {"type": "array", "items": ref("s0")}}}
    kids = operation(schema_document({"s0": tree})).parameters["properties"]["kids"]
    assert kids == {"type": "array", "items": {"type": "object", "description": "a tree"}}
    value = {"oneOf": [{"type": "string"}, {"type": "array", "items": ref("s1")}]}
    wrapped = {"type": "object", "properties": {"v": {"allOf": [ref("s1")]}}}
    assert operation(schema_document({"s0": wrapped, "s1": value})).parameters["properties"]["v"]["allOf"]


@pytest.mark.parametrize(
    ("extension", "flag", "expected"),
    [(None, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_is_consequential_overrides_the_document(extension: bool | None, flag: bool | None, expected: bool) -> None:
    node = {} if extension is None else {"x-openai-isConsequential": extension}
    data = {} if flag is None else {"is_consequential": flag}
    assert operation(document(SERVER, {"/x": {"post": node}}), **data).is_consequential is expected


def test_servers_of_operation_path_and_document_are_used() -> None:
    paths = {
        "/x": {"servers": [{"url": "https://path.test/p/"}], "get": {"servers": [{"url": "http://op.test"}]}, "put": {}}
    }
    tools = build_toolset(
        [
            action(document(SERVER, paths)),
            action(document("v1", {"/x": {"get": {"operationId": "r"}}}), base_url=f"{SERVER}/api/"),
        ]
    )
    assert [each.server for each in operations_of(tools.served).values()] == [
        "http://op.test",
        "https://path.test/p",
        f"{SERVER}/api/v1",
    ]
    assert "base_url" in refusal(document("/v1", {"/x": {"get": {}}})).message
    for url, word in [
        ("ftp://a.test", "only http"),
        ("https://u:p@a.test", "credentials"),
        ("https://{h}", "#/paths/~1x/get"),
    ]:
        problem = refusal(document(url, {"/x": {"get": {}}}))
        assert word in problem.message
        assert "/x" in problem.message or "~1x" in problem.message


SELF = {"s0": ref("s0")}
TWO = {"s0": ref("s1"), "s1": ref("s0")}
COMPOSED = {f"s{i}": {"allOf": [ref(f"s{j}") for j in range(7)]} for i in range(7)}


def bomb(keyword: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    return {**{f"s{i}": keyword(i) for i in range(40)}, "s40": {"type": "string"}}


@pytest.mark.parametrize(
    ("schemas", "words"),
    [
        (SELF, "circular"),
        (TWO, "circular"),
        (COMPOSED, "circular"),
        (bomb(lambda i: {"type": "object", "properties": {"a": ref(f"s{i + 1}"), "b": ref(f"s{i + 1}")}}), "expand"),
        (bomb(lambda i: {"allOf": [ref(f"s{i + 1}"), ref(f"s{i + 1}")]}), "expand"),
        (bomb(lambda i: {"anyOf": [ref(f"s{i + 1}"), ref(f"s{i + 1}")], "default": 1}), "expand"),
        (bomb(lambda i: {"type": "array", "items": {"oneOf": [ref(f"s{i + 1}"), ref(f"s{i + 1}")]}}), "expand"),
        (
            {f"s{i}": {"type": "object", "properties": {f"p{j}": ref(f"s{j}") for j in range(12)}} for i in range(12)},
            "expand",
        ),
        ({f"s{i}": ref(f"s{i + 1}") if i < 2_000 else {} for i in range(2_001)}, "a chain of too many references"),
        ({"s0": ref("nowhere")}, "`#/components/schemas/nowhere`, which does not exist"),
        ({"s0": {"$ref": "http://127.0.0.1:1/x.yaml"}}, "leaves the document"),
        ({"s0": {"properties": {"a": {"$ref": "file:///etc/passwd"}}}}, "`#/components/schemas/s0/properties/a/$ref`"),
        ({"s0": {"$ref": "other.yaml#/a"}}, "leaves the document"),
        ({"s0": {"$id": "http://127.0.0.1:1/"}}, "`$id`"),
        ({"s0": {"type": "intger"}}, "`#/components/schemas/s0/type`"),
        ({"s0": {"type": "integer", "default": "x"}}, "'x' is not of type 'integer'"),
    ],
    ids=[
        *("self", "two", "composed", "properties bomb", "allOf bomb", "anyOf bomb", "items bomb", "tangle", "chain"),
        *("missing", "http", "file", "relative", "id", "type", "default"),
    ],
)
def test_invalid_references_and_schemas_are_refused_with_their_pointer(schemas: dict[str, Any], words: str) -> None:
    problem = refusal(schema_document(schemas))
    assert words in problem.message
    assert (problem.param, problem.code) == ("tools[1].data.openapi_spec", "invalid_value")
    assert len(problem.message) < 800


def laughs(first: str, line: Callable[[str, str], str]) -> str:
    text, last = first, "a"
    for name in "bcdefghijklmnop":
        text += line(name, ",".join([f"*{last}"] * 9))
        last = name
    return text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" * 10_000_000, "10000000 bytes; at most 1048576"),
        ({"openapi": "3.0.0", "x": "a" * 10_000_000}, "at most 1048576"),
        (laughs("a: &a [x]\n", lambda name, all_: f"{name}: &{name} [{all_}]\n"), "more than 50000 values"),
        (laughs("a: &a {k: 1}\n", lambda name, all_: f"{name}: &{name} {{<<: [{all_}], {name}: 1}}\n"), "merge keys"),
        ("a: &a [*a]", "nests deeper than 64"),
        ("a: &a {<<: *a}", "nests too deeply"),
        ("[" * 1_000_000, "nests deeper than 64"),
        ('{"a":' * 100_000, "nests too deeply"),
        ("- " * 500_000, "nests deeper than 64"),
        ("- a\n" * 250_000, "more than 50000 values"),
        ("a: !!python/object/apply:os.system [ls]", "neither YAML nor JSON"),
        ("a: !!binary aGk=", "neither YAML nor JSON"),
        ('a: !!timestamp "1"', "neither YAML nor JSON"),
        ('a: !!float "' + "1:" * 100_000 + '1"', "is not of type float"),
        ('a: !!int ""', "`` is not of type int"),
        ('a: !!bool "x"', "`x` is not of type bool"),
        ("a: !!set {a, b}", "neither YAML nor JSON"),
        ('{"a\\ud800": NaN}', "`#/a\ufffd` is not a JSON value"),
        ("a: " + "9" * 10_000, "neither YAML nor JSON"),
        ('{"a": NaN}', "`#/a` is not a JSON value"),
        ('{"a": 1]', "it is not JSON: Expecting"),
        ("a: [", "line 2"),
        ('{"a": 1,}', "`#/openapi`"),
        ("just words", "not an object"),
        ("", "not an object"),
        (None, "neither text nor an object"),
        ([1], "neither text nor an object"),
        ("swagger: '2.0'", "3.0 and 3.1"),
        ("openapi: 3.0.0\ninfo: {title: a, version: '1'}", "'paths' is a required property (at `#`)"),
        ("openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths: {}", "no operation"),
    ],
)
def test_hostile_and_broken_texts_are_refused_within_a_second(text: Any, words: str) -> None:
    assert words in refusal(text).message


@pytest.mark.parametrize("count", [1, 2, 100, 800])
def test_parts_of_all_of_with_one_property_do_not_nest(count: int) -> None:
    same = {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}] * count}
    assert operation(schema_document({"s0": same})).parameters["properties"]["a"] == {"type": "string"}
    different = {"allOf": [{"properties": {"a": {"minLength": number}}} for number in range(count)]}
    parts = operation(schema_document({"s0": {"allOf": [different, different]}})).parameters["properties"]["a"]
    assert parts == ({"allOf": [{"minLength": number} for number in range(count)]} if count > 1 else {"minLength": 0})


def test_expanded_arguments_have_a_limit_of_levels() -> None:
    schemas = {f"s{i}": {"type": "object", "properties": {"a": ref(f"s{i + 1}")}} for i in range(90)} | {"s90": {}}
    assert operation(schema_document(schemas))
    deep = {name: {"properties": {"b": {"items": schema}}} for name, schema in schemas.items()}
    assert "nest deeper than 200 levels" in refusal(schema_document(deep)).message


def test_a_library_s_error_refuses_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("graphs.tools.document_worker.read_document", fail)
    assert parse_to_json("{}", None) == {"refused": "it cannot be read (OverflowError)"}


def test_a_hostile_pattern_is_not_run() -> None:
    evil = {"type": "string", "pattern": "(a+)+$", "default": "a" * 40 + "!"}
    started = time.thread_time()  # once, and not `within`, because a valid document is cached
    schema = operation(schema_document({"s0": {"type": "object", "properties": {"a": evil}}})).parameters
    assert time.thread_time() - started < 1
    assert schema["properties"]["a"]["pattern"] == "(a+)+$"


def test_too_many_operations_are_refused() -> None:
    many = document(SERVER, {f"/{i}": {"get": {}} for i in range(129)})
    assert "more than 128 operations" in refusal(many).message
    half = [action(document(SERVER, {f"/{i}": {"get": {}} for i in range(100)})) for _ in range(2)]
    with pytest.raises(InvalidRequest, match="200 functions and operations; at most 128"):
        build_toolset(half)


def doubling(number: int, levels: int = 13) -> dict[str, Any]:
    """Return a document whose schema doubles at each of `levels` levels."""
    schemas: dict[str, Any] = {
        f"s{level}": {"type": "object", "properties": {name: ref(f"s{level + 1}") for name in "ab"}}
        for level in range(levels)
    }
    return {**schema_document({**schemas, f"s{levels}": {"enum": [number]}}), "openapi": "3.1.0"}


def test_documents_that_expand_to_megabytes_together_are_refused() -> None:
    assert build_toolset([action(doubling(0))]).served
    with pytest.raises(InvalidRequest, match="offers have more than 2097152 characters") as caught:
        build_toolset([action(doubling(number)) for number in range(9)])
    assert caught.value.param == "tools"


def test_a_cached_document_is_fast_and_has_no_secret() -> None:
    spec = document(SERVER, {f"/{i}": {"get": {}} for i in range(100)}, tags=[{"name": "unique to this test"}])
    started = time.monotonic()
    build_toolset([action(spec, headers={"X-Key": "first"})])
    first_s = time.monotonic() - started
    started = time.monotonic()
    tools = build_toolset([action(spec, headers={"X-Key": "second"})])
    assert time.monotonic() - started < first_s / 3
    assert {each.credentials.headers for each in operations_of(tools.served).values()} == {(("X-Key", "second"),)}


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"headers": {"X-A": "b\r\nX-Evil: 1"}}, "headers.X-A"),
        ({"headers": {"X A": "b"}}, "headers.X A"),
        ({"headers": {"Host": "b"}}, "headers.Host"),
        ({"headers": {"X-A": 1}}, "headers.X-A"),
        ({"headers": ["X-A"]}, "headers"),
        ({"auth": "bearer"}, "auth"),
        ({"auth": {"type": "oauth"}}, "auth.type"),
        ({"auth": {"type": "bearer"}}, "auth.token"),
        ({"auth": {"type": "bearer", "token": "a\nb"}}, "auth.token"),
        ({"auth": {"type": "bearer", "token": "a", "extra": 1}}, "auth.extra"),
        ({"auth": {"type": "basic", "username": "a", "password": None}}, "auth.password"),
        ({"auth": {"type": "api_key", "in": "body", "name": "k", "value": "v"}}, "auth.in"),
        ({"auth": {"type": "api_key", "in": "header", "name": "a b", "value": "v"}}, "auth.name"),
        ({"auth": {"type": "api_key", "in": "cookie", "name": "a", "value": "v; admin=1"}}, "auth"),
        ({"is_consequential": "yes"}, "is_consequential"),
        ({"base_url": "file:///etc"}, "base_url"),
        ({"base_url": "http://" + "\u0315" * 100_000}, "base_url"),
        ({"openapi": "x"}, "openapi"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_invalid_data_is_reported_with_its_param(data: dict[str, Any], param: str) -> None:
    assert refusal(document(SERVER, {"/x": {"get": {}}}), **data).param == f"tools[1].data.{param}"


@pytest.mark.parametrize("write", [json.dumps, lambda spec: spec], ids=["text", "object"])
def test_a_document_of_a_php_client_is_accepted(write: Callable[[Any], Any]) -> None:
    answers = {"200": {"description": "", "headers": [], "content": {"application/json": {"schema": []}}}}
    spec = document(
        SERVER, {"/a": {"parameters": [], "get": {"operationId": "a", "responses": answers}}}, components=[]
    )
    assert [tool["function"]["name"] for tool in build_toolset([action(write(spec), headers={})]).specs] == ["a"]


LONG_TEXT = "x" * 60_000
REPEATED: dict[str, Callable[[int], dict[str, Any]]] = {
    "servers": lambda number: {
        **document(SERVER, {f"/{each}": {"get": {"operationId": f"o{each}"}} for each in range(100)}),
        "servers": [{"url": f"{SERVER}/{number}/{{v}}", "variables": {"v": {"default": LONG_TEXT}}}],
    },
    "descriptions": lambda number: document(
        f"{SERVER}/{number}",
        {
            f"/{each}": {"summary": LONG_TEXT, **{method: {"operationId": f"{method}{each}"} for method in METHODS}}
            for each in range(15)
        },
    ),
    "paths": lambda number: document(
        f"{SERVER}/{number}",
        {
            f"/{each}{LONG_TEXT}": {method: {"operationId": f"{method}{each}"} for method in METHODS}
            for each in range(15)
        },
    ),
}


EACH = [
    pytest.param(make, id=name, marks=() if name == "descriptions" else pytest.mark.soak)
    for name, make in REPEATED.items()
]


@pytest.mark.parametrize("make", EACH)
def test_cached_documents_stay_within_their_limit(make: Callable[[int], dict[str, Any]]) -> None:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(30):
        build_toolset([action(make(number))])
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 16_000_000  # twice the limit of their characters
