from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.tools.arguments import BadArguments
from graphs.tools.http_requests import build_request, serialize_field
from graphs.tools.operations import Field, ParameterLocation
from tests.graphs.tools.apis import document, operation

BLUE: list[Any] = ["blue", "black", "brown"]
RGB: dict[str, Any] = {"R": 100, "G": 200, "B": 150}


# The table of the OpenAPI specification, "Style Examples" (colour written as `color`).
@pytest.mark.parametrize(
    ("location", "style", "explode", "value", "expected"),
    [
        ("path", "matrix", False, "blue", [("color", ";color=blue")]),
        ("path", "matrix", False, BLUE, [("color", ";color=blue,black,brown")]),
        ("path", "matrix", False, RGB, [("color", ";color=R,100,G,200,B,150")]),
        ("path", "matrix", True, BLUE, [("color", ";color=blue;color=black;color=brown")]),
        ("path", "matrix", True, RGB, [("color", ";R=100;G=200;B=150")]),
        ("path", "label", False, "blue", [("color", ".blue")]),
        ("path", "label", True, BLUE, [("color", ".blue.black.brown")]),
        ("path", "label", True, RGB, [("color", ".R=100.G=200.B=150")]),
        ("path", "simple", False, BLUE, [("color", "blue,black,brown")]),
        ("path", "simple", False, RGB, [("color", "R,100,G,200,B,150")]),
        ("path", "simple", True, RGB, [("color", "R=100,G=200,B=150")]),
        ("header", "simple", False, BLUE, [("color", "blue,black,brown")]),
        ("header", "simple", True, RGB, [("color", "R=100,G=200,B=150")]),
        ("query", "form", False, BLUE, [("color", "blue,black,brown")]),
        ("query", "form", False, RGB, [("color", "R,100,G,200,B,150")]),
        ("query", "form", True, BLUE, [("color", "blue"), ("color", "black"), ("color", "brown")]),
        ("query", "form", True, RGB, [("R", "100"), ("G", "200"), ("B", "150")]),
        ("query", "spaceDelimited", False, BLUE, [("color", "blue black brown")]),
        ("query", "pipeDelimited", False, BLUE, [("color", "blue|black|brown")]),
        ("query", "pipeDelimited", False, RGB, [("color", "R|100|G|200|B|150")]),
        ("query", "deepObject", True, RGB, [("color[R]", "100"), ("color[G]", "200"), ("color[B]", "150")]),
        ("query", "form", True, True, [("color", "true")]),
        ("query", "form", True, None, [("color", "")]),
        ("query", "form", True, 1.5, [("color", "1.5")]),
    ],
)
def test_styles_are_encoded_as_in_the_specification(
    location: ParameterLocation, style: str, explode: bool, value: Any, expected: list[tuple[str, str]]
) -> None:
    assert serialize_field(Field("color", "color", location, style, explode, {}, False), value) == expected


COMMAS: list[Any] = ["a,b", "c d", "é&="]
ODD: dict[str, Any] = {"a": "1,2", "b": "x|y"}


@pytest.mark.parametrize(
    ("location", "style", "explode", "value", "encoded"),
    [
        ("query", "form", False, BLUE, "color=blue,black,brown"),
        ("query", "form", False, COMMAS, "color=a%2Cb,c%20d,%C3%A9%26%3D"),
        ("query", "form", True, COMMAS, "color=a%2Cb&color=c%20d&color=%C3%A9%26%3D"),
        ("query", "form", False, ODD, "color=a,1%2C2,b,x%7Cy"),
        ("query", "form", True, ODD, "a=1%2C2&b=x%7Cy"),
        ("query", "form", False, [1, True, None], "color=1,true,"),
        ("query", "form", False, "a,b", "color=a%2Cb"),
        ("query", "form", False, [], ""),
        ("query", "form", False, {}, ""),
        ("query", "spaceDelimited", False, COMMAS, "color=a%2Cb%20c%20d%20%C3%A9%26%3D"),
        ("query", "spaceDelimited", False, RGB, "color=R%20100%20G%20200%20B%20150"),
        ("query", "pipeDelimited", False, COMMAS, "color=a%2Cb%7Cc%20d%7C%C3%A9%26%3D"),
        ("query", "pipeDelimited", True, BLUE, "color=blue&color=black&color=brown"),
        ("query", "deepObject", True, ODD, "color[a]=1%2C2&color[b]=x%7Cy"),
        ("path", "simple", False, COMMAS, "/a%2Cb,c%20d,%C3%A9%26%3D"),
        ("path", "simple", True, ODD, "/a=1%2C2,b=x%7Cy"),
        ("path", "label", False, COMMAS, "/.a%2Cb,c%20d,%C3%A9%26%3D"),
        ("path", "label", True, ["a.b", "c"], "/.a.b.c"),
        ("path", "matrix", False, COMMAS, "/;color=a%2Cb,c%20d,%C3%A9%26%3D"),
        ("path", "matrix", True, ["a;b", "c"], "/;color=a%3Bb;color=c"),
        ("header", "simple", False, BLUE, "blue,black,brown"),
        ("header", "simple", False, RGB, "R,100,G,200,B,150"),
        ("cookie", "form", False, COMMAS, "color=a%2Cb,c%20d,%C3%A9%26%3D"),
        ("cookie", "form", False, RGB, "color=R,100,G,200,B,150"),
        ("cookie", "form", True, ["a;b", "c"], "color=a%3Bb; color=c"),
    ],
)
def test_a_delimiter_in_a_value_does_not_split_it(
    location: ParameterLocation, style: str, explode: bool, value: Any, encoded: str
) -> None:
    path = "/{color}" if location == "path" else "/x"
    schema = {"type": "array" if isinstance(value, list) else "object"}
    field = {"name": "color", "in": location, "style": style, "explode": explode, "required": True, "schema": schema}
    call = build_request(
        operation(document("https://api.test", {path: {"get": {"parameters": [field]}}})), {"color": value}
    )
    url = urlsplit(call.url)
    sent = {"path": url.path, "query": url.query}.get(location) or "".join(text for _, text in call.headers)
    assert sent == encoded


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a/b?c:d@e", "a/b?c:d@e"),
        (["a,b", "/c"], "a,b,/c"),
        ("50%25 a%2Fb 100%", "50%25%20a%2Fb%20100%25"),
        ("a&b=c#d", "a%26b%3Dc%23d"),
    ],
    ids=["reserved", "list", "encoded already", "would end the pair"],
)
def test_reserved_characters_are_kept_where_they_are_allowed(value: Any, encoded: str) -> None:
    field = {"name": "q", "in": "query", "allowReserved": True, "explode": False, "schema": {}}
    called = operation(document("https://api.test", {"/x": {"get": {"parameters": [field]}}}))
    assert urlsplit(build_request(called, {"q": value}).url).query == f"q={encoded}"


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ({}, "tags=a%2Cb&tags=c+d"),
        ({"explode": False}, "tags=a%2Cb,c+d"),
        ({"style": "spaceDelimited"}, "tags=a%2Cb+c+d"),
        ({"style": "pipeDelimited", "explode": False}, "tags=a%2Cb%7Cc+d"),
    ],
    ids=["default", "explode false", "space", "pipe"],
)
def test_a_form_encodes_lists_as_specified(encoding: dict[str, Any], encoded: str) -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
    form = {"schema": schema, **({"encoding": {"tags": encoding}} if encoding else {})}
    body = {"requestBody": {"content": {"application/x-www-form-urlencoded": form}}}
    called = operation(document("https://api.test", {"/x": {"post": body}}))
    assert build_request(called, {"tags": ["a,b", "c d"]}).content == encoded.encode()


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (["data.customer", "a&b"], "expand[]=data.customer&expand[]=a%26b"),
        ({"in": [1, 2]}, "expand[in][]=1&expand[in][]=2"),
        ([{"price": "p", "tiers": [1]}, {"price": "q"}], "expand[0][price]=p&expand[0][tiers][]=1&expand[1][price]=q"),
        ({"a": {"b": {"c": None}}}, "expand[a][b][c]="),
        (5, "expand=5"),
        ([], ""),
    ],
    ids=["list", "list in an object", "objects in a list", "deep", "number", "nothing"],
)
def test_deep_objects_encode_lists_in_brackets(value: Any, encoded: str) -> None:
    field = {"name": "expand", "in": "query", "style": "deepObject", "explode": True, "schema": {}}
    called = operation(document("https://api.test", {"/x": {"get": {"parameters": [field]}}}))
    assert urlsplit(build_request(called, {"expand": value}).url).query == encoded


def test_a_form_encodes_deep_objects_in_brackets() -> None:
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object"}}}}
    form = {"schema": schema, "encoding": {"items": {"style": "deepObject", "explode": True}}}
    body = {"requestBody": {"content": {"application/x-www-form-urlencoded": form}}}
    called = operation(document("https://api.test", {"/x": {"post": body}}))
    assert build_request(called, {"items": [{"price": "a&b"}]}).content == b"items%5B0%5D%5Bprice%5D=a%26b"


@pytest.mark.parametrize(("arguments", "query"), [({"q": "a"}, "function=QUOTE&q=a"), ({}, "function=QUOTE")])
def test_a_path_s_own_query_is_continued(arguments: dict[str, Any], query: str) -> None:
    field = {"name": "q", "in": "query", "schema": {"type": "string"}}
    called = operation(document("https://api.test", {"/query?function=QUOTE": {"get": {"parameters": [field]}}}))
    assert urlsplit(build_request(called, arguments).url).query == query


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_PARAMETERS = [
    {"name": "p", "in": "path", "required": True, "schema": {"type": "string"}},
    {"name": "q", "in": "query", "schema": {"type": "string"}},
    {"name": "l", "in": "query", "schema": {"type": "array"}},
    {"name": "H", "in": "header", "schema": {"type": "string"}},
]
CALLED = operation(document("https://api.test/v1", {"/a/{p}/z": {"get": {"parameters": _PARAMETERS}}}))


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT, st.lists(TEXT), TEXT)
def test_no_value_leaves_its_part_and_each_arrives_unchanged(p: str, q: str, items: list[str], header: str) -> None:
    try:
        call = build_request(CALLED, {"p": p, "q": q, "l": items, "H": header})
    except BadArguments:
        assert p in ("", ".", "..") or any(ord(each) < 32 or ord(each) == 127 for each in header)
        return
    url = urlsplit(call.url)
    assert (url.scheme, url.netloc, url.fragment) == ("https", "api.test", "")
    assert [unquote(part) for part in url.path.split("/")] == ["", "v1", "a", p, "z"]
    pairs = parse_qsl(url.query, keep_blank_values=True)
    assert pairs == [("q", q), *(("l", item) for item in items)]
    assert call.headers == [("H", header.strip())]
