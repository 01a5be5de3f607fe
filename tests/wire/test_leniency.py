"""What is accepted although the models refuse it: PHP's empty objects, v1's metadata, unknown fields."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

import orjson
import pytest

import wire
from wire.assistants import AssistantCreate, AssistantModify
from wire.errors import InvalidRequest
from wire.leniency import Leniency, list_ignored, repair
from wire.messages import MessageCreate, MessageModify
from wire.runs import RunCreate, RunModify, SubmitToolOutputs, ThreadRunCreate
from wire.threads import ThreadCreate, ThreadModify
from wire.validation import Request, parse
from wire.validation_errors import MAX_ERRORS
from wire.vector_stores import StoreFileModify, VectorStoreCreate, VectorStoreModify

IGNORE = Leniency(ignore_unknown=True)

for module in iter_modules(wire.__path__):
    import_module(f"wire.{module.name}")


# --- every position of every model ------------------------------------------------------------------------------------


class Position(NamedTuple):
    """A position in a request: the values that its schema allows, and a function that builds a request with a value
    there."""

    name: str
    kind: str
    build: Callable[[Any], Any]


def models(base: type[Request] = Request) -> Iterator[type[Request]]:
    for model in base.__subclasses__():
        yield model
        yield from models(model)


def branches(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a schema, without null."""
    if "$ref" in schema:
        return branches(defs[schema["$ref"].rpartition("/")[2]], defs)
    several = schema.get("anyOf") or schema.get("oneOf")
    if several is None:
        return [] if schema.get("type") == "null" else [schema]
    return [found for one in several for found in branches(one, defs)]


def minimum(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    """Return the smallest value that the schema accepts."""
    one = branches(schema, defs)[0]
    if "const" in one or "enum" in one:
        return one.get("const", one.get("enum", [None])[0])
    match one.get("type"):
        case "object":
            return {name: minimum(one["properties"][name], defs) for name in one.get("required", ())}
        case "array":
            return [minimum(one["items"], defs)] * one.get("minItems", 0)
        case "integer" | "number":
            return one.get("minimum", 1)
        case "boolean":
            return True
    return "x"


def positions(schema: Mapping[str, Any], defs: Mapping[str, Any], name: str = "", depth: int = 8) -> Iterator[Position]:
    for one in branches(schema, defs) if depth else ():
        match one.get("type"):
            case "object":
                yield Position(name or "body", "object", lambda value: value)
                kept = minimum(one, defs)
                inner = dict(one.get("properties", {}))
                if isinstance(one.get("additionalProperties"), dict):
                    inner["any_key"] = one["additionalProperties"]
                for key, value in inner.items():
                    for found in positions(value, defs, f"{name}.{key}".strip("."), depth - 1):
                        yield found._replace(build=partial(in_object, found, kept, key))
            case "array":
                yield Position(name, "array", lambda value: value)
                for found in positions(one["items"], defs, f"{name}[0]", depth - 1):
                    yield found._replace(build=partial(in_array, found))


def in_object(position: Position, kept: Mapping[str, Any], key: str, value: Any) -> Any:
    return {**kept, key: position.build(value)}


def in_array(position: Position, value: Any) -> Any:
    return [position.build(value)]


@cache  # a schema takes 20 ms
def positions_of(model: type[Request]) -> list[Position]:
    schema = model.model_json_schema()
    return list(positions(schema, schema.get("$defs", {})))


@pytest.mark.parametrize("model", [*models()], ids=lambda model: model.__name__)
def test_an_empty_array_becomes_an_object_where_one_is_expected(model: type[Request]) -> None:
    for position in positions_of(model):
        if position.kind == "object":
            assert repair(model, position.build([])).data == position.build({}), position.name
            assert repair(model, position.build([1])).data == position.build([1]), position.name


@pytest.mark.parametrize("model", [*models()], ids=lambda model: model.__name__)
def test_an_empty_array_stays_one_where_an_array_is_expected(model: type[Request]) -> None:
    for position in positions_of(model):
        if position.kind == "array":
            assert repair(model, position.build([])).data == position.build([]), position.name
            assert repair(model, position.build({})).data == position.build({}), position.name


def test_the_positions_include_those_that_programs_use() -> None:
    met = {(model, position.name) for model in models() for position in positions_of(model)}
    assert met >= {
        (ThreadCreate, "body"),
        (ThreadCreate, "messages[0].metadata"),
        (ThreadCreate, "tool_resources.file_search.vector_stores[0].chunking_strategy"),
        (AssistantCreate, "tools[0].function.parameters"),
        (AssistantCreate, "response_format.json_schema.schema"),
        (AssistantModify, "tools[0].file_search.ranking_options"),
        (RunCreate, "truncation_strategy"),
        (RunCreate, "additional_messages[0].attachments[0].tools[0]"),
        (ThreadRunCreate, "thread.tool_resources.file_search"),
        (SubmitToolOutputs, "tool_outputs[0]"),
        (VectorStoreCreate, "expires_after"),
        (StoreFileModify, "attributes"),
    }


def test_parsing_does_not_change_the_input() -> None:
    given: dict[str, Any] = {"metadata": [], "messages": [{"role": "user", "content": "x", "metadata": []}]}
    made = parse(ThreadCreate, given)
    assert (made.metadata, made.messages and made.messages[0].metadata) == ({}, {})
    assert given == {"metadata": [], "messages": [{"role": "user", "content": "x", "metadata": []}]}


# --- v1's metadata ----------------------------------------------------------------------------------------------------

NUMBERS = (
    b'{"yes": true, "no": false, "one": 1, "real": 1.0, "price": 1.50, "big": 123456789012345678901234567890, "e": 1E5}'
)
TEXTS = {
    "yes": "true",
    "no": "false",
    "one": "1",
    "real": "1.0",
    "price": "1.50",
    "big": "123456789012345678901234567890",
    "e": "1E5",
}
MESSAGE = '{"role": "user", "content": "x", "metadata": %s}'
HOLDERS = [
    (AssistantCreate, '{"model": "m", "metadata": %s}'),
    (AssistantModify, '{"metadata": %s}'),
    (ThreadCreate, '{"metadata": %s}'),
    (ThreadCreate, f'{{"messages": [{MESSAGE}]}}'),
    (ThreadModify, '{"metadata": %s}'),
    (MessageCreate, MESSAGE),
    (MessageModify, '{"metadata": %s}'),
    (RunCreate, '{"assistant_id": "a", "metadata": %s}'),
    (RunCreate, f'{{"assistant_id": "a", "additional_messages": [{MESSAGE}]}}'),
    (RunModify, '{"metadata": %s}'),
    (ThreadRunCreate, '{"assistant_id": "a", "thread": {"metadata": %s}}'),
    (ThreadRunCreate, f'{{"assistant_id": "a", "thread": {{"messages": [{MESSAGE}]}}}}'),
    (VectorStoreCreate, '{"metadata": %s}'),
    (VectorStoreModify, '{"metadata": %s}'),
]


@pytest.mark.parametrize(("model", "body"), HOLDERS, ids=lambda value: getattr(value, "__name__", None))
def test_v1_metadata_becomes_its_json_text(model: type[Request], body: str) -> None:
    sent = body.encode() % NUMBERS
    data = orjson.loads(sent)
    assert repair(model, data, Leniency(v1=True, sent=sent)).data == json.loads(body % json.dumps(TEXTS))
    with pytest.raises(InvalidRequest):
        parse(model, data)


def test_without_the_original_body_numbers_are_encoded_again() -> None:
    assert repair(ThreadCreate, {"metadata": {"a": 1.0, "b": False}}, Leniency(v1=True)).data == {
        "metadata": {"a": "1.0", "b": "false"}
    }


@pytest.mark.parametrize(
    "text", ["null", "[]", "{}", "[1]", '"' + "x" * 513 + '"', "1." + "0" * 513], ids=lambda value: str(value)[:8]
)
def test_other_v1_metadata_is_refused(text: str) -> None:
    sent = b'{"metadata": {"a": %b}}' % text.encode()
    with pytest.raises(InvalidRequest):
        parse(ThreadCreate, orjson.loads(sent), Leniency(v1=True, sent=sent))


def test_v1_accepts_numbers_as_text_in_metadata_only() -> None:
    for data in ({"assistant_id": "a", "model": 1}, {"assistant_id": "a", "instructions": True}):
        with pytest.raises(InvalidRequest):
            parse(RunCreate, data, Leniency(v1=True))


# --- unknown fields ---------------------------------------------------------------------------------------------------

TEXT = {"type": "text", "text": {"value": "Hi", "annotations": []}}


@pytest.mark.parametrize(
    ("model", "data", "read", "ignored"),
    [
        (ThreadCreate, {"id": "t", "metadata": {"id": "x"}}, {"metadata": {"id": "x"}}, ["id"]),
        (
            ThreadRunCreate,
            {"assistant_id": "a", "stream_options": {}, "thread": {"id": "t", "object": "thread"}},
            {"assistant_id": "a", "thread": {}},
            ["thread.id", "thread.object", "stream_options"],
        ),
        (
            AssistantModify,
            {"tools": [{"type": "function", "function": {"name": "f", "x": 1}, "y": 2}, {"type": "retrieval", "z": 3}]},
            {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "retrieval"}]},
            ["tools[0].function.x", "tools[0].y", "tools[1].z"],
        ),
        (
            MessageCreate,
            {"role": "user", "content": [{**TEXT, "index": 0}], "assistant_id": None},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            ["content[0].text.annotations", "content[0].index", "assistant_id"],
        ),
        (
            MessageCreate,
            {"object": "thread.message", "role": "assistant", "content": []},
            {"role": "assistant", "content": ""},
            ["object"],
        ),
        (
            AssistantModify,
            {"response_format": {"type": "text", "~text": {"schema": 1}, "schema": 2}, "~": 1, "[key]": 2},
            {"response_format": {"type": "text"}},
            None,
        ),
        (
            ThreadCreate,
            {"tool_resources": {"file_search": [], "browser": []}},
            {"tool_resources": {"file_search": {}}},
            None,
        ),
    ],
    ids=["top", "nested", "tools", "message", "empty message", "like our tags", "with an empty object"],
)
def test_unknown_fields_are_ignored_and_listed(
    model: type[Request], data: Any, read: Any, ignored: list[str] | None
) -> None:
    repaired = repair(model, data, IGNORE)
    assert repaired.data == read
    assert ignored is None or sorted(repaired.ignored) == sorted(ignored)
    parse(model, repaired.data)
    with pytest.raises(InvalidRequest):
        parse(model, data)


@pytest.mark.parametrize(
    "data",
    [
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "text", "text": {"text": "x"}}]},
        {"role": "user", "content": [{"type": "text", "text": ["x"]}]},
        {"role": "system", "content": "x"},
        {"content": "x", "rolle": "user"},
    ],
    ids=["empty", "other object", "array", "wrong value", "misspelled"],
)
def test_other_errors_are_still_refused(data: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse(MessageCreate, data, IGNORE)


@pytest.mark.parametrize(
    ("paths", "value"),
    [
        (["id", "messages[0].id"], "id, messages[0].id"),
        (["a,b", "50%", "é\r\nset-cookie: x"], "a%2Cb, 50%25, %C3%A9%0D%0Aset-cookie:%20x"),
        (["x" * 2000], "..."),
    ],
)
def test_the_list_of_ignored_fields_fits_a_header(paths: list[str], value: str) -> None:
    assert list_ignored(paths) == value


def test_a_long_list_of_ignored_fields_is_truncated() -> None:
    value = list_ignored([f"messages[{number}].id" for number in range(1000)])
    assert value.endswith(", ...")
    assert len(value) < 1100


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "leniency", "kind", "loc"),
    [
        ({"metadata": [], "body": 1}, Leniency(), "extra_forbidden", ("body",)),
        ({"metadata": [], "messages": [[], {"x": 1}]}, Leniency(), "extra_forbidden", ("messages", 1, "x")),
        ({"messages": [[]]}, Leniency(), "missing", ("messages", 0, "role")),
        ({"messages": [{}], "metadata": {"a": None}}, Leniency(v1=True), "string_type", ("metadata", "a")),
        ({"messages": [{}], "id": 1, "metadata": {"a": 1}}, IGNORE, "string_type", ("metadata", "a")),
    ],
    ids=["unknown", "unknown within", "missing after repair", "null under v1", "wrong where unknown is ignored"],
)
def test_the_remaining_error_is_reported(data: Any, leniency: Leniency, kind: str, loc: tuple[Any, ...]) -> None:
    refused = repair(ThreadCreate, data, leniency).refused
    assert (refused["type"], refused["loc"]) == (kind, loc)


def test_a_refused_request_is_not_copied() -> None:
    data = {"metadata": [], **{f"k{number}": number for number in range(1000)}}
    repaired = repair(ThreadCreate, data)
    assert (repaired.data is data, repaired.changed, repaired.refused["type"]) == (True, False, "extra_forbidden")


@pytest.mark.parametrize("leniency", [Leniency(), Leniency(v1=True), IGNORE], ids=["php", "v1", "ignoring"])
def test_data_with_too_many_errors_is_refused_without_repair(leniency: Leniency) -> None:
    fields = {f"k{number}": number for number in range(MAX_ERRORS)}
    repaired = repair(ThreadCreate, {**fields, "one more": 1}, leniency)
    assert (repaired.changed, repaired.refused["type"], repaired.refused["loc"]) == (False, "extra_forbidden", ("k0",))


def test_unknown_fields_are_ignored_up_to_the_limit() -> None:
    repaired = repair(ThreadCreate, {f"k{number}": number for number in range(MAX_ERRORS)}, IGNORE)
    assert (repaired.data, repaired.refused) == ({}, None)
    assert list_ignored(repaired.ignored).endswith(", ...")
