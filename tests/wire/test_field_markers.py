"""Fields of objects that a version of the API lacks are marked, and what is left out derives from the markers."""

from typing import Annotated, NotRequired

import pytest
from typing_extensions import TypedDict

from tests.sdk_types import SDK_TYPES, UNDECLARED
from wire.field_markers import FieldMarker, marked_fields
from wire.object_types import OBJECT_TYPES


class _Base(TypedDict):
    plain: int
    newer: Annotated[int, FieldMarker.ADDED_IN_V2]


class _Object(_Base):
    note: NotRequired[Annotated[str | None, FieldMarker.EXTENSION, FieldMarker.ADDED_IN_V2]]
    inside: list[Annotated[int, FieldMarker.V1_ONLY]]


@pytest.mark.parametrize(
    ("markers", "names"),
    [
        ([FieldMarker.ADDED_IN_V2], {"newer", "note"}),
        ([FieldMarker.EXTENSION], {"note"}),
        ([FieldMarker.V1_ONLY], set()),
        ([FieldMarker.ADDED_IN_V2, FieldMarker.V1_ONLY], {"newer", "note"}),
    ],
    ids=["one marker", "optional field", "marker inside a list", "any of several"],
)
def test_marked_fields_are_found_in_all_bases(markers: list[FieldMarker], names: set[str]) -> None:
    assert marked_fields(_Object, *markers) == names


@pytest.mark.parametrize("name", OBJECT_TYPES)
def test_every_field_that_openai_lacks_is_marked(name: str) -> None:
    declared = OBJECT_TYPES[name].__annotations__.keys() - UNDECLARED.get(name, set())
    marked = marked_fields(OBJECT_TYPES[name], FieldMarker.EXTENSION, FieldMarker.V1_ONLY)
    assert declared - SDK_TYPES[name].model_fields.keys() == marked
