"""Citations are found wherever the stream is split, and other text is not changed."""

import pytest

from retrieval.citations import MAX_CITATIONS, Citations, Cited, marker
from retrieval.grounding import Source

TEXT = "Marmots whistle when eagles circle."
FILES = {"0:0": "file-a", "0:12": "file-b", "3:1": "file-c"}
SOURCES = {key: Source(file_id=file_id, text=TEXT, asked="") for key, file_id in FILES.items()}


def read(*pieces: str) -> list[str | Cited]:
    """Return the results, with neighbouring texts joined."""
    citations = Citations(SOURCES)
    out: list[str | Cited] = []
    for piece in [*(part for text in pieces for part in citations.feed(text)), *citations.close()]:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


def test_a_marker_is_found_wherever_the_stream_is_split() -> None:
    text = "a【0:0†source】b【0:12】c[3:1†notes.pdf]d【 0 : 0 †x】"
    whole = ["a", Cited("【0:0†source】", "file-a"), "b", Cited("【0:12】", "file-b"), "c"]
    whole += [Cited("[3:1†notes.pdf]", "file-c"), "d", Cited("【 0 : 0 †x】", "file-a")]
    for cut in range(len(text) + 1):
        assert read(text[:cut], text[cut:]) == whole
    assert read(*text) == whole


def test_the_marker_in_the_prompt_is_a_valid_marker() -> None:
    assert read(marker(3, 1)) == [Cited(marker(3, 1), "file-c")]


@pytest.mark.parametrize("wrong", ["【9:9†source】", "【0:1】", "[7:7†x]", "【0:0†source】"[:0]])
def test_a_marker_without_a_source_is_removed(wrong: str) -> None:
    assert read(f"a{wrong}", "b") == ["ab"]


@pytest.mark.parametrize(
    "text",
    [
        "x[0:0]",
        "list[1:2]",
        "【note】",
        "【",
        "[",
        "【0",
        "【0:0†never closed",
        "[[0:0]]",
        "【0:0†two\nlines】",
        "【00000:0】",
    ],
)
def test_other_text_is_unchanged_wherever_the_stream_is_split(text: str) -> None:
    for cut in range(len(text) + 1):
        assert read(text[:cut], text[cut:]) == [text]


def test_only_text_that_can_become_a_marker_is_held_back() -> None:
    citations = Citations(SOURCES)
    assert list(citations.feed("Hello [there")) == ["Hello [there"]
    assert list(citations.feed("【0:0†" + "x" * 100)) != []


@pytest.mark.parametrize(
    ("answer", "cited"),
    [("Marmots whistle.", ["【0:0†source】"]), ("Marmots whistle【3:1】.", []), ("Hares do not.", [])],
)
def test_an_answer_without_markers_cites_its_sources(answer: str, cited: list[str]) -> None:
    citations = Citations(SOURCES)
    list(citations.feed(answer))
    assert [found.marker for found in citations.rest(answer)] == cited


def test_a_marker_outside_the_answer_does_not_count() -> None:
    citations = Citations(SOURCES)
    list(citations.feed("Look at 【0:0†source】"))
    citations.drop()
    assert [found.file_id for found in citations.rest("Marmots whistle.")] == ["file-a"]


@pytest.mark.parametrize("size", [1, 5, 10_000], ids=["by character", "in pieces", "in large pieces"])
def test_markers_beyond_the_limit_are_removed(size: int) -> None:
    text = "a【0:0†source】" * (MAX_CITATIONS + 100) + "b"
    out = read(*(text[at : at + size] for at in range(0, len(text), size)))
    assert [piece for piece in out if isinstance(piece, Cited)] == [Cited("【0:0†source】", "file-a")] * MAX_CITATIONS
    assert out[-1] == "a" * 100 + "b"


def test_a_discarded_answer_does_not_use_up_the_limit() -> None:
    citations = Citations(SOURCES)
    list(citations.feed("【0:0†source】" * MAX_CITATIONS))
    citations.drop()
    assert list(citations.feed("【0:0†source】")) == [Cited("【0:0†source】", "file-a")]
