"""An operation and its arguments as one HTTP request: path, query, headers, cookies and body, spelt as OpenAPI says.

Pure: nothing is sent from here. Law: no argument leaves its place: a path value stays within its segment, a header
value within its line, a query value within its pair.
"""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from graphs.tools.arguments import BadArguments
from graphs.tools.bodies import Body, is_json
from graphs.tools.operations import Field, Operation

__all__ = ["Call", "Pairs", "build_call", "spell_field"]

Pairs = list[tuple[str, str]]
_RESERVED = ":/?@!$'()*,;"  # what `allowReserved` leaves as it is; never `&`, `=`, `+`, `#`, `[`, `]`
_DELIMITERS = {"spaceDelimited": " ", "pipeDelimited": "|"}


@dataclass(frozen=True, slots=True)
class Call:
    """What goes over the wire. `files` are multipart fields: name, (None, content, media type or None)."""

    method: str
    url: str
    headers: Pairs
    content: bytes | None = None
    files: list[tuple[str, tuple[None, bytes, str | None]]] | None = None


def build_call(operation: Operation, arguments: dict[str, Any]) -> Call:
    """Return the request without credentials; `arguments` have passed `read_arguments`.

    Raises:
        BadArguments: a value cannot stand where it has to.
    """
    path = operation.path
    query: list[str] = []
    headers: Pairs = []
    cookies: list[str] = []
    for field in operation.fields:
        if field.argument not in arguments:
            continue
        pairs = spell_field(field, arguments[field.argument])
        match field.place:
            case "path":
                path = path.replace("{" + field.name + "}", pairs[0][1])
            case "query":
                safe = _RESERVED if field.reserved else ""
                query += [f"{quote(name, safe='[]')}={quote(value, safe=safe)}" for name, value in pairs]
            case "header":
                headers += [(field.name, _header_value(field, value)) for _, value in pairs]
            case _:
                cookies += [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs]
    _check_path(path)
    if cookies:
        headers.append(("Cookie", "; ".join(cookies)))
    url = operation.server + path + ("?" + "&".join(query) if query else "")
    content, files = _content(operation, arguments, headers)
    return Call(operation.method, url, headers, content, files)


def spell_field(field: Field, value: Any) -> Pairs:
    """Return a parameter's name and value as pairs; path values are percent-encoded already, the others are not."""
    if field.json:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return [(field.name, quote(text, safe="") if field.place == "path" else text)]
    if field.place == "path":
        return [(field.name, _spell_path(field, value))]
    if field.place == "header":
        return [(field.name, _join(value, explode=field.explode))]
    return _spell_form(field.name, value, style=field.style, explode=field.explode)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _join(value: Any, *, explode: bool) -> str:
    """`simple` style: a,b for a list; k,v,k,v or (exploded) k=v,k=v for an object."""
    if isinstance(value, dict):
        pairs = [(key, _text(each)) for key, each in value.items()]
        return ",".join(f"{key}={each}" if explode else f"{key},{each}" for key, each in pairs)
    return ",".join(map(_text, value)) if isinstance(value, list) else _text(value)


def _spell_form(name: str, value: Any, *, style: str, explode: bool) -> Pairs:
    if isinstance(value, list):
        if explode:
            return [(name, _text(each)) for each in value]
        return [(name, _DELIMITERS.get(style, ",").join(map(_text, value)))] if value else []
    if not isinstance(value, dict):
        return [(name, _text(value))]
    if style == "deepObject":
        return _spell_deep(name, value)
    if explode:
        return [(key, _text(each)) for key, each in value.items()]
    delimiter = _DELIMITERS.get(style, ",")
    return [(name, delimiter.join(part for key, each in value.items() for part in (key, _text(each))))]


def _spell_deep(name: str, value: dict[str, Any]) -> Pairs:
    # OpenAPI leaves values deeper than one level open; this is what most servers read: a[b][c]=1, lists repeated.
    pairs: Pairs = []
    for key, each in value.items():
        inner = f"{name}[{key}]"
        if isinstance(each, dict):
            pairs += _spell_deep(inner, each)
        else:
            pairs += [(inner, _text(item)) for item in (each if isinstance(each, list) else [each])]
    return pairs


def _spell_path(field: Field, value: Any) -> str:
    def encode(each: Any) -> str:
        return quote(_text(each), safe="")

    mark, between = {"label": (".", "."), "matrix": (";", ";")}.get(field.style, ("", ","))
    named = field.style == "matrix"
    if isinstance(value, dict):
        parts = [
            f"{encode(key)}={encode(each)}" if field.explode else f"{encode(key)},{encode(each)}"
            for key, each in value.items()
        ]
        named = named and not field.explode
    elif isinstance(value, list):
        parts = [f"{field.name}={encode(each)}" if named and field.explode else encode(each) for each in value]
        named = named and not field.explode
    else:
        parts = [encode(value)]
    text = (between if field.explode else ",").join(parts)
    if not text:
        raise BadArguments(f"`{field.argument}` is empty, but is part of the path")
    return mark + (f"{field.name}={text}" if named else text)


def _check_path(path: str) -> None:
    if any(segment in (".", "..") for segment in path.split("/")):
        raise BadArguments("a value in the path may be neither `.` nor `..`")


def _header_value(field: Field, value: str) -> str:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise BadArguments(f"`{field.argument}` has a line break or control character, but is sent as a header")
    return value.strip()


def _content(
    operation: Operation, arguments: dict[str, Any], headers: Pairs
) -> tuple[bytes | None, list[tuple[str, tuple[None, bytes, str | None]]] | None]:
    body = operation.body
    if body is None:
        return None, None
    value, given = _body_value(operation, body, arguments)
    if not given:
        return None, None
    bare = body.media_type.partition(";")[0].strip().lower()
    if bare == "multipart/form-data" and isinstance(value, dict):
        return None, _multipart(body, value)
    headers.append(("Content-Type", "application/json" if "*" in bare else body.media_type))
    if is_json(bare):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"), None
    if bare == "application/x-www-form-urlencoded" and isinstance(value, dict):
        return urlencode(_form(body, value), errors="replace").encode(), None
    return _text(value).encode("utf-8", "replace"), None


def _body_value(operation: Operation, body: Body, arguments: dict[str, Any]) -> tuple[Any, bool]:
    if body.fields and body.fields[0].name is None:  # the body as a whole
        argument = body.fields[0].argument
        return arguments.get(argument), argument in arguments
    value = {field.name: arguments[field.argument] for field in body.fields if field.argument in arguments}
    if body.extra:
        known = {field.argument for field in operation.fields} | {field.argument for field in body.fields}
        value |= {name: each for name, each in arguments.items() if name not in known}
    return value, bool(value) or body.required


def _form(body: Body, value: dict[str | None, Any]) -> Pairs:
    pairs: Pairs = []
    for key, each in value.items():
        name = str(key)
        encoding = body.encoding.get(name) or {}
        if isinstance(each, dict) and "style" not in encoding:
            pairs.append((name, _text(each)))
        else:
            style = encoding.get("style", "form")
            pairs += _spell_form(name, each, style=style, explode=encoding.get("explode", style == "form"))
    return pairs


def _multipart(body: Body, value: dict[str | None, Any]) -> list[tuple[str, tuple[None, bytes, str | None]]]:
    parts: list[tuple[str, tuple[None, bytes, str | None]]] = []
    for key, each in value.items():
        name = str(key)
        told = (body.encoding.get(name) or {}).get("contentType")
        for item in each if isinstance(each, list) else [each]:
            kind = told or ("application/json" if isinstance(item, dict | list) else None)
            parts.append((name, (None, _text(item).encode("utf-8", "replace"), kind)))
    return parts
