"""Builds one HTTP request from an operation and its arguments: path, query, headers, cookies and body, as in OpenAPI.

Pure: it sends nothing. Invariants: an argument cannot change what surrounds it: a path value stays within its segment,
a header value within its line, a query value within its pair. Each part is counted before it is written, because the
size of a request is a product: a name is written once for each of its values, and a path can contain one parameter many
times.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

from graphs.tools.arguments import BadArguments
from graphs.tools.bodies import Body, is_json
from graphs.tools.operations import Field, Operation
from wire.json import Json, JsonObject

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_URL_BYTES",
    "HttpRequest",
    "Pairs",
    "build_request",
    "serialize_field",
]

MAX_URL_BYTES: Final = 65_536
"""The HTTP library's limit. Servers accept 8 to 64 KiB."""

MAX_HEADER_BYTES: Final = 65_536
"""Maximum bytes of the names and values of headers from arguments, including cookies."""

MAX_BODY_BYTES: Final = 4_194_304

_PART_BYTES: Final = 128
"""Bytes of a multipart field in addition to its name, content and media type: two boundaries' worth, rounded up."""

Pairs = list[tuple[str, str]]
_RESERVED = ":/?@!$'()*,;"  # what `allowReserved` leaves unencoded; never `&`, `=`, `+`, `#`, `[`, `]`
_DELIMITERS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_TRIPLE = re.compile("(%[0-9A-Fa-f]{2})")

Encode = Callable[[str], str]
"""Percent-encodes one value, so that no part of it is read as a delimiter."""


class _ByteLimit:
    """Counts the bytes of one part of a request, such as its URL, before they are written."""

    def __init__(self, part: str, maximum: int) -> None:
        self._part = part
        self._maximum = maximum
        self._left = maximum

    def add(self, size: int) -> None:
        """Count `size` bytes. Raises BadArguments if the part becomes too long."""
        self._left -= size
        if self._left < 0:
            raise BadArguments(
                f"with them and the defaults, the request's {self._part} has more than {self._maximum} bytes, which is "
                "the limit; use fewer or shorter values"
            )


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without its credentials. `files` are multipart fields: name, (None, content, media type or None)."""

    method: str
    url: str
    headers: Pairs
    content: bytes | None = None
    files: list[tuple[str, tuple[None, bytes, str | None]]] | None = None


def build_request(operation: Operation, arguments: JsonObject) -> HttpRequest:
    """Return the request without credentials; `arguments` have passed `read_arguments`.

    Raises:
        BadArguments: a value is not allowed in its part of the request, or a part is too large.
    """
    url = _ByteLimit("URL", MAX_URL_BYTES)
    head = _ByteLimit("header", MAX_HEADER_BYTES)
    in_path: dict[str, str] = {}
    query: list[str] = []
    headers: Pairs = []
    cookies: list[str] = []
    for field in operation.fields:
        if field.argument not in arguments:
            continue
        value = arguments[field.argument]
        match field.location:
            case "path":
                in_path[field.name] = _serialize_path(field, value, url)
            case "query":
                encode = _encode_reserved if field.reserved else _encode
                query += _join_pairs(_serialize(field, value, encode, url), _encode_name, url)
            case "header":
                for _, text in _serialize(field, value, _as_it_is, head):
                    head.add(len(field.name) + _bytes(text))
                    headers.append((field.name, _header_value(field, text)))
            case _:
                cookies += _join_pairs(_serialize(field, value, _encode, head), _encode, head)
    path = _fill_path(operation.path, in_path, url)
    _check_path(path)
    if cookies:
        headers.append(("Cookie", "; ".join(cookies)))
    # A query within the path (`/query?function=QUOTE`) is against the specification, but common.
    target = operation.server + path + (("&" if "?" in path else "?") + "&".join(query) if query else "")
    content, files = _content(operation, arguments, headers)
    return HttpRequest(operation.method, target, headers, content, files)


def _fill_path(path: str, values: dict[str, str], limit: _ByteLimit) -> str:
    """Insert the values, after counting the result: a path can contain one of them many times."""
    pieces = re.split(r"\{([^{}]+)\}", path)  # texts and names alternate
    for index in range(1, len(pieces), 2):
        pieces[index] = values.get(pieces[index], "{" + pieces[index] + "}")
    limit.add(sum(map(len, pieces)))
    return "".join(pieces)


def _join_pairs(pairs: Iterable[tuple[str, str]], encode_name: Encode, limit: _ByteLimit) -> Iterator[str]:
    """Yield `name=value` for each pair. A name that consecutive pairs share is encoded once."""
    last, encoded = "", ""
    for name, text in pairs:
        if name != last:
            last, encoded = name, encode_name(name)
        limit.add(len(encoded) + len(text) + 2)  # `=` and `&`
        yield f"{encoded}={text}"


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _encode_name(text: str) -> str:
    return quote(text, safe="[]", errors="replace")


def _encode(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _encode_reserved(text: str) -> str:
    """RFC 6570's reserved expansion: reserved characters and what is already percent-encoded stay unchanged."""
    parts = enumerate(_TRIPLE.split(text))
    return "".join(part if index % 2 else quote(part, safe=_RESERVED, errors="replace") for index, part in parts)


def _as_it_is(text: str) -> str:
    return text


def serialize_field(field: Field, value: Json, encode: Encode = _as_it_is) -> Pairs:
    """Return a parameter's name and value as pairs, with each value encoded by `encode`; path values always are.

    The comma between values is not encoded (RFC 6570), so that a server can distinguish it from one inside a value.
    Spaces and pipes between values are encoded: neither is allowed in a URL. Names are not encoded.

    Raises BadArguments.
    """
    return list(_serialize(field, value, encode, _ByteLimit("URL", MAX_URL_BYTES)))


def _serialize(field: Field, value: Json, encode: Encode, limit: _ByteLimit) -> Iterator[tuple[str, str]]:
    if field.location == "path":
        yield field.name, _serialize_path(field, value, limit)
    elif field.json:
        yield field.name, encode(_json(value))
    elif field.location == "header":
        yield field.name, _join(value, explode=field.explode)
    else:
        yield from _serialize_form(field.name, value, _Form(field.style, field.explode, encode, limit))


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return _json(value)


def _join(value: Json, *, explode: bool) -> str:
    """Return a value in the style `simple`: a,b for a list; k,v,k,v or (exploded) k=v,k=v for an object."""
    if isinstance(value, dict):
        pairs = [(key, _text(each)) for key, each in value.items()]
        return ",".join(f"{key}={each}" if explode else f"{key},{each}" for key, each in pairs)
    return ",".join(map(_text, value)) if isinstance(value, list) else _text(value)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a query, a cookie or a form writes lists and objects."""

    style: str
    explode: bool
    encode: Encode
    limit: _ByteLimit

    def join(self, parts: list[str]) -> str:
        delimiter = _DELIMITERS.get(self.style)
        return ("," if delimiter is None else self.encode(delimiter)).join(map(self.encode, parts))


def _serialize_form(name: str, value: Json, form: _Form) -> Iterator[tuple[str, str]]:
    encode = form.encode
    if form.style == "deepObject":
        yield from _serialize_deep_object(name, value, form)
    elif isinstance(value, list):
        if form.explode:
            yield from ((name, encode(_text(each))) for each in value)
        elif value:
            yield name, form.join([_text(each) for each in value])
    elif not isinstance(value, dict):
        yield name, encode(_text(value))
    elif form.explode:
        yield from ((key, encode(_text(each))) for key, each in value.items())
    elif value:
        yield name, form.join([part for key, each in value.items() for part in (key, _text(each))])


def _serialize_deep_object(name: str, value: Json, form: _Form) -> Iterator[tuple[str, str]]:
    # OpenAPI defines one level of an object. Deeper values and lists, which Stripe's documents have, are written as
    # PHP, Rails and Node's qs read them: a[b][c]=1, a[]=1&a[]=2, and with an index if the list has lists or objects.
    if isinstance(value, dict):
        inner: Iterable[tuple[str, Json]] = ((str(key), each) for key, each in value.items())
    elif isinstance(value, list):
        numbered = any(isinstance(each, dict | list) for each in value)
        inner = ((str(index) if numbered else "", each) for index, each in enumerate(value))
    else:
        yield name, form.encode(_text(value))
        return
    for key, each in inner:
        if isinstance(each, dict | list):
            form.limit.add(len(name) + len(key))  # an empty list counts, too, although its name is not written
        yield from _serialize_deep_object(f"{name}[{key}]", each, form)


def _serialize_path(field: Field, value: Json, limit: _ByteLimit) -> str:
    if field.json:
        return _encode(_json(value))

    def encode(each: Json) -> str:
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
        repeated = f"{field.name}=" if named and field.explode else ""
        limit.add(len(repeated) * len(value))
        parts = [repeated + encode(each) for each in value]
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
    operation: Operation, arguments: JsonObject, headers: Pairs
) -> tuple[bytes | None, list[tuple[str, tuple[None, bytes, str | None]]] | None]:
    body = operation.body
    if body is None:
        return None, None
    value, given = _body_value(operation, body, arguments)
    if not given:
        return None, None
    limit = _ByteLimit("body", MAX_BODY_BYTES)
    bare = body.media_type.partition(";")[0].strip().lower()
    if bare == "multipart/form-data" and isinstance(value, dict):
        return None, _multipart(body, value, limit)
    headers.append(("Content-Type", "application/json" if "*" in bare else body.media_type))
    if bare == "application/x-www-form-urlencoded" and isinstance(value, dict):
        return "&".join(_form(body, value, limit)).encode(), None
    content = (_json(value) if is_json(bare) else _text(value)).encode("utf-8", "replace")
    limit.add(len(content))
    return content, None


def _body_value(operation: Operation, body: Body, arguments: JsonObject) -> tuple[Json, bool]:
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


def _form(body: Body, value: dict[str | None, Json], limit: _ByteLimit) -> Iterator[str]:
    """Yield `name=value`, encoded."""
    for key, each in value.items():
        name = str(key)
        encoding = body.encoding.get(name) or {}
        if isinstance(each, dict) and "style" not in encoding:
            pairs: Iterable[tuple[str, str]] = [(name, _encode_form(_text(each)))]
        else:
            style = encoding.get("style", "form")
            pairs = _serialize_form(
                name, each, _Form(style, encoding.get("explode", style == "form"), _encode_form, limit)
            )
        yield from _join_pairs(pairs, _encode_form, limit)


def _multipart(
    body: Body, value: dict[str | None, Json], limit: _ByteLimit
) -> list[tuple[str, tuple[None, bytes, str | None]]]:
    parts: list[tuple[str, tuple[None, bytes, str | None]]] = []
    for key, each in value.items():
        name = str(key)
        declared = (body.encoding.get(name) or {}).get("contentType")
        overhead = len(_encode_name(name)) + len(declared or "application/json") + _PART_BYTES
        for item in each if isinstance(each, list) else [each]:
            kind = declared or ("application/json" if isinstance(item, dict | list) else None)
            content = _text(item).encode("utf-8", "replace")
            limit.add(overhead + len(content))
            parts.append((name, (None, content, kind)))
    return parts
