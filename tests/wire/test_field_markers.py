"""Fields of objects that a version of the API lacks are marked, and what is left out derives from the markers."""

from typing import Annotated, NotRequired

import pytest
from openai import BaseModel
from openai.types.beta import Assistant, Thread
from openai.types.beta.threads import Message, Run
from openai.types.beta.threads.runs import RunStep
from typing_extensions import TypedDict

from wire.field_markers import FieldMarker, marked_fields
from wire.object_types import OBJECT_TYPES

SDK_TYPES = {
    "assistant": Assistant,
    "thread": Thread,
    "thread.message": Message,
    "thread.run": Run,
    "thread.run.step": RunStep,
}
NOT_IN_SDK = {
    "assistant": {"reasoning_effort"},
    "thread.run": {"reasoning_effort", "tool_resources"},
    "thread.run.step": {"expires_at"},
}
"""Fields that OpenAI's objects have and its SDK does not declare."""


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
    sdk_type: type[BaseModel] = SDK_TYPES[name]
    declared = OBJECT_TYPES[name].__annotations__.keys() - NOT_IN_SDK.get(name, set())
    marked = marked_fields(OBJECT_TYPES[name], FieldMarker.EXTENSION, FieldMarker.V1_ONLY)
    assert declared - sdk_type.model_fields.keys() == marked
