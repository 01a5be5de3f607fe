"""Adapts requests to the demo model: with 135 million parameters, it repeats itself and does not stop. Pure.

Invariants: only parameters that a request leaves open are set. A string or list that its schema bounds keeps that
bound. Requests to other models do not change: their answers end by themselves, and their strings can be long.
"""

import re
from typing import Final

from chains.chat_types import JsonSchema
from chains.prompts import DEFAULT_PROMPTS

__all__ = ["DEMO_REPLY_TOKENS", "demo_request"]

DEMO_REPLY_TOKENS: Final = 256
"""The limit of a reply, in tokens, if nothing else limits it."""

_END: Final = 2  # `<|im_end|>` in the one file of the demo model (its hash is checked)
# DRY makes a repetition less likely the longer it is. The bias makes the end of the turn likelier: with 5, the demo
# stops at the end of a sentence, mostly within 200 tokens; without it, a third of its answers never end.
_PLAIN: Final = {
    "logit_bias": [[_END, 5.0]],
    "dry_multiplier": 0.8,
    "dry_allowed_length": 5,
    "dry_penalty_last_n": 512,
    "dry_sequence_breakers": ['"'],
    "repeat_penalty": 1.05,
    # After its answer it tends to imitate the server's prompts, such as "Result of get_weather(…)".
    "stop": [f"\n{DEFAULT_PROMPTS.result.partition('{')[0]}", f"\n{DEFAULT_PROMPTS.answer}"],
}
# JSON of any shape has no bounds. It copies from the prompt, so only a long repetition is a loop.
_FREE_JSON: Final = {
    "dry_multiplier": 0.8,
    "dry_allowed_length": 12,
    "dry_penalty_last_n": 512,
    "dry_sequence_breakers": ["<|im_end|>"],
}

_LONG_TEXT: Final = re.compile(
    r"text|content|body|code|quer(?:y|ies)|message|descri|summar|prompt|html|script|command|sql|note|comment|answer"
    r"|question|ur[li]|path|json|data|input|markdown|reason|explan|story|essay",
    re.IGNORECASE,
)
_STRING: Final = 100
_LONG_STRING: Final = 300
_UNBOUNDED: Final = 1_900  # the bound that `calls.call_schemas` gives to strings without one
_FORMATS: Final = {"date": 10, "time": 20, "date-time": 35, "uuid": 36, "ipv4": 15, "ipv6": 45, "email": 100}
_ITEMS: Final = 12
_MAX_NODES: Final = 5_000
_NAMED_CHILDREN: Final = ("properties", "$defs", "definitions")


def demo_request(payload: dict[str, object]) -> dict[str, object]:
    """Return a `/chat/completions` body for the demo model, with its sampling and with bounds for a schema."""
    wanted = payload.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return {**_PLAIN, **payload}
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        return {**_FREE_JSON, **payload}
    bounded = _Bounds().write(described["schema"], "")
    return {**payload, "response_format": {**wanted, "json_schema": {**described, "schema": bounded}}}


class _Bounds:
    """Adds plausible bounds, by name, to strings and lists that have none."""

    def __init__(self) -> None:
        self._nodes = 0

    def write(self, schema: object, name: str) -> object:
        """Return a schema with bounds; nodes beyond the limit stay unchanged."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            return schema
        if isinstance(schema, list):
            return [self.write(one, name) for one in schema]
        if not isinstance(schema, dict):
            return schema
        written = {key: self._member(key, value, name) for key, value in schema.items()}
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "string" in kinds and not {"enum", "const", "pattern"} & schema.keys():
            written["maxLength"] = _longest(schema, name)
        if "array" in kinds:
            written.setdefault("maxItems", max(_ITEMS, _count(schema.get("minItems"))))
        return written

    def _member(self, key: str, value: object, name: str) -> object:
        if key in _NAMED_CHILDREN and isinstance(value, dict):
            return {child: self.write(one, child) for child, one in value.items()}
        if key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties"):
            return self.write(value, name)
        return value


def _longest(schema: JsonSchema, name: str) -> int:
    given = schema.get("maxLength")
    if type(given) is int and given < _UNBOUNDED:
        return given
    format_ = schema.get("format")
    if isinstance(format_, str) and format_ in _FORMATS:
        plausible = _FORMATS[format_]
    else:
        is_long = _LONG_TEXT.search(f"{name} {schema.get('description') or ''}")
        plausible = _LONG_STRING if is_long else _STRING
    return max(plausible, _count(schema.get("minLength")))


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
