"""The source of an answer without citations: sentences are compared with passages, without guessing."""

import unicodedata

import pytest

from retrieval.grounding import Source, supporting_passages
from tests.cpu_time import limit_cpu_time

FERRY = "The ferry to Naxos leaves Piraeus at seven in the morning, on every day but Monday."
WARRANTY = "Pumps of the Solvanic 3 series carry a warranty of 24 months from the day of purchase."
SOURCES = {
    "0:0": Source(file_id="file-f", text=FERRY, asked="When does the ferry to Naxos leave?"),
    "0:1": Source(file_id="file-w", text=WARRANTY, asked="When does the ferry to Naxos leave?"),
    "1:0": Source(file_id="file-w", text="Tea. " + WARRANTY, asked="warranty solvanic"),
    "1:1": Source(file_id="file-j", text="那不勒斯的渡轮每天早上七点从比雷埃夫斯出发", asked="渡轮"),
    "2:0": Source(file_id="file-k", text="환불은 구매일로부터 14일 이내에 신청해야 합니다.", asked="환불"),
    "2:1": Source(file_id="file-h", text="वापसी चौदह दिनों के भीतर किताबें लौटाकर होती है", asked="वापसी"),
}


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("It leaves Piraeus at seven in the morning.", ["0:0"]),
        ("Seven.", ["0:0"]),
        ("Every MORNING at seven, from Pïraeus.", ["0:0"]),
        ("The warranty is 24 months from purchase. The ferry leaves Piraeus every morning.", ["0:1", "0:0"]),
        ("渡轮每天早上七点出发。", ["1:1"]),
        ("구매일로부터 14일 이내에 신청하시면 됩니다.", ["2:0"]),
        (unicodedata.normalize("NFD", "구매일로부터 14일 이내에 신청하시면 됩니다."), ["2:0"]),
        ("चौदह दिनों के भीतर किताब लौटाएँ", ["2:1"]),
        ("The \uff37\uff41\uff52\uff52\uff41\uff4e\uff54\uff59 is 24 mon\u00adths from purchase.", ["0:1"]),
    ],
)
def test_a_sentence_with_a_passage_s_words_is_based_on_it(answer: str, places: list[str]) -> None:
    assert supporting_passages(answer, SOURCES) == places


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "...",
        "The ferry to Naxos leaves.",
        "I do not know when the ferry to Naxos leaves.",
        "The files say nothing about that.",
        "The ferry leaves Rafina at noon, and takes about four hours to reach Naxos.",
        "환불은 불가능하며 배송은 삼일 걸립니다.",
        "Sure! Happy to help you with that.",
    ],
)
def test_a_repeated_question_or_other_words_have_no_citation(answer: str) -> None:
    assert supporting_passages(answer, SOURCES) == []


def test_at_most_three_passages_are_cited() -> None:
    texts = ["Alpine marmots hibernate", "Turtles migrate slowly", "Badgers burrow deeply", "Falcons hunt pigeons"]
    sources = {f"0:{at}": Source(file_id="f", text=text, asked="") for at, text in enumerate(texts)}
    assert supporting_passages(". ".join(texts), sources) == ["0:0", "0:1", "0:2"]


@pytest.mark.parametrize(
    "unit",
    [
        "\ufdfa",
        "\ufdfa. ",
        "\u32ff\u3000",
        "a" + "\u0315" * 15 + "\u0300" * 15,
        "\U0001d160",
        "한국어문장입니다 ",
        "x1 ",
        "",
    ],
    ids=["18 letters", "sentences", "signs", "marks", "notes", "hangul", "words", "han"],
)
def test_the_longest_answers_and_passages_are_compared_in_time(unit: str) -> None:
    unit = unit or "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(20_000))
    text = unit * (200_000 // len(unit) + 1)
    sources = {f"0:{at}": Source(file_id="f", text=text[at * 3200 : at * 3200 + 3200], asked="q") for at in range(20)}
    limit_cpu_time(1.5, lambda: supporting_passages(text, sources))


def test_a_long_answer_in_chinese_is_compared_from_its_start() -> None:
    answer = "渡轮每天早上七点出发。" + "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(100_000))
    assert supporting_passages(answer, SOURCES) == ["1:1"]
