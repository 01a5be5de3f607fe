r"""SurrogatePairs of surrogate pairs in JSON: `"\ud83d"` and `"\ude00"` are one emoji in two chunks."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.chunks import ChunkReader
from wire.errors import RunError, UpstreamFailed


def reader() -> ChunkReader:
    return ChunkReader(host="h", model="m", learn_limit=lambda *_: None)


def payload(finish: str | None = None, **delta: Any) -> bytes:
    """A chunk of a server that escapes all non-ASCII characters."""
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


def text_of(read: ChunkReader, *payloads: bytes, field: str = "content") -> str:
    found = [read.read(one) for one in payloads]
    return "".join(chunk["choices"][0]["delta"].get(field, "") for chunk in found if chunk and chunk["choices"])


def test_an_emoji_in_two_chunks_is_one() -> None:
    parts = [payload(content="Hi \ud83d"), payload(content="\ude00!"), payload(content=" You"), payload("stop")]
    assert text_of(reader(), *parts) == "Hi \U0001f600! You"


@given(st.text(st.characters(categories=("L", "So", "Cs"))), st.data())
def test_text_split_between_any_two_units_is_joined(text: str, data: Any) -> None:
    """The joined pieces equal the whole text as a JSON parser reads it, wherever it is cut."""
    units = text.encode("utf-16-le", "surrogatepass")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(units) // 2), max_size=8)))
    edges = [0, *(2 * cut for cut in cuts), len(units)]
    pieces = [units[start:stop].decode("utf-16-le", "surrogatepass") for start, stop in itertools.pairwise(edges)]
    whole = units.decode("utf-16-le", "replace")
    assert text_of(reader(), *(payload(content=piece) for piece in pieces), payload("stop")) == whole


def test_reasoning_and_arguments_are_joined_separately() -> None:
    read = reader()
    assert (
        text_of(read, payload(reasoning_content="\ud83d"), payload(content="a\ud83c"), field="reasoning_content") == ""
    )
    chunk = read.read(payload(reasoning_content="\ude00", content="\udf89"))
    assert chunk is not None
    assert chunk["choices"][0]["delta"]["content"] == "\U0001f389"
    assert chunk["choices"][0]["delta"]["reasoning_content"] == "\U0001f600"
    arguments = ""
    for piece in ('{"a": "\ud83d', '\ude00"}'):
        chunk = read.read(payload(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": piece}}]))
        assert chunk is not None
        arguments += chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
    assert arguments == '{"a": "\U0001f600"}'


@pytest.mark.parametrize("end", [payload("stop"), None], ids=["finish reason", "end mark"])
def test_an_unpaired_half_is_replaced_at_the_end(end: bytes | None) -> None:
    read = reader()
    assert text_of(read, payload(content="a\ud83d")) == "a"
    last = read.read(end) if end else read.end()
    assert last is not None
    assert last["choices"][0]["delta"]["content"] == "\ufffd"


def test_other_fields_have_no_halves_either() -> None:
    call = {"index": 0, "id": "c\ud83d", "function": {"name": "f\ud83d", "arguments": "{}"}}
    chunk = reader().read(payload(tool_calls=[call]))
    assert json.dumps(chunk, ensure_ascii=False).encode()  # no half in it
    parts = reader().read(payload(content=[{"type": "text", "text": "a\ud83d"}]))
    assert json.dumps(parts, ensure_ascii=False).encode()
    with pytest.raises(RunError) as caught:
        reader().read(json.dumps({"error": {"message": "no \ud83d"}}).encode())
    assert caught.value.message.encode()


def test_json_that_is_invalid_for_another_reason_is_an_error() -> None:
    with pytest.raises(UpstreamFailed, match="not JSON"):
        reader().read(b'{"choices": [{"delta": {"content": "\\ud83d"')
    with pytest.raises(UpstreamFailed, match="not JSON"):
        reader().read(b"[" * 100_000 + b'"\\ud83d"')
