"""Vectors from the upstream's `/embeddings`: batches, order, unit length, overlong texts, invalid answers."""

from typing import Any

import pytest

from chains.embeddings import UpstreamEmbedder
from tests.chains.conftest import Connect
from tests.upstream import Fail, ScriptedUpstream
from wire.errors import EmbeddingFailed

PATH = "/v1/embeddings"


def answer(*vectors: list[Any], backwards: bool = False) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "data": data[::-1] if backwards else data, "model": "e"}


async def test_texts_are_batched_and_vectors_are_ordered_unit_vectors(up: ScriptedUpstream, connect: Connect) -> None:
    seen: list[Any] = []

    def embed(body: Any) -> Any:
        seen.append(body)
        return answer(*([3.0 * len(text), 4.0 * len(text)] for text in body["input"]), backwards=True)

    up.extra[PATH] = embed
    embedder = UpstreamEmbedder(await connect(up.url), "e")
    vectors = await embedder.embed(["x" * (number + 1) for number in range(70)])
    assert [len(body["input"]) for body in seen] == [64, 6]
    assert {key: value for key, value in seen[0].items() if key != "input"} == {
        "model": "e",
        "encoding_format": "float",
    }
    assert len(vectors) == 70
    assert all(vector == pytest.approx([0.6, 0.8]) for vector in vectors)
    assert (embedder.name, embedder.dimensions) == ("e", 2)
    assert await embedder.embed([]) == []


async def test_long_texts_share_no_request_beyond_its_bound(up: ScriptedUpstream, connect: Connect) -> None:
    seen: list[int] = []
    up.extra[PATH] = lambda body: seen.append(len(body["input"])) or answer(*([1.0] for _ in body["input"]))
    embedder = UpstreamEmbedder(await connect(up.url), "e")
    await embedder.embed(["x" * 90_000] * 5)
    assert seen == [2, 2, 1]


async def test_an_overlong_text_is_halved_until_it_fits(up: ScriptedUpstream, connect: Connect) -> None:
    def embed(body: Any) -> Any:
        if any(len(text) > limit for text in body["input"]):
            return Fail(400, {"error": {"message": "input (1200 tokens) is too large to process", "code": 400}})
        return answer(*([1.0, 0.0] if text[0] == "a" else [0.0, 1.0] for text in body["input"]))

    limit = 1000
    up.extra[PATH] = embed
    embedder = UpstreamEmbedder(await connect(up.url), "e")
    mixed, short = await embedder.embed(["a" * 1500 + "b" * 1500, "b"])
    assert mixed == pytest.approx([0.5**0.5, 0.5**0.5])
    assert short == [0.0, 1.0]
    limit = 0
    with pytest.raises(EmbeddingFailed, match="too large"):
        await embedder.embed(["a" * 3000])


@pytest.mark.parametrize(
    ("answered", "reason"),
    [
        ({"data": []}, "0 vectors for 1 texts"),
        ({}, "no list of vectors"),
        (answer([]), "lists of numbers"),
        (answer(["x"]), "lists of numbers"),
        (answer([None]), "lists of numbers"),
        ({"data": ["x"]}, "lists of numbers"),
    ],
    ids=str,
)
async def test_an_answer_without_vectors_is_refused(
    up: ScriptedUpstream, connect: Connect, answered: Any, reason: str
) -> None:
    up.extra[PATH] = lambda _: answered
    with pytest.raises(EmbeddingFailed, match=reason):
        await UpstreamEmbedder(await connect(up.url), "e").embed(["text"])


async def test_a_vector_of_another_length_is_refused(up: ScriptedUpstream, connect: Connect) -> None:
    up.extra[PATH] = lambda body: answer([1.0] * len(body["input"][0]))
    embedder = UpstreamEmbedder(await connect(up.url), "e")
    await embedder.embed(["ab"])
    with pytest.raises(EmbeddingFailed, match="3 numbers after others of 2"):
        await embedder.embed(["abc"])


async def test_an_upstream_without_embeddings_is_reported(up: ScriptedUpstream, connect: Connect) -> None:
    del up.extra[PATH]
    with pytest.raises(EmbeddingFailed, match="404"):
        await UpstreamEmbedder(await connect(up.url), "e").embed(["text"])
    with pytest.raises(EmbeddingFailed, match="MODEL_URL"):
        await UpstreamEmbedder(await connect(None), "e").embed(["text"])


async def test_an_overlong_vector_is_refused_before_comparison(up: ScriptedUpstream, connect: Connect) -> None:
    lengths = [16_384, 16_385]
    up.extra[PATH] = lambda body: answer(*([0.5] * lengths[len(body["input"]) - 1] for _ in body["input"]))
    embedder = UpstreamEmbedder(await connect(up.url), "e")
    with pytest.raises(EmbeddingFailed, match=r"16385 numbers; at most 16384 .* EMBEDDINGS_MODEL"):
        await embedder.embed(["a", "b"])
    assert len((await embedder.embed(["a"]))[0]) == 16_384
