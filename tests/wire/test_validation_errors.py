"""The errors of a request: all of them if they are few, the first ones if they are many."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from wire.messages import MessageCreate
from wire.runs import RunCreate, SubmitToolOutputs
from wire.threads import ThreadCreate
from wire.validation_errors import first_error, list_errors
from wire.vector_stores import FileBatchCreate

MANY = 20_000
BAD_PLACE = {"file_id": 1, "attributes": dict.fromkeys("abcdef")}
BAD_PARTS = {"role": "user", "content": [0] * 500}


@pytest.mark.parametrize(
    ("model", "data", "kind", "loc"),
    [
        (ThreadCreate, {"messages": [BAD_PARTS] * 100}, "union_tag_not_found", ("messages", 0, "content", "~parts", 0)),
        (ThreadCreate, {"metadata": {f"k{n}": 0 for n in range(MANY)}}, "string_type", ("metadata", "k0")),
        (ThreadCreate, {f"k{n}": 0 for n in range(MANY)}, "extra_forbidden", ("k0",)),
        (MessageCreate, {"role": "user", "content": "a", "metadata": {str(n): n for n in range(MANY)}}, None, None),
        (RunCreate, {"assistant_id": "a", "additional_messages": [BAD_PARTS] * 100}, None, None),
        (FileBatchCreate, {"files": [BAD_PLACE] * 2000}, None, None),
    ],
    ids=["parts", "metadata", "unknown", "metadata of a message", "additional messages", "files of a batch"],
)  # fmt: skip
def test_of_many_errors_the_first_are_listed(
    model: type[BaseModel], data: Any, kind: str | None, loc: tuple[Any, ...] | None
) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(data)
    all_of_them = raised.value.errors(include_url=False)
    some = list_errors(model, data, raised.value)
    assert len(all_of_them) > 10_000
    assert (some.complete, len(some.errors) < 5_000) == (False, True)
    first = first_error(some.errors)
    assert (first["type"], first["loc"]) == (first_error(all_of_them)["type"], first_error(all_of_them)["loc"])
    assert kind is None or (first["type"], first["loc"]) == (kind, loc)


def test_few_errors_are_all_listed() -> None:
    data = {"tool_outputs": [0, {"tool_call_id": 1}]}
    with pytest.raises(ValidationError) as raised:
        SubmitToolOutputs.model_validate(data)
    listed = list_errors(SubmitToolOutputs, data, raised.value)
    assert (listed.complete, listed.errors) == (True, raised.value.errors(include_url=False))


def test_the_actual_length_of_a_truncated_array_is_reported() -> None:
    resources = {"file_search": {"vector_store_ids": ["vs_x"] * 300}}
    data = {"tool_resources": resources, "metadata": {f"k{n}": 0 for n in range(200)}}
    with pytest.raises(ValidationError) as raised:
        ThreadCreate.model_validate(data)
    listed = list_errors(ThreadCreate, data, raised.value, maximum=100)
    assert (listed.complete, len(listed.errors) < 20) == (False, True)
    assert [len(each["input"]) for each in listed.errors if each["type"] == "too_long"] == [300]
