"""An operation and its arguments as one HTTP request: path, query, headers, cookies and body, spelt as OpenAPI says.

Pure: nothing is sent from here. Law: no argument leaves its place: a path value stays within its segment, a header
value within its line, a query value within its pair.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from graphs.tools.arguments import BadArguments
from graphs.tools.bodies import Body, is_json
from graphs.tools.operations import Field, Operation

__all__ = ["Call", "Pairs", "build_call", "spell_field"]

Pairs = list[tuple[str, str]]
_RESERVED = ":/?@!$'()*,;"  # what `allowReserved` leaves as it is; never `&`, `=`, `+`, `#`, `[`, `]`
_DELIMITERS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_TRIPLE = re.compile("(%[0-9A-Fa-f]{2})")

Encode = Callable[[str], str]
"""Percent-encodes one value, so that no part of it reads as a delimiter."""


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
        value = arguments[field.argument]
        match field.place:
            case "path":
                path = path.replace("{" + field.name + "}", spell_field(field, value)[0][1])
            case "query":
                pairs = spell_field(field, value, _encode_reserved if field.reserved else _encode)
                query += [f"{quote(name, safe='[]', errors='replace')}={text}" for name, text in pairs]
            case "header":
                headers += [(field.name, _header_value(field, text)) for _, text in spell_field(field, value)]
            case _:
                cookies += [f"{_encode(name)}={text}" for name, text in spell_field(field, value, _encode)]
    _check_path(path)
    if cookies:
        headers.append(("Cookie", "; ".join(cookies)))
    # A query within the path (`/query?function=QUOTE`) is against the specification, but common.
    url = operation.server + path + (("&" if "?" in path else "?") + "&".join(query) if query else "")
    content, files = _content(operation, arguments, headers)
    return Call(operation.method, url, headers, content, files)


def _encode(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _encode_reserved(text: str) -> str:
    """RFC 6570's reserved expansion: reserved characters stay, and so does what is percent-encoded already."""
    parts = enumerate(_TRIPLE.split(text))
    return "".join(part if index % 2 else quote(part, safe=_RESERVED, errors="replace") for index, part in parts)


def _as_it_is(text: str) -> str:
    return text


def spell_field(field: Field, value: Any, encode: Encode = _as_it_is) -> Pairs:
    """Return a parameter's name and value as pairs, with each value encoded by `encode`; path values always are.

    The comma between values stays as it is (RFC 6570), so that a server can tell it from one inside a value. Spaces and
    pipes between values are encoded as well: neither may stand in a URL. Names are not encoded.
    """
    if field.json:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return [(field.name, _encode(text) if field.place == "path" else encode(text))]
    if field.place == "path":
        return [(field.name, _spell_path(field, value))]
    if field.place == "header":
        return [(field.name, _join(value, explode=field.explode))]
    return _spell_form(field.name, value, _Form(field.style, field.explode, encode))


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


@dataclass(frozen=True, slots=True)
class _Form:
    """How a query, a cookie or a form spells lists and objects."""

    style: str
    explode: bool
    encode: Encode

    def join(self, parts: list[str]) -> str:
        delimiter = _DELIMITERS.get(self.style)
        return ("," if delimiter is None else self.encode(delimiter)).join(map(self.encode, parts))


def _spell_form(name: str, value: Any, form: _Form) -> Pairs:
    encode = form.encode
    if form.style == "deepObject":
        return _spell_deep(name, value, encode)
    if isinstance(value, list):
        if form.explode:
            return [(name, encode(_text(each))) for each in value]
        return [(name, form.join([_text(each) for each in value]))] if value else []
    if not isinstance(value, dict):
        return [(name, encode(_text(value)))]
    if form.explode:
        return [(key, encode(_text(each))) for key, each in value.items()]
    parts = [part for key, each in value.items() for part in (key, _text(each))]
    return [(name, form.join(parts))] if parts else []


def _spell_deep(name: str, value: Any, encode: Encode) -> Pairs:
    # OpenAPI defines one level of an object. Deeper values and lists, which Stripe's documents have, are spelt as PHP,
    # Rails and Node's qs read them: a[b][c]=1, a[]=1&a[]=2, and with an index where lists or objects are in the list.
    if isinstance(value, dict):
        inner = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        numbered = any(isinstance(each, dict | list) for each in value)
        inner = [(str(index) if numbered else "", each) for index, each in enumerate(value)]
    else:
        return [(name, encode(_text(value)))]
    return [pair for key, each in inner for pair in _spell_deep(f"{name}[{key}]", each, encode)]


def _spell_path(field: Field, value: Any) -> str:
    def encode(each: Any) -> str:
        return _encode(_text(each))

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
        pairs = _form(body, value)
        return "&".join(f"{_encode_form(name)}={text}" for name, text in pairs).encode(), None
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


def _encode_form(text: str) -> str:
    return quote_plus(text, errors="replace")


def _form(body: Body, value: dict[str | None, Any]) -> Pairs:
    """Return names and encoded values."""
    pairs: Pairs = []
    for key, each in value.items():
        name = str(key)
        encoding = body.encoding.get(name) or {}
        if isinstance(each, dict) and "style" not in encoding:
            pairs.append((name, _encode_form(_text(each))))
        else:
            style = encoding.get("style", "form")
            pairs += _spell_form(name, each, _Form(style, encoding.get("explode", style == "form"), _encode_form))
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
