# ruff: noqa: RUF001 - letters that look alike are what is tested
"""Words are found in any Unicode form, width, case or with any marks, and in scripts without spaces."""

import sqlite3
import sys
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import pytest

from retrieval.grounding import supporting_passages
from store.folding import fold, fold_passage, fold_query, fold_v1, without_long_marks
from store.ports import Chunk, Query
from store.sqlite.fulltext import TOKENIZE
from store.sqlite.store import SqliteStore, open_store
from store.stop_words import without_stop_words


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_store()
    yield opened
    await opened.close()


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


PAIRS = {
    # Unicode forms
    "full-width": ("ABC123", "型番はＡＢＣ１２３です", "型番はＡＢＤ１２４です"),
    "full-width query": ("ＡＢＣ", "part ABC", "part ABD"),
    "half-width kana": ("ガラス", "ｶﾞﾗｽの窓", "カラスの巣"),
    "ligature": ("office", "the o\ufb03ce hours", "the once hours"),
    "ligature fi": ("ﬁnance", "finance department", "fine department"),
    "superscript unit": ("m2", "area of 40 m² here", "area of 40 m³ here"),
    "subscript": ("CO2", "emits CO₂ today", "emits CO₃ today"),
    "footnote number": ("policy", "our policy¹ holds", "our politics¹ hold"),
    "trademark": ("Solvanic", "the Solvanic™ pump", "the Solenoid™ pump"),
    "numero": ("5", "item №5 of it", "item №6 of it"),
    "circled number": ("設定", "①設定の手順", "①測定の手順"),
    "squared unit": ("5kg", "weighs 5㎏", "weighs 6㎏"),
    "mathematical letters": ("bold", "so 𝐛𝐨𝐥𝐝 it is", "so 𝐛𝐚𝐥𝐝 it is"),
    "Roman numeral": ("iv", "chapter Ⅳ", "chapter Ⅵ"),
    "Kangxi radical": ("日本", "⽇本の山", "⽬本の山"),
    "Hangul NFD document": ("환불", decomposed("환불정책입니다"), decomposed("환전정책입니다")),
    "Hangul NFD query": (decomposed("영수증"), "영수증이 필요합니다", "영업일이 필요합니다"),
    "kana NFD": ("ガイド", decomposed("ガイドブック"), decomposed("カイトブック")),
    "accent NFD document": ("résumé", decomposed("son résumé complet"), "son réseau complet"),
    "accent NFD query": (decomposed("Zürich"), "Reise nach Zürich", "Reise nach Zypern"),
    "presentation forms": ("سلام", "\ufeb3\ufefc\ufee1 عليكم", "كلام عليكم"),
    # invisible characters
    "soft hyphen": ("documentation", "the docu\u00admen\u00adtation", "the document mutation"),
    "zero-width space": ("donaudampf", "die Donau\u200bdampf", "die Donau kampf"),
    "zero-width joiner": ("hello", "say hel\u200dlo", "say hell o"),
    "byte order mark": ("total", "\ufefftotal sum", "totem sum"),
    "word joiner": ("together", "to\u2060gether now", "to gather now"),
    "variation selector": ("葛城", "葛\U000e0100城市", "葛飾市の城"),
    "directional marks": ("שלום", "\u200fש\u200eלום\u200f עולם", "שלוש עולם"),
    "Persian half-space": ("میخواهم", "من می\u200cخواهم بروم", "من می\u200cخوانم بروم"),
    "hyphen of a PDF": ("mandatory", "it is manda\ufffetory here", "it is a mandate here"),
    # case
    "sharp s": ("STRASSE", "in der Straße", "in der Strafe"),
    "capital sharp s": ("straße", "IN DER STRAẞE", "IN DER STRAFE"),
    "sharp s query": ("Fußball", "Fussball spielen", "Fuball spielen"),
    "Turkish dotted I": ("istanbul", "İSTANBUL havalimanı", "ISPARTA havalimanı"),
    "Turkish dotless i": ("ışık", "IŞIK TASARIMI", "AŞIK TASARIMI"),
    "final sigma": ("ΣΙΣΥΦΟΣ", "ο σίσυφος είναι", "ο σίφουνας είναι"),
    "Cyrillic case": ("ДОГОВОР", "договор аренды", "доктор аренды"),
    # marks
    "accent dropped": ("cafe", "un café noir", "un cadre noir"),
    "accent added": ("café", "un cafe noir", "un cadre noir"),
    "Vietnamese": ("da nang", "ở Đà Nẵng hôm nay", "ở Đồng Nai hôm nay"),
    "Vietnamese NFD": ("tiếng Việt", decomposed("nói tiếng Việt"), decomposed("nói tiền Viễn")),
    "Polish l": ("lodz", "miasto Łódź", "miasto Londyn"),
    "o with stroke": ("kobenhavn", "i København", "i Kolding"),
    "oe": ("oeuvre", "son œuvre", "son olive"),
    "Greek tonos": ("καλημέρα", "ΚΑΛΗΜΕΡΑ ΣΑΣ", "ΚΑΛΗΝΥΧΤΑ ΣΑΣ"),
    "yo": ("ёлка", "новая елка", "новая белка"),
    "stress mark": ("замок", "старый за\u0301мок", "старый знак"),
    "harakat": ("محمد", "قال مُحَمَّدٌ", "قال مَحمودٌ"),
    "tatweel": ("كتاب", "هذا كتـــاب", "هذا كاتـــب"),
    "hamza on alef": ("احمد", "السيد أحمد", "السيد حمد"),
    "Arabic article": ("كتاب", "قرأ الكتاب", "قرأ الكتل"),
    "Arabic preposition": ("الكتاب", "بالكتاب وللقلم", "بالكتل وللقلم"),
    "niqqud": ("שלום", "שָׁלוֹם לכם", "שָׁלוֹשׁ לכם"),
    "Persian letters": ("کتاب", "هذا كتاب", "هذا كباب"),
    "Arabic digits": ("2024", "سنة ٢٠٢٤", "سنة ٢٠٢٥"),
    "Devanagari digits": ("२०२४", "year 2024", "year 2025"),
    # apostrophes, hyphens
    "curly apostrophe": ("don't panic", "don\u2019t panic", "do not panics"),
    "letter apostrophe": ("м'ята", "свіжа м\u02bcята", "свіжа м\u02bcяса"),
    "acute as apostrophe": ("l'eau", "de l\u00b4eau", "de leau"),
    "hyphens": ("Wi-Fi", "das Wi\u2011Fi hier", "das WiFo hier"),
    "minus": ("x-1", "wert x\u22121", "wert x\u22122"),
    # scripts without spaces
    "Hangul particle": ("영수증", "영수증을 보내세요", "영업점을 보세요"),
    "Hangul particle in query": ("고객센터에서는", "고객센터는 바쁘다", "고객은 바쁘다"),
    "Hangul spaced query": ("고객 센터", "고객센터에서는 전화를 받습니다", "고객은 전화를 받습니다"),
    "Hangul spaced document": ("고객센터", "고객 센터 안내", "고객 안내 책자"),
    "Hangul one syllable": ("책", "책은 비싸다", "차는 비싸다"),
    "Hangul one syllable at the end": ("책", "요리책", "요리사"),
    "Japanese kanji and kana": ("払い戻し", "払い戻しは可能です", "支払いは可能です"),
    "Japanese particle": ("保証書", "保証書が必要です", "保険証が必要です"),
    "Japanese one character": ("店", "新しい店です", "新しい物です"),
    "iteration mark": ("人々", "人々の声", "人工の声"),
    "middle dot": ("ニューヨーク", "ニュー・ヨーク行き", "ニュース・ヨガ"),
    "Chinese": ("怎么退款", "可以申请退款", "可以申请贷款"),
    "Chinese one character": ("税", "需要缴税", "需要缴费"),
    "Thai": ("กรุงเทพ", "เมืองกรุงเทพมหานคร", "เมืองกรุงศรีอยุธยา"),
    "Thai tone": ("ข้าว", "กินข้าวเช้า", "กินขาวเช้า"),
    "Lao": ("ລາຄາ", "ຖາມລາຄາສິນຄ້າ", "ຖາມລາຍການສິນຄ້າ"),
    "Khmer": ("ភាសា", "រៀនភាសាខ្មែរ", "រៀនភាគខ្មែរ"),
    "Myanmar": ("ရန်ကုန်", "မြို့တော်ရန်ကုန်သို့", "မြို့တော်ရခိုင်သို့"),
    "Tibetan": ("བོད་ཡིག", "ང་བོད་ཡིག་སློབ", "ང་བོད་སྐད་སློབ"),
    # endings joined to stems, and marks that are vowels
    "Hindi": ("हिन्दी", "यह हिंदी में है", "यह हद में है"),
    "Hindi plural": ("किताब", "किताबें यहाँ हैं", "काबिल लोग हैं"),
    "Hindi nukta": ("ज़मीन", "यह जमीन है", "यह जामुन है"),
    "Hindi vowel sign": ("की", "राम की", "राम का"),
    "Tamil case": ("புத்தகம்", "புத்தகத்தை படி", "புதியதை படி"),
    "Bengali case": ("গ্রাহক", "গ্রাহকদের জন্য", "গ্রামের জন্য"),
    # several in one word
    "Latin and Hangul": ("케이스", "iPhone케이스", "iPhone화면"),
    "Latin before Hangul": ("iphone", "iPhone케이스", "iPad케이스"),
    "Latin and Chinese": ("服务器", "SMTP服务器", "SMTP协议"),
    "Latin of Chinese": ("smtp", "SMTP服务器", "IMAP服务器"),
    "hyphen and kanji": ("Wi-Fi設定", "Wi-Fiの設定", "LANの測定"),
    "number and counter": ("14일", "14일 이내", "15일 이내"),
    "Latin with case ending": ("Seoul", "Seoul에서 출발", "Busan에서 출발"),
}


@pytest.mark.parametrize(("query", "document", "distractor"), PAIRS.values(), ids=PAIRS.keys())
async def test_the_passage_in_another_spelling_is_found_first(
    store: SqliteStore, request: pytest.FixtureRequest, query: str, document: str, distractor: str
) -> None:
    vs = request.node.name
    for file_id, text in (("distractor", distractor), ("document", document)):
        await store.vectors.add("ann", vs, file_id, [Chunk(0, text, 0, len(text))], model=None)
    hits = (await store.vectors.search("ann", [vs], Query(query))).hits
    assert [hit.file_id for hit in hits[:1]] == ["document"]
    assert hits[0].chunk.text == document


@pytest.mark.parametrize(
    "text", ["新しい店です", "กินข้าวเช้า", "요리책", "མི་བརྒྱད"], ids=["kana", "Thai", "Hangul", "Tibetan"]
)
def test_each_character_is_found_with_any_of_its_first_marks(text: str) -> None:
    """By the token itself: a prefix could stand for any number of words."""
    found = fold_passage(text).split()
    for at, char in enumerate(text):
        if unicodedata.category(char)[0] != "L":
            continue
        query = char
        for mark in [*text[at + 1 :], "x"]:
            assert fold_query(query).split()[0] in found
            if unicodedata.category(mark)[0] != "M":
                break
            query += mark


def test_a_character_with_many_marks_is_found_and_takes_little_space() -> None:
    marked = "ก" + "ั" * 30
    assert len(fold_passage(marked)) < 3 * len(marked)
    assert fold_query(marked).split()[0] in fold_passage(marked).split()


def test_ascii_is_left_to_the_tokenizer() -> None:
    text = "Part AB-12345/X costs 12.50 EUR; don't_mail jane.doe@example.com *now*\n"
    assert fold(text) == fold_passage(text) == fold_v1(text) == text


@pytest.mark.parametrize("text", ["Zoë’s café – crème brûlée…", "Ἀ", "ÀÉÎ ÅÄÖ Ñ", "Приём, край"], ids=ascii)
def test_accents_and_quotes_keep_the_tokenizer_s_tokens(text: str) -> None:
    before, after = tokens(fold_v1(text), fold_passage(text))
    greek_or_yo = {"ἀ", "приём"}
    assert [word for word in after if word in before] == [word for word in before if word not in greek_or_yo]


def test_every_letter_folds_as_its_case_folding() -> None:
    letters = [
        char
        for char in map(chr, range(0x80, sys.maxunicode))
        if char.casefold() != char and char.isalpha() and unicodedata.is_normalized("NFKC", char)
    ]
    folded = tokens(*(fold(f"x{letter}x") for letter in letters))
    cased = tokens(*(fold(f"x{letter.casefold()}x") for letter in letters))
    assert [letter for letter, one, other in zip(letters, folded, cased, strict=True) if one != other] == []


def test_no_mark_breaks_a_word() -> None:
    marks = [char for char in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(char)[0] == "M"]
    split = tokens(*(fold(f"x{mark}x") for mark in marks))
    assert [ascii(mark) for mark, words in zip(marks, split, strict=True) if len(words) != 1] == []


MARKS = {
    "two in a row": "\u0315\u0300",
    "with marks of kana": "\u0315" * 30 + "\uff9e",
    "with spacing marks of kana": "\u0315" * 29 + "\u309b",
    "Tibetan": "\u0315\u0f73\u0300",
}


@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize(
    "fold_it", [fold, fold_passage, without_stop_words, lambda text: supporting_passages(text, {})]
)
def test_marks_on_one_character_are_normalized_in_linear_time(fold_it: Callable[[str], Any], marks: str) -> None:
    """Sorting 90,000 of them takes a minute."""
    half = marks * (90_000 // len(marks))
    since = time.process_time()
    fold_it(f"a{half}{half[::-1]}")
    assert time.process_time() - since < 2


def test_a_few_marks_are_kept() -> None:
    text = "a" + "\u0315\u0300" * 15
    assert without_long_marks(text) == text
    assert without_long_marks(text + "\u0300b") == text + "b"


def tokens(*texts: str) -> list[list[str]]:
    """Return the terms of folded texts in the index."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute(f"CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = '{TOKENIZE}')")
        conn.execute("CREATE VIRTUAL TABLE terms USING fts5vocab (words, 'instance')")
        conn.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts))
        found: list[list[str]] = [[] for _ in texts]
        for term, row in conn.execute("SELECT term, doc FROM terms ORDER BY doc, offset"):
            found[row].append(term)
        return found
