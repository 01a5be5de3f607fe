"""Removes stop words of questions from queries in languages written without spaces or with joined endings. Pure.

Such a query is searched as pairs of characters, and words rank its hits, because the built-in embedder supports only
English. Without this, "how" and "please" would find every other question. Passages keep all their words.
"""

import re
import unicodedata
from typing import Final

from store.folding import without_long_marks

__all__ = ["without_stop_words"]

_CHINESE: Final = (
    "请问|請問|为什么|為什麼|什么时候|什麼時候|(?:怎|什)(?:么|麼)(?:样|樣|办|辦)?|如何|多少(?:钱|錢)?|多久"
    "|哪(?:里|裡|个|個|些)|(?:我|我们|我們)?(?:可不可以|能不能|可以|想)|是否|[吗嗎呢](?!\\w)"
)
_JAPANESE: Final = (
    "どうすれば|どうやって|どのように|どのくらい|いくら|いつ|どこ|なぜ|について"
    "|(?<=\\w)(?:し?てい?|(?:し?た|な)い[のん]?)?"  # polite endings
    "(?:ませんでした|ましょう|ました|ません|ます|でしょう|でした|です|ください)[かがねよ]?(?![ぁ-ゖ])"
)
_KOREAN: Final = (
    "\\b(?:[할될]\\s?)?수\\s?[있없][가-힣]*|\\b(?:어떻게|어떤|얼마(?:나|인가요|입니까|[예에]요)?|왜|대해서?|무엇[을이]?)(?![가-힣])"
    "|\\b(?:어디|언제)(?:서|에서|까지|부터)?(?![가-힣])|\\b(?:알려\\s?|해\\s?)?주(?:세요|십시오)(?![가-힣])"
    "|(?:[하되주]|(?<=[가-힣])할)?(?:나요|세요|까요)(?![가-힣])|(?:가능)?[합됩입습]니[다까](?![가-힣])"
    "|(?:가능)?[은는인한]가요(?![가-힣])|[해돼예어아]요(?![가-힣])"
)
_THAI: Final = "อย่างไร|ยังไง|เท่าไร|เท่าไหร่|อะไร|ที่ไหน|เมื่อไร|เมื่อไหร่|หรือไม่|(?:ได้)?ไหม|กรุณา"

_STOP_WORDS: Final = re.compile(f"{_CHINESE}|{_JAPANESE}|{_KOREAN}|{_THAI}")
_WORD: Final = re.compile("[^\\W_]")


def without_stop_words(query: str) -> str:
    """Return the query without question words and polite endings; the whole query if it has nothing else."""
    if query.isascii():
        return query
    rest = _STOP_WORDS.sub(" ", unicodedata.normalize("NFC", without_long_marks(query)))
    return rest if _WORD.search(rest) else query
