"""Chunks that differ only in their text are compared instead of parsed, with the same result."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.chunks import ChunkReader
from chains.delta_template import DeltaTemplate


def reader(*, parses: bool = False) -> ChunkReader:
    """Return a reader of chunks; with `parses` one that never compares."""
    made = ChunkReader(host="h", model="m", learn_limit=lambda *_: None)
    if parses:
        made._template.learn = lambda *_: None  # type: ignore[method-assign]
    return made


def chunk(content: str, *, ascii_only: bool = False, **more: Any) -> bytes:
    sent = {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": content}}], **more}
    return json.dumps(sent, ensure_ascii=ascii_only, separators=(",", ":")).encode("utf-8", "surrogatepass")


TEXTS = st.text(st.sampled_from('a"\\ \n\u00e4\U0001f989{}[]<:,\x00') | st.characters(codec="utf-8"), max_size=8)


@given(st.lists(TEXTS, max_size=12), st.booleans(), st.lists(st.sampled_from(["", "x", "assistant", "c"]), max_size=3))
def test_comparing_and_parsing_have_the_same_result(texts: list[str], ascii_only: bool, more: list[str]) -> None:
    fields = {f"f{number}": value for number, value in enumerate(more)}
    payloads = [chunk(text, ascii_only=ascii_only, **fields) for text in ["Hello", "assistant", *texts]]
    one, other = reader(), reader(parses=True)
    assert [one.read(payload) for payload in payloads] == [other.read(payload) for payload in payloads]


@pytest.mark.parametrize(
    "odd",
    [
        chunk("b", usage={"prompt_tokens": 1}),
        chunk("b").replace(b'"index":0', b'"index":1'),
        chunk("b").replace(b'"index":0', b'"index":0,"finish_reason":"stop"'),
        chunk("b").replace(b'"content":"b"', b'"content":""'),
        chunk("b").replace(b'"content":"b"', b'"content":null'),
        chunk("b").replace(b'"content":"b"', b'"content":7'),
        chunk("b").replace(b'"content":"b"', b'"content":"b","reasoning_content":"hm"'),
        chunk("b").replace(b'"content":"b"', b'"content":"b","content":"c"'),
        chunk("b").replace(b'"content":"b"', b'"content":"\\ud83e"'),
        chunk("<think>"),
    ],
    ids=["usage", "index", "finish", "empty", "null", "number", "reasoning", "twice", "half", "tag"],
)
def test_a_chunk_that_differs_otherwise_is_parsed(odd: bytes) -> None:
    one, other = reader(), reader(parses=True)
    for payload in (chunk("a"), chunk("b"), odd, chunk("c"), odd, chunk("\n"), odd):
        assert outcome(one, payload) == outcome(other, payload)


def outcome(made: ChunkReader, payload: bytes) -> Any:
    try:
        return made.read(payload)
    except Exception as error:
        return type(error), str(error)


def test_a_text_that_occurs_twice_is_not_mistaken_for_the_content() -> None:
    payload = b'{"choices":[{"index":0,"delta":{"content":"\\u0061"}}],"model":"a"}'
    one = reader()
    assert [one.read(payload), one.read(payload.replace(b'"a"', b'"other"'))] == [reader(parses=True).read(payload)] * 2


def test_most_chunks_of_a_stream_are_only_compared() -> None:
    alike, parsed = DeltaTemplate(content), 0
    for number in range(50):
        payload = chunk(f"w{number} ")
        if alike.read(payload) is None:
            parsed += 1
            alike.learn(payload, f"w{number} ")
    assert parsed == 1


def test_learning_stops_if_all_chunks_differ() -> None:
    tried = []

    def find(data: Any) -> str | None:
        tried.append(data)
        return content(data)

    alike = DeltaTemplate(find)
    for number in range(50):
        alike.learn(chunk("a", created=number), "a")
    assert len(tried) == 8


def content(data: Any) -> str | None:
    text: str = data["choices"][0]["delta"]["content"]
    return text


def test_a_text_within_another_string_is_not_learned() -> None:
    payload = orjson.dumps({"note": 'say "a\\"'}) + b" "
    alike = DeltaTemplate(content)
    alike.learn(payload, "a\\")
    assert alike.read(payload) is None
