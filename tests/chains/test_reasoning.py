"""Reasoning is separated from the answer, wherever the stream is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.reasoning import ReasoningParser
from tests.cpu_time import limit_cpu_time

CASES = [
    ("<think>hm</think>42", "42", "hm"),
    ("<think>\nhm\n</think>\n\n42", "42", "\nhm\n"),
    ("\n<think>hm</think>42", "42", "hm"),
    ("<thinking>hm</thinking> 42 < 43", "42 < 43", "hm"),
    ("[THINK]hm[/THINK]42", "42", "hm"),
    ("<think>a</think>\n<think>b</think>42", "42", "ab"),
    ("<think></think>42", "42", ""),
    ("<think>never closed", "", "never closed"),
    ("hm, let me see\n</think>\n\n42", "42", "hm, let me see\n"),
    ("So: a < b, and a <thin line.", "So: a < b, and a <thin line.", ""),
    ("Write `<think>` and `</think>` around it.", "Write `<think>` and `</think>` around it.", ""),
    ("The tag <think> opens it.", "The tag <think> opens it.", ""),
    ("One.\n<think>hm</think>\nTwo.", "One.\nTwo.", "hm"),
    ("<think>hm</think>Say `</think>` once.", "Say `</think>` once.", "hm"),
    ("  plain", "  plain", ""),
    ("[1, 2, [3]]", "[1, 2, [3]]", ""),
    ("ends with <", "ends with <", ""),
    ("<", "<", ""),
    ("", "", ""),
]


def separate(pieces: list[str], *, begins: bool = False) -> tuple[str, str]:
    parser = ReasoningParser(begins=begins)
    text = reasoning = ""
    for part in [*(parser.feed(piece) for piece in pieces), parser.end()]:
        if part.reclassified:
            text, reasoning = "", reasoning + text
        text, reasoning = text + part.text, reasoning + part.reasoning
    return text, reasoning


@pytest.mark.parametrize(("stream", "text", "reasoning"), CASES, ids=[repr(case[0]) for case in CASES])
def test_reasoning_and_text_are_separated_at_every_cut(stream: str, text: str, reasoning: str) -> None:
    assert separate([stream]) == (text, reasoning)
    assert separate(list(stream)) == (text, reasoning)
    for at in range(len(stream)):
        assert separate([stream[:at], stream[at:]]) == (text, reasoning)


@given(st.lists(st.sampled_from(["<", "think", ">", "</", "\n", " ", "a", "`", "[", "THINK]", "/"])), st.data())
def test_nothing_is_lost_wherever_the_stream_is_split(words: list[str], data: st.DataObject) -> None:
    stream = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[one:two] for one, two in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert separate(pieces) == separate([stream])
    if "think" not in stream and "THINK" not in stream:
        assert separate(pieces) == (stream, "")


def test_an_empty_piece_starts_no_line() -> None:
    assert separate(["<>", "", "[THINK]"]) == ("<>[THINK]", "")


def test_reasoning_is_separated_immediately_if_expected() -> None:
    parser = ReasoningParser(begins=True)
    assert parser.feed("let me") == ("", "let me", False)
    assert parser.feed(" see</thi") == ("", " see", False)
    assert parser.feed("nk>\n\n42") == ("42", "", False)
    assert parser.end() == ("", "", False)
    assert not parser.has_unclosed_reasoning
    assert separate(["<think>hm</think>42"], begins=True)[0] == "42"


def test_an_answer_is_not_lost_to_a_wrong_assumption() -> None:
    parser = ReasoningParser(begins=True)
    parser.feed("plain ")
    parser.feed("answer <")
    assert parser.end().text == "plain answer <"
    assert parser.has_unclosed_reasoning


@pytest.mark.parametrize(
    "pieces",
    [[" " * 16] * 60_000, ["said", *["\n" * 16] * 60_000], ["<think></think>" * 40_000], ["x" + "<think>" * 80_000]],
    ids=["blank beginning", "blank lines", "many blocks", "tags within a line"],
)
def test_hostile_answers_are_parsed_in_linear_time(pieces: list[str]) -> None:
    text, _ = limit_cpu_time(1.0, lambda: separate(pieces))
    assert text == "".join(pieces).replace("<think></think>", "")


def test_a_quoted_tag_after_blank_space_is_no_tag() -> None:
    assert separate(["said '", " ", "", "</think>", "done"]) == separate(["said ' </think>done"])
    assert separate(["said '", "", "</think>", "done"]) == ("said '</think>done", "")
