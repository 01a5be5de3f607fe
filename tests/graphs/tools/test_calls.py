from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.tools.arguments import BadArguments
from graphs.tools.calls import build_call, spell_field
from graphs.tools.operations import Field, Place
from tests.graphs.tools.apis import document, operation

BLUE: list[Any] = ["blue", "black", "brown"]
RGB: dict[str, Any] = {"R": 100, "G": 200, "B": 150}


# The table of the OpenAPI specification, "Style Examples" (colour written as `color`).
@pytest.mark.parametrize(
    ("place", "style", "explode", "value", "expected"),
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
def test_styles_are_spelt_as_the_specification_shows(
    place: Place, style: str, explode: bool, value: Any, expected: list[tuple[str, str]]
) -> None:
    assert spell_field(Field("color", "color", place, style, explode, {}, False), value) == expected


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
def test_no_value_leaves_its_place_and_each_arrives_whole(p: str, q: str, items: list[str], header: str) -> None:
    try:
        call = build_call(CALLED, {"p": p, "q": q, "l": items, "H": header})
    except BadArguments:
        assert p in ("", ".", "..") or any(ord(each) < 32 or ord(each) == 127 for each in header)
        return
    url = urlsplit(call.url)
    assert (url.scheme, url.netloc, url.fragment) == ("https", "api.test", "")
    assert [unquote(part) for part in url.path.split("/")] == ["", "v1", "a", p, "z"]
    pairs = parse_qsl(url.query, keep_blank_values=True)
    assert pairs == [("q", q), *(("l", item) for item in items)]
    assert call.headers == [("H", header.strip())]
