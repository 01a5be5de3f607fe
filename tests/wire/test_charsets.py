"""Names of character sets: which are known, and that look-ups leave nothing in memory."""

import tracemalloc

import pytest

from wire.charsets import text_codec


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-8", "utf-8"),
        ("UTF8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16le", "utf-16-le"),
        ("ISO-8859-1", "iso8859-1"),
        ("latin1", "iso8859-1"),
        ("windows-1251", "cp1251"),
        ("ks_c_5601-1987", "euc_kr"),
        ("shift-jis", "shift_jis"),
        ("GB2312", "gb2312"),
        ("us-ascii", "ascii"),
        ("KOI8-R", "koi8-r"),
        ("klingon", None),
        ("", None),
        ("punycode", None),
        ("idna", None),
        ("hex", None),
        ("rot13", None),
        ("aliases", None),
        ("undefined", None),
        ("utf\0008", "utf-8"),
        ("x" * 16_000, None),
    ],
)
def test_charsets_are_known_by_their_usual_names(charset: str, codec: str | None) -> None:
    assert text_codec(charset) == codec


@pytest.mark.parametrize("spelled", ["x{}", "utf{}8", "{}utf-8"], ids=["unknown", "within", "before"])
def test_names_of_charsets_are_not_cached(spelled: str) -> None:
    text_codec("utf-8")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(2_000):
        text_codec(spelled.format(f"{number:b}".replace("0", "-").replace("1", "_")))
        text_codec(spelled.format(number))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000  # 4,000 names would need four times as much
