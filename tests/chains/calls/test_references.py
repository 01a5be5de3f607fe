"""References into a schema: the same target as in jsonschema, or none."""

import pytest

from chains.calls.references import follow, walk

SCHEMA = {"$defs": {"a/b": {"items": [{"const": 1}, 5]}, "m~n": "x", "Page«X»": {}}}


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("#", SCHEMA),
        ("#/$defs/a~1b/items/0", {"const": 1}),
        ("#/$defs/a~1b/items/1", 5),
        ("#/$defs/m~0n", "x"),
        ("#/$defs/Page%C2%ABX%C2%BB", {}),
    ],
)
def test_a_reference_leads_to_its_target(reference: str, target: object) -> None:
    assert follow(SCHEMA, reference) == target


@pytest.mark.parametrize(
    "reference",
    [
        *("", "x", "#x", "#%2F$defs", "http://127.0.0.1:9/#/$defs"),
        *("#/", "#/nope", "#/$defs/a~1b/items/2", "#/$defs/a~1b/items/x", "#/$defs/a~1b/items/1/y", "#/$defs/m~0n/0"),
    ],
)
def test_any_other_reference_is_a_lookup_error(reference: str) -> None:
    with pytest.raises(LookupError):
        follow(SCHEMA, reference)


def test_a_walk_yields_everything_a_reference_passes_through() -> None:
    assert list(walk(SCHEMA, "#/$defs/m~0n")) == [SCHEMA, SCHEMA["$defs"], "x"]
