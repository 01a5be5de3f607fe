"""What schemathesis cannot say in a form, told to it by SCHEMATHESIS_HOOKS; see test_fuzz.py."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out what is meant to be wrong and rightly accepted.

    Forms with a list of none or of one: nothing is sent for the one, and for the other what a field that is no list
    sends. JSON with an empty array: where an object is expected, PHP means an empty one by it.
    """
    del context
    if case.media_type != "multipart/form-data":
        return not (case.meta is not None and case.meta.generation.mode.is_negative and _has_empty_array(case.body))
    if not isinstance(case.body, dict):
        return True
    return not any(isinstance(value, list) and len(value) < 2 for value in case.body.values())


def _has_empty_array(value: Any) -> bool:
    if isinstance(value, list):
        return not value or any(map(_has_empty_array, value))
    return isinstance(value, dict) and any(map(_has_empty_array, value.values()))
