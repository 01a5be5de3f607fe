"""Maps a request body to arguments for the model: one for each property of an object, or one for the whole body.

Of several media types, the one that text can express best is chosen: JSON, form, multipart, plain text, or the first.
"""

import json
from dataclasses import dataclass, field

from graphs.tools.pointers import Pointer
from graphs.tools.schemas import Inliner
from wire.json import JsonObject, UncheckedJson

__all__ = ["Body", "FieldOf", "is_json", "read_body"]


@dataclass(frozen=True, slots=True)
class FieldOf:
    """One property of a body, or (if `name` is None) the whole body."""

    argument: str
    name: str | None
    schema: JsonObject
    required: bool
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request. `extra`: arguments that the schema does not name belong to it, too."""

    media_type: str
    required: bool
    fields: tuple[FieldOf, ...]
    extra: bool = False
    encoding: JsonObject = field(default_factory=dict)


def is_json(media_type: str) -> bool:
    """Return whether `media_type`, regardless of case and parameters, is JSON. `*/*` and `+json` are, too."""
    bare = media_type.partition(";")[0].strip().lower()
    return bare in {"application/json", "*/*", "application/*", "text/json"} or bare.endswith("+json")


def read_body(inliner: Inliner, node: UncheckedJson, *, taken: set[str], pointer: Pointer) -> Body | None:
    """Return the body of an operation; argument names avoid those `taken` by parameters."""
    node = inliner.resolve(node)
    if not isinstance(node, dict) or not node.get("content"):
        return None
    content: JsonObject = node["content"]
    media_type = min(content, key=_rank)
    media = inliner.resolve(content[media_type])
    schema = inliner.schema(media.get("schema", {}), (*pointer, "content", media_type, "schema"))
    required = node.get("required") is True
    merged = _as_object(schema) if _rank(media_type) < _RANK_TEXT else None
    if merged is None:
        whole = FieldOf(
            _free("body", taken), None, schema, required, schema.get("description") or node.get("description")
        )
        return Body(media_type, required, (whole,), encoding=media.get("encoding") or {})
    fields: list[FieldOf] = []
    taken = set(taken)
    for name, each in merged["properties"].items():
        if isinstance(each, dict) and each.get("readOnly") is True:
            continue
        argument = _free(name, taken)
        taken.add(argument)
        fields.append(FieldOf(argument, name, each if isinstance(each, dict) else {}, name in merged["required"]))
    return Body(media_type, required, tuple(fields), merged["extra"], media.get("encoding") or {})


_RANK_TEXT = 3


def _rank(media_type: str) -> int:
    bare = media_type.partition(";")[0].strip().lower()
    if is_json(bare):
        return 0
    return {"application/x-www-form-urlencoded": 1, "multipart/form-data": 2, "text/plain": _RANK_TEXT}.get(bare, 4)


def _free(name: str, taken: set[str]) -> str:
    candidate, count = name if name not in taken else f"body_{name}", 1
    while candidate in taken:
        count += 1
        candidate = f"body_{name}_{count}"
    return candidate


def _as_object(schema: JsonObject) -> JsonObject | None:
    """Return {properties, required, extra} if the schema, with its `allOf`, is an object; otherwise None."""
    if schema.keys() & {"anyOf", "oneOf", "not", "if", "patternProperties"}:
        return None
    if schema.get("type", "object") not in ("object", ["object"]):
        return None
    written: dict[str, list[UncheckedJson]] = {name: [each] for name, each in (schema.get("properties") or {}).items()}
    required: set[str] = set(schema.get("required") or ())
    extra = bool(schema.get("additionalProperties", False))
    for part in schema.get("allOf") or ():
        inner = _as_object(part) if isinstance(part, dict) else None
        if inner is None:
            return None
        for name, each in inner["properties"].items():
            written.setdefault(name, []).append(each)
        required |= inner["required"]
        extra = extra or inner["extra"]
    if not written and "allOf" not in schema:
        return None
    return {
        "properties": {name: _all_of(parts) for name, parts in written.items()},
        "required": required,
        "extra": extra,
    }


def _all_of(schemas: list[UncheckedJson]) -> UncheckedJson:
    """Return one schema for a property that several parts of an `allOf` have, without nested `allOf`s."""
    if len(schemas) == 1:
        return schemas[0]
    parts: dict[str, UncheckedJson] = {}  # by content: a document can repeat one schema thousands of times
    for schema in schemas:
        only_parts = isinstance(schema, dict) and schema.keys() == {"allOf"}
        parts |= {json.dumps(each): each for each in (schema["allOf"] if only_parts else [schema])}
    return next(iter(parts.values())) if len(parts) == 1 else {"allOf": list(parts.values())}
