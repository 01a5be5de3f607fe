"""Parses an OpenAPI document into a plain tree, and checks its size, depth, `$ref`s and conformance, in this order.

Invariant: any input is processed in bounded time and memory, and nothing is ever fetched: a `$ref` out of the document
is refused before the validator sees it. Every refusal is an `InvalidRequest` with a JSON pointer.
"""

import json
import math
import re
from collections.abc import Callable, Iterator

import yaml

from graphs.tools.pointers import Pointer, follow, format_pointer
from graphs.tools.scalars import Scalar, resolve_scalars
from wire.empty_objects import fill_document
from wire.errors import InvalidRequest
from wire.json import Json, JsonObject, UncheckedJson

__all__ = ["MAX_DOCUMENT_BYTES", "MAX_EXPANDED", "MAX_NODES", "ErrorFactory", "read_document"]

MAX_DOCUMENT_BYTES = 1_048_576
MAX_DEPTH = 64  # levels of nesting as written
MAX_NODES = 50_000  # values as written; YAML aliases count at each use
MAX_EXPANDED = 100_000  # values that the validator visits when it follows `$ref`s

ErrorFactory = Callable[[str], InvalidRequest]
"""Makes the error for a message; it knows the tool that the document belongs to."""

# Keywords that can make a library look outside the document, or change the base of relative `$ref`s.
_MOVING = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"})


def read_document(source: str | JsonObject, refuse: ErrorFactory) -> JsonObject:
    """Parse and check an OpenAPI 3.0 or 3.1 document. Takes up to a few seconds of CPU, so not on an event loop.

    Raises:
        InvalidRequest: made by `refuse`; the message names the position in the document.
    """
    try:
        parsed = _parse(source, refuse) if isinstance(source, str) else source
        plain = fill_document(_plain(parsed, refuse))  # PHP writes `[]` for an empty object
        if not isinstance(plain, dict):
            raise refuse("the document is not an object")
        document: JsonObject = resolve_scalars(plain)
        _check_references(document, refuse)
        _check_specification(document, refuse)
    except RecursionError:
        raise refuse("the document nests too deeply, or its references go round in a circle") from None
    return document


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML with the scalar types of YAML 1.2's core schema: `on` and `2024-01-01` stay text, as in OpenAPI."""

    yaml_implicit_resolvers: JsonObject = {}  # noqa: RUF012 - PyYAML's own class attribute
    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Limit what merge keys (`<<`) copy: lists of merges of merges grow exponentially."""
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(part, yaml.MappingNode):
                    self.flatten_mapping(part)
                    self.merged += len(part.value)
            if self.merged > MAX_NODES:
                raise yaml.YAMLError(f"merge keys make more than {MAX_NODES} values")
        super().flatten_mapping(node)


_PREFIX = "tag:yaml.org,2002:"
_PATTERNS: dict[str, re.Pattern[str]] = {}
"""Tag of a scalar → the pattern of its text."""

for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _PATTERNS[_PREFIX + _tag] = re.compile(rf"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(_PREFIX + _tag, _PATTERNS[_PREFIX + _tag], list(_first))


def _construct_scalar(loader: Json, node: yaml.ScalarNode) -> Scalar:
    if not _PATTERNS[node.tag].match(node.value):  # an explicit tag, for which PyYAML accepts more
        kind = node.tag.removeprefix(_PREFIX)
        raise yaml.constructor.ConstructorError(
            None, None, f"`{node.value[:40]}` is not of type {kind}", node.start_mark
        )
    return Scalar(yaml.SafeLoader.yaml_constructors[node.tag](loader, node), node.value)


for _tag in ("bool", "int", "float", "null"):
    _Loader.add_constructor(_PREFIX + _tag, _construct_scalar)
for _tag in ("timestamp", "binary", "omap", "pairs", "set"):  # not JSON; some constructors fail on invalid text
    del _Loader.yaml_constructors[_PREFIX + _tag]


def _parse(text: str, refuse: ErrorFactory) -> UncheckedJson:
    size = len(text.encode(errors="replace"))
    if size > MAX_DOCUMENT_BYTES:
        raise refuse(f"the document has {size} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")
    wrong: Exception | None = None
    try:
        if text.lstrip().startswith("{"):
            try:
                return json.loads(text, parse_float=_json_number, parse_int=_json_number)
            except json.JSONDecodeError as error:
                wrong = error  # it can still be YAML's flow style
        _check_events(text, refuse)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # e.g. a number with thousands of digits, unhashable keys
        reason = " ".join(str(wrong or error).split())[:300]
        raise refuse(f"it is {'not JSON' if wrong else 'neither YAML nor JSON'}: {reason}") from None


def _json_number(text: str) -> Scalar:
    return Scalar(int(text) if text.lstrip("-").isdigit() else float(text), text)


def _check_events(text: str, refuse: ErrorFactory) -> None:
    # Composing nodes recurses in C, so the depth is checked first, on events, which need no recursion.
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > 2 * MAX_NODES:
            raise refuse(
                _too_large(
                    f"line {event.start_mark.line + 1}" if event.start_mark else "its text", deep=depth > MAX_DEPTH
                )
            )


def _too_large(pointer: str, *, deep: bool) -> str:
    figure = f"nests deeper than {MAX_DEPTH} levels" if deep else f"has more than {MAX_NODES} values"
    return f"the document {figure} (at {pointer})"


def _plain(value: Json, refuse: ErrorFactory) -> UncheckedJson:
    """Copy into dicts with text keys, lists and JSON's scalars. Aliases become copies, so that the size is counted."""
    count = 0

    def copy(value: Json, pointer: Pointer) -> Json:
        nonlocal count
        count += 1
        if count > MAX_NODES or len(pointer) > MAX_DEPTH:
            raise refuse(_too_large(format_pointer(pointer[:MAX_DEPTH]), deep=count <= MAX_NODES))
        if isinstance(value, dict):
            return {(name := _repaired(_key(key))): copy(item, (*pointer, name)) for key, item in value.items()}
        if isinstance(value, list):
            return [copy(item, (*pointer, index)) for index, item in enumerate(value)]
        if isinstance(value, str):
            return _repaired(value)
        number = value.value if isinstance(value, Scalar) else value
        if number is None or isinstance(number, bool | int) or (isinstance(number, float) and math.isfinite(number)):
            return value
        raise refuse(f"`{format_pointer(pointer)}` is not a JSON value")

    return copy(value, ())


def _repaired(text: str) -> str:
    """Replace unpaired surrogates, which cannot be encoded."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _key(key: Json) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, Scalar):
        return key.text or "null"
    return json.dumps(key) if key is None or isinstance(key, bool | int | float) else str(key)


def _walk(value: Json, pointer: Pointer = ()) -> Iterator[tuple[Pointer, JsonObject]]:
    if isinstance(value, dict):
        yield pointer, value
        for key, item in value.items():
            yield from _walk(item, (*pointer, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*pointer, index))


def _check_references(document: JsonObject, refuse: ErrorFactory) -> None:
    for pointer, node in _walk(document):
        for key in _MOVING & node.keys():
            if isinstance(node[key], str):
                raise refuse(
                    f"`{format_pointer(pointer)}` has `{key}`, which is not supported: use `$ref`s of the form `#/…`"
                )
        reference = node.get("$ref")
        if not isinstance(reference, str):
            continue
        seen: set[str] = set()
        target: UncheckedJson = node
        while isinstance(target, dict) and isinstance(target.get("$ref"), str):
            reference = target["$ref"]
            if reference in seen or len(seen) == MAX_DEPTH:
                raise refuse(f"`{format_pointer((*pointer, '$ref'))}` is circular, or a chain of too many references")
            seen.add(reference)
            if not reference.startswith("#"):
                where = format_pointer((*pointer, "$ref"))
                raise refuse(f"`{where}` leaves the document (`{reference[:200]}`), which is not allowed")
            try:
                target = follow(document, reference)
            except LookupError:
                raise refuse(
                    f"`{format_pointer((*pointer, '$ref'))}` names `{reference[:200]}`, which does not exist"
                ) from None
    _check_expansion(document, refuse)


def _check_expansion(document: JsonObject, refuse: ErrorFactory) -> None:
    """Refuse `$ref` bombs: add up the values that the validator visits repeatedly."""
    sizes: dict[int, int] = {}

    def size(node: Json) -> int:
        if not isinstance(node, dict | list):
            return 1
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = 1  # if it contains itself, the inner occurrence counts once
        total = 1 + sum(size(item) for item in (node.values() if isinstance(node, dict) else node))
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            total += size(follow(document, node["$ref"]))
        sizes[id(node)] = total
        return total

    walked = 0
    for pointer, node in _walk(document):
        if isinstance(node.get("allOf"), list):
            walked += size(node["allOf"])
        if "default" in node:
            walked += size(node)
        if walked > MAX_EXPANDED:
            raise refuse(f"the `$ref`s at `{format_pointer(pointer)}` expand to more than {MAX_EXPANDED} values")


def _check_specification(document: JsonObject, refuse: ErrorFactory) -> None:
    # Imported here: these take five megabytes and a few tenths of a second, and only actions need them.
    from jsonschema.exceptions import UnknownType
    from jsonschema.validators import validator_for
    from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator, schemas

    version = document.get("openapi")
    if version in ("3.0", "3.1"):
        version = document["openapi"] = f"{version}.0"  # many omit the patch version, and it makes no difference
    if not isinstance(version, str) or not re.fullmatch(r"3\.[01]\.\d+(-.+)?", version):
        raise refuse(f"`#/openapi` is `{str(version)[:40]}`; versions 3.0 and 3.1 are supported, as text like `3.1.0`")
    # A hostile `pattern` could keep Python's `re` busy forever when a `default` is checked: patterns are removed.
    checker, schema = (
        (OpenAPIV30SpecValidator, schemas.schema_v30)
        if version.startswith("3.0")
        else (OpenAPIV31SpecValidator, schemas.schema_v31)
    )
    validator = checker(_without_patterns(document))
    # Not `validator.iter_errors()`: openapi-spec-validator 0.9 keeps every document that it has seen in an unbounded
    # lru_cache there. These are its two halves. They can become one call again once that cache is gone.
    # The first half uses `jsonschema`: the library takes jsonschema-rs if it is installed, and its messages differ.
    error = next(validator_for(schema)(schema).iter_errors(validator.schema), None)
    try:
        error = error or next(validator.root_validator(validator.schema_path), None)
    except RecursionError:
        # The library's search for property names under `allOf` does not support lists that contain themselves. They
        # are valid; invalid circles are found when the operations are built.
        pass
    except (LookupError, TypeError, AttributeError, UnknownType):
        raise refuse("a `$ref` points to an object of the wrong kind") from None
    if error is not None:
        raise refuse(_deepest(error))


def _deepest(error: UncheckedJson) -> str:
    # Under `oneOf` (object or `$ref`), the errors of the alternatives are more specific than "not valid under any".
    specific = [each for each in error.context or () if "$ref" not in each.message]
    if not specific:
        return _short(error.message) + f" (at `{format_pointer(tuple(error.absolute_path))}`)"
    best = max(specific, key=lambda each: (each.validator == "enum", len(each.absolute_path)))
    if best.validator == "enum":
        same = [each for each in specific if each.validator == "enum" and each.absolute_path == best.absolute_path]
        values = ", ".join(str(value) for each in same for value in each.validator_value)
        return f"{best.instance!r} is not one of: {values} (at `{format_pointer(tuple(best.absolute_path))}`)"
    return _deepest(best)


def _short(message: str) -> str:
    return message if len(message) <= 300 else message[:140] + " … " + message[-140:]


def _without_patterns(value: Json) -> UncheckedJson:
    if isinstance(value, dict):
        return {
            key: {} if key == "patternProperties" else _without_patterns(item)
            for key, item in value.items()
            if not (key == "pattern" and isinstance(item, str))
        }
    return [_without_patterns(item) for item in value] if isinstance(value, list) else value
