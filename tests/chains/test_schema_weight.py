"""Schemas for grammars: valid ones pass, costly ones are refused with the item, its value and the limit."""

import asyncio
import json
import re
import time
from typing import Any

import pytest

from chains.calls.checks import bounded_call_schema, bounded_schemas
from chains.schema_limits import SchemaRefused, without_long_limits
from chains.schema_weight import bound_schemas, check_schema
from tests.cpu_time import limit_cpu_time

TEXT = {"type": "string"}


def record(count: int, *, required: bool) -> dict[str, Any]:
    names = [f"p{index}" for index in range(count)]
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), "required": names if required else []}


def nested(levels: int) -> Any:
    return json.loads('{"type":"object","properties":{"a":' * levels + '{"type":"string"}' + "}}" * levels)


def variant(tag: str, *fields: str) -> dict[str, Any]:
    fixed = {"op": {"const": tag}} if tag else {}
    properties = {**fixed, **{name: {"$ref": "#/$defs/node"} for name in fields}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def recursive(*alternatives: Any) -> dict[str, Any]:
    return {"$defs": {"node": {"anyOf": list(alternatives)}}, "$ref": "#/$defs/node"}


def alike(count: int, **first: Any) -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "object", "properties": {"a": first, f"b{index}": TEXT}, "required": ["a", f"b{index}"]}
            for index in range(count)
        ]
    }


def open_object(*names: str, more: Any = True) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), "additionalProperties": more}


def under(levels: int, name: str, inner: Any) -> dict[str, Any]:
    for _ in range(levels):
        inner = {"type": "object", "properties": {name: inner}}
    return inner  # type: ignore[no-any-return]


def texts(count: int, **limits: Any) -> dict[str, Any]:
    """Return required strings with these limits."""
    names = [f"p{index}" for index in range(count)]
    return {"type": "object", "properties": {name: {**TEXT, **limits} for name in names}, "required": names}


JSON: dict[str, Any] = {
    "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "additionalProperties": {"$ref": "#"}},
    ]
}
LIST = {
    "type": "object",
    "properties": {"value": TEXT, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["value", "next"],
}
DOUBLING = {
    "$defs": {
        **{f"a{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)},
        "a30": TEXT,
    },
    "$ref": "#/$defs/a0",
}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"enum": [f"v{index}" for index in range(1_000)]}, id="enum of 1,000"),
        pytest.param(record(450, required=False), id="450 optional properties"),
        pytest.param(record(1_500, required=True), id="1,500 required properties"),
        pytest.param(nested(40), id="40 levels"),
        pytest.param({"type": "string", "pattern": r"^\+?[0-9]{7,15}$"}, id="telephone number"),
        pytest.param({"type": "string", "pattern": "^[a-z]{1,1900}$"}, id="long fixed class"),
        pytest.param({"type": "string", "pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}, id="address"),
        pytest.param({"type": "string", "pattern": "^(red|green|blue)$"}, id="words"),
        pytest.param({"type": "string", "minLength": 1_000, "maxLength": 10**9}, id="a limit that is none"),
        pytest.param(JSON, id="any JSON"),
        pytest.param(LIST, id="linked list"),
        pytest.param(recursive(variant("add", "l", "r"), variant("neg", "l"), {"type": "number"}), id="tagged tree"),
        pytest.param(recursive(variant("", "add"), variant("", "neg"), {"type": "null"}), id="tree tagged by names"),
        pytest.param(alike(40, **TEXT), id="40 alternatives alike"),
        pytest.param({"type": "number", "minimum": 1.2, "maximum": 1.8}, id="range without integers"),
        pytest.param({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}, id="range of one"),
        pytest.param({"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}, id="zod's integer"),
        pytest.param({"type": "integer", "minimum": 10**15 - 1}, id="15 digits"),
        pytest.param(
            {
                "type": "object",
                "properties": {f"p{n}": {"type": "integer", "minimum": 0, "maximum": 100} for n in range(400)},
            },
            id="400 percentages",
        ),
        pytest.param({"type": "integer", "maximum": 2**53}, id="an upper limit"),
        pytest.param({"properties": {"enum": TEXT}, "$ref": "#/properties/enum"}, id="a property called enum"),
        pytest.param({}, id="anything"),
        pytest.param(open_object("n" * 256), id="the longest name"),
        pytest.param(open_object(*(f"{'n' * 200}{index:03}" for index in range(200))), id="names that begin alike"),
        pytest.param({"items": [open_object(*(f"property_{n}" for n in range(20)))] * 40}, id="40 open objects"),
        pytest.param({"properties": {"n" * 256: TEXT}, "additionalProperties": False}, id="a long name, closed"),
        pytest.param(under(40, "n" * 20, TEXT), id="40 levels of names"),
        pytest.param({"properties": {"body": texts(200, maxLength=1_900)}}, id="200 long texts"),
    ],
)
def test_a_valid_schema_passes(schema: Any) -> None:
    check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        pytest.param({"enum": list(range(1_001))}, r"1001; at most 1000", id="enum"),
        pytest.param({"anyOf": [{"enum": list(range(600))}] * 2}, r"1200; at most 1000", id="enums beside each other"),
        pytest.param({"items": {"enum": list(range(50_000))}}, r"enum values: 50000; at most", id="enum in a list"),
        pytest.param(record(600, required=False), r"1201; at most 1000", id="optional properties"),
        pytest.param(record(4_000, required=True), r"subschemas: 3001", id="required properties"),
        pytest.param(nested(60), r"levels: 49", id="levels"),
        pytest.param({"type": "string", "minLength": 10**6}, r"`minLength` is 1e\+06; at most 1999", id="minLength"),
        pytest.param({"type": "array", "minItems": 2_000}, r"`minItems` is 2000", id="minItems"),
        pytest.param({"type": "string", "minLength": -1}, r"`minLength` is -1", id="negative"),
        pytest.param({"type": "string", "maxLength": "9"}, r"`maxLength` is 9; it must be a number", id="a text"),
        pytest.param({"type": "integer", "minimum": 1e300}, r"`minimum` is 1e\+300", id="minimum"),
        pytest.param({"type": "integer", "maximum": float("nan")}, r"`maximum` is nan", id="no number"),
        pytest.param({"type": "integer", "minimum": 2 * 10**15}, r"needs a `maximum`", id="16 digits, no maximum"),
        pytest.param({"type": "integer", "exclusiveMinimum": 1.9e15}, r"needs a `maximum`", id="16 digits, float"),
        pytest.param({"type": ["null", "integer"], "maximum": -(2**53)}, r"needs a `minimum`", id="negative"),
        pytest.param({"enum": [f"{n:060}" for n in range(300)]}, r"300 enum values: 18000", id="many long values"),
        pytest.param(
            {"anyOf": [{"const": f"{n:060}"} for n in range(300)]}, r"300 enum values: 18000", id="many long constants"
        ),
        pytest.param(
            {"oneOf": [{"enum": [f"{n:060}", f"{n:061}"]} for n in range(150)]}, r"300 enum values", id="many enums"
        ),
        pytest.param({"properties": {f"{n:060}": TEXT for n in range(300)}}, r"300 optional", id="many long names"),
        pytest.param({"minLength": 9, "maxLength": 2}, r"`minLength` 9 and `maxLength` 2 allow no", id="empty lengths"),
        pytest.param({"minItems": 9, "maxItems": 2}, r"`minItems` 9 and", id="empty counts"),
        pytest.param(
            {"type": "integer", "minimum": 9, "maximum": -9}, r"`minimum` 9 and `maximum` -9", id="empty range"
        ),
        pytest.param(
            {"type": "integer", "minimum": 9, "exclusiveMaximum": 1}, r"and `exclusiveMaximum` 1", id="empty open range"
        ),
        pytest.param(
            {"type": ["integer", "null"], "exclusiveMinimum": 5, "exclusiveMaximum": 6},
            r"allow no value",
            id="nothing between",
        ),
        pytest.param(
            {"type": "integer", "exclusiveMinimum": 1.5, "maximum": 1.9},
            r"allow no value",
            id="nothing between fractions",
        ),
        pytest.param({"minimum": 9, "exclusiveMinimum": True}, r"`exclusiveMinimum` is True", id="boolean bound"),
        pytest.param({"enum": ["x" * 70_000]}, r"characters of names and enum values: 70000", id="long value"),
        pytest.param({"properties": {"x" * 70_000: TEXT}}, r"property name `x+…` has 70000", id="long name"),
        *(
            pytest.param(schema, r"has 257 characters; at most 256 are allowed", id=f"a name of 257, {where}")
            for where, schema in {
                "open": open_object("n" * 257),
                "open to strings": open_object("n" * 257, more=TEXT),
                "closed": {"properties": {"n" * 257: TEXT}},
                "no letters": {"properties": {"é" * 257: TEXT}},
                "required": {"properties": {"_" * 257: TEXT}, "required": ["_" * 257]},
                "in a list": {"items": [{"properties": {"_" * 257: TEXT}}]},
                "behind a reference": {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"_" * 257: TEXT}}}},
                "in allOf": {"allOf": [{"properties": {"_" * 257: TEXT}}]},
                "in additionalProperties": {"additionalProperties": {"properties": {"_" * 257: TEXT}}},
            }.items()
        ),
        *(
            pytest.param(schema, r"characters, shared prefixes counted once; at most 900", id=f"open object, {what}")
            for what, schema in {
                "long names": open_object(*(f"{index}{'n' * 200}" for index in range(5))),
                "many names": open_object(*(f"{index:02}{'n' * 30}" for index in range(40)), more=TEXT),
                "required names": {
                    **open_object(*(f"{index}{'n' * 200}" for index in range(5))),
                    "required": [f"{index}{'n' * 200}" for index in range(5)],
                },
                "inside another": open_object(
                    "a", more=open_object(*(f"{index}{'n' * 200}" for index in range(5)), more={})
                ),
            }.items()
        ),
        *(
            pytest.param(schema, r"over 40000000 characters of names", id=f"names of rules, {what}")
            for what, schema in {
                "repetitions": under(45, "n" * 256, texts(190, maxLength=1_990)),
                "items": under(45, "n" * 256, {"items": [{"items": TEXT, "minItems": 1_999}] * 4}),
                "patterns": under(45, "n" * 256, texts(190, pattern="^[a-z]{1,99}$")),
                "open objects": under(45, "n" * 256, {"items": [open_object("a" * 256, "b" * 256)] * 60}),
                "short names, deep": under(45, "n" * 20, texts(190, maxLength=1_990)),
                "behind references": {
                    **under(20, "n" * 256, {"$ref": "#/$defs/a"}),
                    "$defs": {"a": texts(190, maxLength=1_990)},
                },
            }.items()
        ),
        pytest.param(texts(1_000, pattern="^[a-z]{1900}$"), r"repetitions in its strings", id="many long patterns"),
        pytest.param(
            {"prefixItems": [{"type": "string", "maxLength": 1_999}] * 250},
            r"repetitions in its strings",
            id="many long texts",
        ),
        pytest.param(alike(120, **TEXT), r"1200; at most 1000", id="alternatives alike"),
        pytest.param(alike(40, enum=list(range(40))), r"1600; at most 1000", id="alternatives times values"),
        pytest.param({"allOf": [{"anyOf": [TEXT] * 60}] * 2}, r"1200; at most", id="merged alternatives"),
        pytest.param({"$ref": "#"}, r"refers to itself", id="circle"),
        pytest.param({"allOf": [{"$ref": "#"}]}, r"refers to itself", id="circle of allOf"),
        pytest.param({"anyOf": [{"$ref": "#"}, TEXT]}, r"refers to itself", id="circle of anyOf"),
        pytest.param(
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            r"refers to itself",
            id="circle of two",
        ),
        pytest.param(DOUBLING, r"subschemas|levels", id="doubling references"),
        pytest.param(recursive(variant("", "a"), variant("", "a", "b")), r"begin alike", id="untagged tree"),
        pytest.param(recursive(variant("x", "a"), variant("x", "b")), r"begin alike", id="equal tags"),
        pytest.param(recursive({"properties": {"a": {"$ref": "#"}}}, {}), r"begin alike", id="anything beside"),
        pytest.param(
            {"anyOf": [{"type": "array", "items": {"$ref": "#"}}] * 2}, r"begin alike", id="lists of lists twice"
        ),
        pytest.param({"$ref": "http://127.0.0.1:9/x"}, r"points outside the schema", id="address"),
        pytest.param({"$ref": "file:///etc/passwd"}, r"points outside the schema", id="file"),
        pytest.param({"$ref": "#/$defs/none"}, r"points to nothing", id="nowhere"),
        pytest.param({"$ref": "#/const", "const": {}}, r"points into `const`", id="into a constant"),
        pytest.param(
            {"properties": {"properties": {"enum": {}}}, "$ref": "#/properties/properties/enum"},
            r"points into `enum`",
            id="into an enum's values",
        ),
        pytest.param({"$defs": TEXT, "$ref": "#/$defs"}, r"points to a map", id="to a map"),
        pytest.param({"$ref": "#/" + "a" * 2_000}, r"characters in a `\$ref`: 2002", id="long reference"),
        pytest.param({"type": ["string"] * 50_000}, r"types of one value: 50000", id="many types"),
        pytest.param({"$ref": 5}, r"points outside", id="number as reference"),
        pytest.param({"type": "evil"}, r"`type` is 'evil'", id="type"),
        pytest.param({"type": ["string", {}]}, r"`type` is", id="odd type"),
        pytest.param({"properties": [1]}, r"`properties` is an array", id="properties"),
        pytest.param({"properties": {"a": 5}}, r"subschema is a number", id="subschema"),
        pytest.param(
            {"additionalProperties": {"enum": list(range(1_001))}}, r"1001; at most 1000", id="without a type"
        ),
        pytest.param({"enum": "abc"}, r"`enum` is a string", id="enum is no list"),
        pytest.param({"anyOf": {"a": 1}}, r"`anyOf` is an object", id="anyOf is no list"),
        pytest.param({"type": "string", "pattern": 5}, r"`pattern` is a number", id="pattern"),
        pytest.param(
            {"type": "string", "pattern": "^((a*)*)*$"}, r"repeats an expression that can be empty", id="star of star"
        ),
        pytest.param(
            {"anyOf": [{"type": "integer", "minimum": n, "maximum": 2**53} for n in range(1, 100)]},
            r"a weight of",
            id="alternatives of ranges",
        ),
        pytest.param(
            {"items": [{"type": "integer", "minimum": -(2**53), "maximum": 2**53} for _ in range(200)]},
            r"digits in its integer limits",
            id="many ranges",
        ),
        pytest.param(
            {"type": "string", "pattern": "(a?){50}"}, r"repeats an expression that can be empty", id="many optionals"
        ),
        pytest.param({"type": "string", "pattern": "a?" * 200}, r"at most 1000", id="optionals in a row"),
        pytest.param({"type": "string", "pattern": "(a|aa){1,200}"}, r"at most 1000", id="lengths that vary"),
        pytest.param({"type": "string", "pattern": "a{0,500}a{0,500}"}, r"at most 1000", id="counts in a row"),
        pytest.param(
            {"type": "string", "pattern": "(a{1,900}){1,900}"}, r"expands to more than", id="counts of counts"
        ),
        pytest.param({"type": "string", "pattern": "a{5000}"}, r"repeats 5000 times", id="count"),
        pytest.param({"type": "string", "pattern": "(" * 900}, r"16 levels", id="deep groups"),
        pytest.param({"type": "string", "pattern": "(?=a)"}, r"only `\(\?:`", id="look-ahead"),
        pytest.param({"type": "string", "pattern": "[a"}, r"without a `\]`", id="open class"),
        pytest.param({"type": "string", "pattern": "a)"}, r"without a `\(`", id="closed group"),
        pytest.param({"type": "string", "pattern": "x" * 1_001}, r"1001 characters", id="long pattern"),
    ],
)
def test_a_costly_schema_is_refused_with_the_reason(schema: Any, pattern: str) -> None:
    started = time.process_time()
    with pytest.raises(SchemaRefused, match=pattern) as caught:
        check_schema(schema)
    assert time.process_time() - started < 0.25
    assert re.search(r"must be|needs|\. (Use|Lower|Leave|Correct|Name|Put|Add|Set|Start) ", str(caught.value))


OPEN = {"$ref": "#/$defs/a"}
REFERENCES = {"reference": OPEN, "nullable": {"oneOf": [OPEN, {"type": "null"}]}}
MANY = {"enum": [f"value{number}" for number in range(1_001)]}


@pytest.mark.parametrize(
    "child",
    [
        {"allOf": [OPEN, {"type": "object"}]},
        {"allOf": [OPEN], "type": "object"},
        {"type": "array", "items": {"allOf": [{"type": "object"}, OPEN]}},
        {"allOf": [{"anyOf": [OPEN, {"type": "object"}]}, {"type": "object"}]},
        {"allOf": [{"$ref": "#/$defs/b"}, {"type": "object"}]},
        {"allOf": [{"$ref": "#"}, {"type": "object"}]},
        {"allOf": [{"oneOf": [OPEN, {"type": "null"}]}, {"type": "object"}]},
        {"allOf": [{"oneOf": [OPEN]}, {"oneOf": [OPEN]}], "type": "string"},
        {"allOf": [{"anyOf": [{"anyOf": [OPEN]}]}, {"type": "object"}]},
        {"allOf": [{"$ref": "#/$defs/reference"}, {"type": "object"}]},
        {"allOf": [{"$ref": "#/$defs/nullable"}, {"type": "object"}]},
        {"allOf": [{"allOf": [OPEN, {"type": "object"}]}, {"type": "object"}]},
        {"enum": ["x"], "oneOf": [{"allOf": [OPEN, {"type": "object"}]}]},
        {"const": "x", "anyOf": [{"allOf": [OPEN, {"type": "object"}]}]},
        {"enum": ["x"], "allOf": [OPEN, {"type": "object"}]},
    ],
    ids=[
        "first",
        "beside a type",
        "last",
        "in anyOf",
        "by another",
        "the root",
        "in oneOf",
        "in two oneOf",
        "in two anyOf",
        "by a reference to a reference",
        "by a reference to oneOf",
        "in two allOf",
        "beside an enum in oneOf",
        "beside a const in anyOf",
        "beside an enum",
    ],
)
def test_a_circle_of_merged_schemas_is_refused(child: Any) -> None:
    """llama.cpp expands them in place, and would crash."""
    inner = {"type": "object", "properties": {"c": {"allOf": [OPEN, {"type": "object"}]}}}
    schema = {**OPEN, "$defs": {"a": {"type": "object", "properties": {"child": child}}, "b": inner, **REFERENCES}}
    (found,) = bound_schemas([schema])
    assert "refers to itself through an `allOf`" in found["refused"]


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["x"], "anyOf": [MANY]},
        {"const": "x", "oneOf": [MANY]},
        {"allOf": [{"enum": ["x"], "properties": {"c": MANY}}, {"type": "object"}]},
        {"type": ["string", "null"], "enum": MANY["enum"][:501]},
    ],
    ids=["anyOf beside an enum", "oneOf beside a const", "properties beside an enum", "an enum for each type"],
)
def test_an_enum_hides_no_weight(schema: dict[str, Any]) -> None:
    (found,) = bound_schemas([schema])
    assert "at most 1000" in found["refused"]


def test_a_merged_schema_can_refer_to_itself_in_a_property() -> None:
    branch = {"type": "object", "properties": {"next": OPEN}, "required": ["next"]}
    (found,) = bound_schemas(
        [{**OPEN, "$defs": {"a": {"allOf": [branch, {"type": "object", "properties": {"n": TEXT}}]}}}]
    )
    assert "schema" in found


def test_an_allof_with_nothing_else_is_its_schema() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"allOf": [OPEN], "title": "T"}}}}
    (found,) = bound_schemas([{**OPEN, "$defs": {"a": tree}}])
    assert found["schema"]["$defs"]["a"]["properties"]["children"]["items"] == OPEN


def test_upper_limits_beyond_a_grammar_are_left_out() -> None:
    value = {"maxLength": 10**6}
    schema = {"type": "string", "maxLength": 10**6, "minLength": 2, "default": 1, "enum": [value]}
    assert without_long_limits(schema) == {"type": "string", "minLength": 2, "default": 1, "enum": [value]}


def test_limits_of_integers_become_whole_numbers() -> None:
    schema = {"type": "integer", "minimum": -1.5, "exclusiveMaximum": 2.5, "maxItems": 2.0}
    assert without_long_limits(schema) == {"type": "integer", "minimum": -1, "exclusiveMaximum": 3, "maxItems": 2}


def test_properties_named_like_keywords_hold_schemas() -> None:
    limited = {"type": "string", "maxLength": 10**6}
    schema = {"properties": dict.fromkeys(("enum", "const", "maxLength", "properties"), limited)}
    assert without_long_limits(schema) == {"properties": {name: {"type": "string"} for name in schema["properties"]}}


REPEATED: dict[str, dict[str, Any]] = {
    "a long pattern": {"type": "string", "pattern": "^" + "a?" * 20 + "b" * 900 + "$"},
    "a long `required`": {"type": "object", "required": ["x"] * 30_000},
    "a long enum": {"enum": ["a"] * 30_000},
    "many keywords": {"type": "string", **{f"x-{index}": index for index in range(30_000)}},
}


@pytest.mark.parametrize("repeated", REPEATED.values(), ids=REPEATED)
def test_schemas_with_repeated_references_are_weighed_in_a_child_process(repeated: dict[str, Any]) -> None:
    uses = {f"p{index}": {"$ref": "#/$defs/s"} for index in range(1_400)}
    schema = {"$defs": {"s": repeated}, "properties": uses, "required": list(uses), "anyOf": [*uses.values()][:900]}
    assert limit_cpu_time(0.1, lambda: asyncio.run(bounded_schemas([schema])))
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert limit_cpu_time(0.1, lambda: asyncio.run(bounded_call_schema(tool)))
