"""Answers of `/embeddings` are read and written one vector at a time."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.embedding_json import read_embeddings, write_embeddings
from wire.embeddings import encode_vector, new_embeddings

LARGE = 256 * 1024


def answer(count: int, dimensions: int, **fields: Any) -> dict[str, Any]:
    vector = [0.123456789012345 * (number + 1) for number in range(dimensions)]
    data = [{"object": "embedding", "index": count - 1 - at, "embedding": vector} for at in range(count)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}, **fields}


def plain(value: Any) -> Any:
    return {**value, "data": [{**entry, "embedding": list(entry["embedding"])} for entry in value["data"]]}


@pytest.mark.parametrize("indent", [None, 1], ids=["compact", "indented"])
@pytest.mark.parametrize(("count", "dimensions"), [(1, 4), (20, 2000), (3, 16_384), (1, 16_384)])
def test_an_answer_is_read_as_json_reads_it(count: int, dimensions: int, indent: int | None) -> None:
    sent = answer(count, dimensions)
    body = json.dumps(sent, indent=indent).encode()
    assert plain(read_embeddings(body)) == sent


@pytest.mark.parametrize("place", ["before", "after"])
def test_other_members_are_kept(place: str) -> None:
    sent = answer(20, 2000)
    more = {"usage": {"prompt_tokens": 1}, "note": '"data":[{"embedding":[1]}]', "nested": {"data": [{"a": {}}]}}
    merged = {**more, "data": sent["data"]} if place == "before" else {"data": sent["data"], **more}
    if place == "after":
        assert plain(read_embeddings(orjson.dumps(merged))) == merged
    else:  # another `data` comes first: it is never read as vectors
        with pytest.raises(ValueError, match=r"."):
            read_embeddings(orjson.dumps(merged))


def test_base64_is_kept() -> None:
    text = encode_vector([0.5] * 3000)
    sent = {"data": [{"index": at, "embedding": text} for at in range(40)]}
    assert read_embeddings(orjson.dumps(sent)) == sent


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[' + b"1," * LARGE + b"1]}",
        b'{"data":[{"embedding":[' + b"1," * 2_000_000 + b"1]}]}",
        b'{"data":[' + b'{"embedding":[0.1],"index":{}},' * 20_000 + b"{}]}",
        b'{"items":[' + b"[]," * LARGE + b"1]}",
        b"[" * LARGE * 2,
        b'{"data":[' + b'{"embedding":[0.1]}' * 20_000 + b"]}",
        b'{"data":[' + b'{"embedding":[0.1]},' * 20_000,
        b'{"data":[' + b'{"embedding":[null]},' * 20_000 + b'{"embedding":[0.1]}]}',
        b'{"data":[' + b'{"embedding":["0.1"]},' * 20_000 + b'{"embedding":[0.1]}]}',
    ],
    ids=["numbers", "one huge vector", "nested", "no data", "brackets", "no commas", "no end", "null", "texts"],
)
def test_other_large_answers_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_embeddings(body)


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=4), max_size=4), st.booleans())
def test_what_is_written_is_openai_s_object(vectors: list[list[float]], is_base64: bool) -> None:
    written = write_embeddings(vectors, is_base64=is_base64, model='a"data":[]', usage={"total_tokens": 1})
    shown: list[Any] = [encode_vector(vector) for vector in vectors] if is_base64 else vectors
    assert orjson.loads(written) == new_embeddings(shown, model='a"data":[]', usage={"total_tokens": 1})
