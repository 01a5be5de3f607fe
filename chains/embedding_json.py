"""Reads and writes the JSON of `/embeddings`, one vector at a time. Pure.

An answer can have millions of numbers. One call that parses or writes them all blocks Python's interpreter for seconds,
whatever thread it runs in, and creates an object for each number. Invariant: one call handles one vector.
"""

import re
from array import array
from collections.abc import Sequence
from typing import Final

import orjson

from wire.embeddings import decode_vector, encode_vector, new_embeddings
from wire.json import JsonObject

__all__ = ["read_embeddings", "write_embeddings"]

_DATA: Final = re.compile(rb'"data"\s*:\s*\[')
_ENTRY: Final = re.compile(rb"\s*(\{[^{}]*\})\s*(,?)")
"""An entry of `data`, which contains no braces: it has numbers or base64, and an index."""

_WHOLE_BYTES: Final = 256 * 1024
"""Maximum size of answers that are parsed at once, and can have any form."""

_ENTRY_BYTES: Final = 1024 * 1024
"""Maximum size of an entry: enough for 16,384 numbers of 25 digits."""

_NO_DATA: Final = b'"data":[]'


def read_embeddings(body: bytes) -> object:
    """Return an answer's parsed JSON. If the answer is large, the numbers of each embedding become an `array`.

    Raises ValueError if it is not JSON, or if it is large and has no flat list of entries whose vectors are numbers.
    """
    if len(body) <= _WHOLE_BYTES:
        return orjson.loads(body)
    start = _DATA.search(body)
    if start is None:
        raise ValueError("no `data`")
    entries, at = [], start.end()
    while found := _ENTRY.match(body, at, at + _ENTRY_BYTES):
        entry = orjson.loads(found[1])
        if isinstance(vector := entry.get("embedding"), list):
            entry["embedding"] = _numbers(vector)
        entries.append(entry)
        at = found.end()
        if not found[2]:
            break
    if len(rest := body[: start.end()] + body[at:]) > _WHOLE_BYTES:
        raise ValueError("an entry that is too large or not flat")
    answer = orjson.loads(rest)
    answer["data"] = entries
    return answer


def _numbers(vector: list[float]) -> "array[float]":
    try:
        return array("d", vector)
    except TypeError as error:  # `null`, for example
        raise ValueError("an embedding that is not a list of numbers") from error


def write_embeddings(
    vectors: Sequence[Sequence[float] | str], *, is_base64: bool, model: str, usage: JsonObject
) -> bytes:
    """Return OpenAI's object of vectors (numbers or base64). Raises ValueError or TypeError for invalid ones."""
    entries = []
    for index, vector in enumerate(vectors):
        embedding: str | list[float]
        if is_base64:
            embedding = vector if isinstance(vector, str) else encode_vector(vector)
        else:
            embedding = decode_vector(vector) if isinstance(vector, str) else array("d", vector).tolist()
        entries.append(orjson.dumps({"object": "embedding", "index": index, "embedding": embedding}))
    before, _, after = orjson.dumps(new_embeddings([], model=model, usage=usage)).partition(_NO_DATA)
    return b"".join((before, b'"data":[', b",".join(entries), b"]", after))
