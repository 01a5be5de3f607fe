"""Escapes in JSON become characters, and the structure is unchanged."""

import json

import pytest

from documents.jsontext import decode_escapes


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (r'{"name": "\u738b\u5c0f\u660e"}', '{"name": "王小明"}'),
        (r'{"\u00fcber": 1}', '{"über": 1}'),
        (r'"\ud83d\ude00"', '"😀"'),
        (r'"\uD83D\uDE00"', '"😀"'),
        (r'"\ud83d alone"', r'"\ud83d alone"'),
        (r'"a\nb\tc\/d"', '"a\nb\tc/d"'),
        (r'"say \"no\" and \u0022no\u0022"', r'"say \"no\" and \u0022no\u0022"'),
        (r'"C:\\users\\new \\u738b"', r'"C:\\users\\new \\u738b"'),
        (r'{"a": "x", "b": "\u738b"}', '{"a": "x", "b": "王"}'),
        ('{"a": 1}\n{"b": "\\u738b"}\n', '{"a": 1}\n{"b": "王"}\n'),
        (r'{"broken": "\u738b", "C:\users": ["\u', '{"broken": "王", "C:\\users": ["\\u'),
        (r'"\u0000\u0007"', '"  "'),
        ("no escapes", "no escapes"),
    ],
)
def test_escapes_are_decoded_only_where_strings_stay_valid(given: str, text: str) -> None:
    assert decode_escapes(given) == text


def test_decoded_json_keeps_its_meaning() -> None:
    value = {"a\\b": ['"\\"', "ü\n王😀\t", "\\u738b", 'x"', {"": [None, 1.5, True]}]}
    assert json.loads(decode_escapes(json.dumps(value)), strict=False) == value


def test_a_large_file_is_decoded_quickly() -> None:
    text = json.dumps([{"id": number, "name": "王小明"} for number in range(100_000)])
    assert decode_escapes(text).count("王小明") == 100_000
