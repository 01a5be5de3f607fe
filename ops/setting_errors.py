"""Describes invalid settings: one line per error, with the setting, its value, what is allowed and what to do.

Invariant: the value of a secret is never shown. What is allowed comes from the settings' own JSON schema.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from ops.files import near_name
from wire.paths import truncated

__all__ = ["describe_errors"]

_SECRETS: Final = frozenset(
    {"api_keys", "api_key", "model_api_key", "metrics_key", "s3_access_key", "s3_secret_key", "model_url", "url"}
    | {"database_url", "redis_url"}
)
"""Keys, and addresses that can contain a password."""
_KINDS: Final = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true` or `false`",
    "string": "a text",
    "array": "a list of texts",
    "object": "a table of names and values",
}


def describe_errors(error: ValidationError | SettingsError, model: type[BaseModel]) -> list[str]:
    """Return a sentence or two for each fault that pydantic found in settings of `model`."""
    if isinstance(error, ValidationError):
        return [_describe(each, model) for each in error.errors(include_url=False)]
    name = next((name for name in model.model_fields if f'"{name}"' in str(error)), "")
    return [f"{name.upper() or 'A setting'} must be JSON in the environment. Set it in threadhold.toml instead."]


def _describe(error: ErrorDetails, model: type[BaseModel]) -> str:
    name = _setting_name(error["loc"])
    if error["type"] == "value_error":
        return f"{name}: {error['ctx']['error']}"
    if error["type"] == "extra_forbidden":
        return _unknown(error["loc"], model)
    if error["type"] == "string_pattern_mismatch" and error["loc"][-1] == "[key]":
        return f"{name}: names have letters, digits, `.`, `_` and `-`, and begin with a letter or a digit. Rename it."
    schema = _schema(error["loc"], model.model_json_schema(mode="validation"))
    default = schema.get("default")
    hint = f" (default: `{_value(default)}`)" if isinstance(default, str | int | float) and default != "" else ""
    return f"{name} {_found(error)}must be {_allowed(schema)}. Correct it or remove it{hint}."


def _setting_name(loc: Sequence[str | int]) -> str:
    """Name a setting as docs/settings.md does: `MAX_RUNS`, or `url` of [upstreams.gpu]."""
    names = [part for part in loc if isinstance(part, str) and part != "[key]"]
    match names:
        case []:
            return "Settings"
        case ["upstreams", name]:
            return f"[upstreams.{truncated(name)}]"
        case ["upstreams", name, key, *_]:
            return f"`{truncated(key)}` of [upstreams.{truncated(name)}]"
        case ["prompts", name]:
            return f"`{truncated(name)}` of [prompts]"
        case _:
            return names[0].upper()


def _found(error: ErrorDetails) -> str:
    """Describe the value, unless it is a secret."""
    if _SECRETS & set(error["loc"]):
        return ""
    return f"is `{_value(error['input'])}`, but " if error["input"] != "" else "is empty, but "


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping | list | tuple):
        return "a table" if isinstance(value, Mapping) else "a list"
    return truncated("".join(each if each.isprintable() else "?" for each in str(value)))


def _schema(loc: Sequence[str | int], root: dict[str, object]) -> dict[str, object]:
    """Return the schema of a setting: the alternatives and references in it resolved, null left out."""
    found = root
    for part in loc:
        patterns, known = _table(found.get("patternProperties")), _table(found.get("properties"))
        others = [*patterns.values(), found.get("additionalProperties"), found.get("items")]
        found = _resolved(known.get(str(part)) or next(filter(None, others), None), root)
    return found


def _table(value: object) -> dict[str, object]:
    """Return an object of the schema; empty if it is absent."""
    return value if isinstance(value, dict) else {}


def _resolved(schema: object, root: dict[str, object]) -> dict[str, object]:
    if not isinstance(schema, dict):
        return {}
    others = {name: value for name, value in schema.items() if name not in ("anyOf", "$ref")}
    if "$ref" in schema:
        return {**_table(_table(root["$defs"])[schema["$ref"].rpartition("/")[2]]), **others}
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return {**_resolved(options[0], root), **others} if options else schema


def _allowed(schema: dict[str, object]) -> str:
    if isinstance(options := schema.get("enum"), list) and options:
        *first, last = (f"`{each}`" for each in options)
        return f"{', '.join(first)} or {last}"
    kind = _KINDS.get(str(schema.get("type")), "a value of another kind")
    minimum, above, maximum = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if minimum is not None and maximum is not None:
        return f"{kind} from {minimum:g} to {maximum:g}"
    if minimum is not None:
        return f"{kind} of at least {minimum:g}"
    return f"{kind} above {above:g}" if above is not None else kind


def _unknown(loc: Sequence[str | int], model: type[BaseModel]) -> str:
    *outer, name = loc
    known = _table(_schema(outer, model.model_json_schema(mode="validation")).get("properties"))
    near = near_name(str(name), known)
    advice = f"Did you mean `{near}`?" if near else f"Use {', '.join(f'`{each}`' for each in known)}."
    return f"{_setting_name(outer)}: `{truncated(name)}` is not a setting. {advice}"
