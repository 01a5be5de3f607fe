# ruff: noqa: RUF001 - the full-width question marks are meant
"""A question finds passages about its subject, not other questions."""

import time
import unicodedata

import pytest

from store.ports import Chunk, Query
from store.sqlite.store import open_store
from store.stop_words import without_stop_words

QUESTIONS = {
    "Korean how": ("환불은 어떻게 하나요?", "환불정책: 14일 이내", "결제는 어떻게 하나요? 카드로 합니다."),
    "Korean may I": ("교환할 수 있나요", "사이즈교환은 한 번", "쿠폰을 쓸 수 있습니다. 언제 결제되나요?"),
    "Korean please": ("환불 좀 알려 주세요", "환불정책: 14일 이내", "번호를 좀 알려 주세요. 물어보세요."),
    "Korean how much": ("배송비는 얼마예요?", "배송에는 요금이 있다", "얼마나 걸려요? 그건 얼마예요?"),
    "Korean until when": ("운영은 언제까지 합니까", "오후 6시까지 운영", "언제까지 필요합니까? 언제 합니까?"),
    "Korean NFD": (unicodedata.normalize("NFD", "환불이 되나요"), "환불정책: 14일 이내", "언제 결제되나요?"),
    "Chinese how": ("怎么退款？", "可申请退款", "怎么使用？怎么办？"),
    "Chinese when": ("什么时候可以联系客服", "客服中心上午九点", "什么时候扣款？可以随时。"),
    "Chinese how long": ("配送要多久", "配送三到五天", "要多久才能换好？多久都行。"),
    "Chinese traditional": ("為什麼不能退款", "可申請退款", "為什麼？為什麼不？"),
    "Japanese polite question": ("何時まで営業していますか", "営業は平日午前九時から", "東京に勤務しています"),
    "Japanese wish": ("返品したいのですが", "返品は可能である", "参加したいのですが無理である"),
    "Japanese request": ("配送料を教えてください", "配送料は五百円", "名前を教えてください"),
    "Japanese how much": ("配送はいくらですか", "配送は五百円です", "いくらですか。いくつですか。"),
    "Thai how": ("คืนเงินอย่างไร", "ขอคืนเงินได้", "ทำอย่างไร ใช้อย่างไร"),
}


@pytest.mark.parametrize(("query", "document", "distractor"), QUESTIONS.values(), ids=QUESTIONS.keys())
async def test_a_question_finds_its_subject_first(query: str, document: str, distractor: str) -> None:
    store = await open_store()
    chunks = [Chunk(at, text, 0, 1) for at, text in enumerate((distractor, document))]
    await store.vectors.add("ann", "vs", "file", chunks, model=None)
    hits = (await store.vectors.search("ann", ["vs"], Query(query))).hits
    await store.close()
    assert [hit.chunk.text for hit in hits[:1]] == [document]


@pytest.mark.parametrize(
    "query",
    [
        "How do I get a refund, please?",
        "Où est le café ?",
        "환불정책",
        "한국가요 순위",
        "수영장 있는 호텔",
        "주차장",
        "さくら",
        "ますかけ線",
        "任何人的退款",
        "как вернуть товар?",
    ],
    ids=ascii,
)
def test_other_words_are_kept(query: str) -> None:
    assert without_stop_words(query) == query


@pytest.mark.parametrize("query", ["어떻게", "怎么办？", "ください", "いくら", "อย่างไร", "수 있나요?"], ids=ascii)
def test_a_query_of_question_words_only_is_kept(query: str) -> None:
    assert without_stop_words(query) == query


@pytest.mark.parametrize("part", ["수 ", "할", "い", "の", "我", "可不", "し", "a주"], ids=ascii)
def test_the_longest_query_is_handled_quickly(part: str) -> None:
    since = time.process_time()
    without_stop_words((part * 4096)[:4096])
    assert time.process_time() - since < 0.1
