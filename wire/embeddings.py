"""Embeddings: the request, and the answer with its vectors.

Vectors are sent as numbers or, as the official SDKs request by default, as base64 of little-endian float32.
"""

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from wire.assistants import MAX_MODEL_NAME
from wire.json import JsonObject, UncheckedJson
from wire.validation import invalid_value

__all__ = ["EmbeddingCreate", "EmbeddingList", "decode_vector", "encode_vector", "new_embeddings"]

_MAX_INPUTS: Final = 2_048
"""As at OpenAI."""

_TEXT: Final = {"type": "string", "minLength": 1}
_INPUT: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": _MAX_INPUTS}]}


def _check_input(value: UncheckedJson) -> UncheckedJson:
    if isinstance(value, str):
        if not value:
            raise invalid_value("it must not be an empty string")
        return value
    if not isinstance(value, list):
        raise invalid_value("it must be a string or an array of strings")
    if not 0 < len(value) <= _MAX_INPUTS:
        raise invalid_value(f"the array has {len(value)} elements, and from 1 to {_MAX_INPUTS} are allowed")
    if any(_is_token(one) or (isinstance(one, list) and all(map(_is_token, one))) for one in value):
        raise invalid_value(
            "arrays of tokens are not supported, as tokens of OpenAI's models mean nothing to other models. Send "
            "strings. LangChain's OpenAIEmbeddings does so with `check_embedding_ctx_length=False`"
        )
    for place, text in enumerate(value):
        if not isinstance(text, str) or not text:
            raise invalid_value(f"element {place} must be a non-empty string")
    return value


def _is_token(value: UncheckedJson) -> bool:
    return type(value) is int


class EmbeddingCreate(BaseModel):
    """POST /embeddings. Other fields go to the upstream; the built-in model ignores them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    model: str = Field(min_length=1, max_length=MAX_MODEL_NAME)
    input: Annotated[UncheckedJson, AfterValidator(_check_input), WithJsonSchema(_INPUT)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """The input, always as a list."""
        return [self.input] if isinstance(self.input, str) else list(self.input)


class Embedding(BaseModel):
    """One vector: numbers, or base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of the input."""

    model_config = ConfigDict(extra="allow")

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The answer."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def encode_vector(vector: Sequence[float]) -> str:
    """Return the base64 of a vector's numbers as little-endian float32."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def decode_vector(encoded: str) -> list[float]:
    """Return the numbers of what `encode_vector` makes. Raises ValueError for anything else."""
    numbers = array("f", base64.b64decode(encoded, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def new_embeddings(vectors: Sequence[list[float] | str], *, model: str, usage: JsonObject) -> JsonObject:
    """Make the wire object of vectors in the order of the input."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": model, "usage": usage}
