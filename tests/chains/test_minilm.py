"""The built-in embedder: similar meanings are near, long texts are embedded completely, offline, off the event loop."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from blockbuster import blockbuster_ctx

from chains import minilm
from chains.minilm import MiniLm
from store.ports import Chunk, Query
from store.sqlite.store import open_store
from wire.errors import EmbeddingFailed


@pytest.fixture
async def embedder() -> AsyncIterator[MiniLm]:
    made = MiniLm()
    yield made
    await made.close()


async def cosines(embedder: MiniLm, *texts: str) -> list[float]:
    """Return the similarity of the first text to each of the others."""
    first, *others = np.array(await embedder.embed(texts))
    return [float(first @ other) for other in others]


async def test_texts_of_the_same_meaning_are_near_in_any_wording(embedder: MiniLm) -> None:
    with blockbuster_ctx():
        same, other = await cosines(
            embedder, "How do I get my money back?", "Refunds are paid within a week.", "The cat sleeps on the sofa."
        )
    assert same > other + 0.2


async def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours(embedder: MiniLm) -> None:
    texts = ["one", "two words", "", "a much longer text than the others " * 20, "終わり"]
    together = np.array(await embedder.embed(texts))
    alone = np.array([(await embedder.embed([text]))[0] for text in texts])
    assert together.shape == (5, embedder.dimensions)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert np.abs(together - alone).max() < 1e-3
    assert await embedder.embed([]) == []


async def test_the_end_of_a_long_text_counts(embedder: MiniLm) -> None:
    filler = "Nothing of interest was decided at the meeting. " * 40
    with_end, without = await cosines(
        embedder, "When does the ferry leave?", filler + "The ferry leaves at seven.", filler
    )
    assert with_end > without + 0.1


async def test_a_query_does_not_wait_for_a_long_document(embedder: MiniLm) -> None:
    await embedder.embed(["load"])
    book = asyncio.ensure_future(embedder.embed(["page " * 2000] * 40))
    await asyncio.sleep(0)
    await embedder.embed(["a question"])
    assert not book.done()
    book.cancel()
    with pytest.raises(asyncio.CancelledError):
        await book


async def test_a_model_with_another_hash_is_refused(embedder: MiniLm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(minilm._SHA256, minilm._TOKENIZER, "0" * 64)
    with pytest.raises(EmbeddingFailed, match="SHA-256"):
        await embedder.embed(["text"])
    monkeypatch.setattr(minilm, "_MODEL", ("no-such-distribution", "x"))
    with pytest.raises(EmbeddingFailed, match="EMBEDDINGS_MODEL"):
        await embedder.embed(["text"])


@pytest.mark.parametrize(
    ("query", "trusted"),
    [
        ("How do I get a refund?", True),
        ("Où est le café, à Nîmes ?", True),
        ("AB-12346/X", True),
        ("12345", True),
        ("?", True),
        ("", True),
        ("What does 환불 mean in the policy?", True),
        ("the λ of calculus", True),
        ("iPhone 케이스", False),
        ("Kubernetes 배포", False),
        ("คู่มือ Excel", False),
        ("고객 센터 운영", False),
        ("ราคาข้าว", False),
        ("怎么退款", False),
        ("договор аренды", False),
        ("كتاب", False),
        ("हिन्दी में किताब", False),
        ("SMTP服务器的端口设置", False),
    ],
    ids=ascii,
)
def test_similarity_counts_little_in_untrained_scripts(query: str, trusted: bool) -> None:
    weight = MiniLm().weight(query)
    assert (weight is None) == trusted
    assert weight is None or 0 < weight < 0.5


@pytest.mark.parametrize(
    ("query", "document", "distractor"),
    [
        ("กรุงเทพ", "เมืองกรุงเทพมหานคร", "เมืองกรุงศรีอยุธยา"),
        ("ລາຄາ", "ຖາມລາຄາສິນຄ້າ", "ຖາມລາຍການສິນຄ້າ"),
        ("ニューヨーク", "ニュー・ヨーク行き", "ニュース・ヨガ"),
        ("고객 센터 운영", "고객센터에서는 하루 운영을 합니다", "고객은 운영하지 않습니다"),
    ],
    ids=["Thai", "Lao", "Japanese", "Korean"],
)
async def test_the_best_full_text_match_stays_first_there(
    embedder: MiniLm, query: str, document: str, distractor: str
) -> None:
    store = await open_store()
    asked, *vectors = await embedder.embed([query, distractor, document])
    chunks = [
        Chunk(at, text, 0, 1, vector)
        for at, (text, vector) in enumerate(zip((distractor, document), vectors, strict=True))
    ]
    await store.vectors.add("ann", "vs", "file", chunks, model=embedder.name)
    found = await store.vectors.search("ann", ["vs"], Query(query, asked, embedder.name, weight=embedder.weight(query)))
    assert found.hits[0].chunk.text == document
    await store.close()
