"""Files are read in a separate process, and unreadable ones are refused with the reason."""

import asyncio
import time
from pathlib import Path

import pytest

from documents.extraction import Extractor, Limits
from tests.documents.files import docx_file, pdf_file, pptx_file, xlsx_file, zip_bomb, zip_file
from tests.documents.packages import Related, package
from wire.errors import UnreadableFile

LONG = "Le café où j'étais hier était fermé à cause de la fête. Les élèves préfèrent l'été, et Noël à Pâques. " * 5


async def text_of(tmp_path: Path, data: bytes, name: str, limits: Limits | None = None) -> str:
    path = tmp_path / "blob"
    await asyncio.to_thread(path.write_bytes, data)
    return b"".join((await Extractor(limits).read(path, name)).blocks).decode()


async def refused(tmp_path: Path, data: bytes, name: str, limits: Limits | None = None) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        await text_of(tmp_path, data, name, limits)
    return caught.value


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"# Cats\n\npurr", "a.md", ["# Cats", "purr"]),
        (b'{"a": [1, 2]}', "a.json", ['{"a": [1, 2]}']),
        (rb'[ {\n "a": "Z\u00fcrich"}]'.replace(b"\\n", b"\n"), "a.txt", ["Zürich"]),
        (b"a,b\n1,2\n", "a.csv", ["a,b\n1,2"]),
        (b"def f():\n    return 1\n", "a.py", ["    return 1"]),
        (b"no ending at all", "README", ["no ending"]),
        (b"<p>One <b>t</b>wo</p><p>three</p><script>no()</script>", "a.html", ["One two\n", "three"]),
        ('<!DOCTYPE html><meta charset="latin-1"><p>café'.encode("latin-1"), "page", ["café"]),
        (pdf_file("Bears are big", "Second page"), "a.pdf", ["Bears are big\n", "Second page"]),
        (pdf_file("Named wrongly"), "a.txt", ["Named wrongly"]),
        (docx_file("Hello", table=[["a", "b"], ["c", "d"]]), "a.docx", ["Hello\n", "a\tb\nc\td\n", "The end."]),
        (pptx_file("Title", "Said aside"), "a.pptx", ["Title", "Said aside"]),
        (xlsx_file([["cat", 1.5], ["dog", 2]]), "a.xlsx", ["Prices\n", "cat\t1.5\n", "dog\t2"]),
        (LONG.encode("utf-16"), "a.txt", [LONG]),
        (b"\xef\xbb\xbfmarked", "a.txt", ["marked"]),
        (LONG.encode("latin-1"), "a.txt", [LONG]),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
async def test_the_text_of_every_kind_of_file_is_read(tmp_path: Path, data: bytes, name: str, words: list[str]) -> None:
    text = await text_of(tmp_path, data, name)
    assert [word for word in words if word not in text] == []
    assert "no()" not in text
    assert not text.startswith("\ufeff")


@pytest.mark.parametrize(
    ("data", "name", "code", "why"),
    [
        (b"", "a.txt", "invalid_file", "is empty"),
        (bytes(range(256)) * 40, "a.txt", "unsupported_file", "not text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2000), "a.png", "unsupported_file", "not text"),
        (b"%PDF-1.4 nothing more", "a.pdf", "invalid_file", "PDF cannot be read"),
        (pdf_file("secret", encrypt=True), "a.pdf", "invalid_file", "encrypted"),
        (zip_file(x=b"y"), "a.zip", "unsupported_file", "archive"),
        (docx_file("x")[:400], "a.docx", "invalid_file", "damaged archive"),
        (zip_file(word__document_xml=b"<a"), "a.docx", "unsupported_file", "archive"),
        (zip_file(**{"word__document.xml": b"<a"}), "a.docx", "unsupported_file", "archive"),
        (package(Related("a.xml", "officeDocument", b"<a", "application/xml")), "a.docx", "invalid_file", "damaged"),
        (
            package(Related("a.xml", "officeDocument", b"<a/>", "application/xml")),
            "a.docx",
            "unsupported_file",
            "archive",
        ),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "a.doc", "unsupported_file", "old Office format"),
        (
            bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            "invalid_file",
            "encrypted",
        ),
        (b"\xff\xfea", "a.txt", "invalid_file", "byte order mark"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
async def test_an_unreadable_file_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, name: str, code: str, why: str
) -> None:
    error = await refused(tmp_path, data, name)
    assert (error.code, why in error.message) == (code, True), error.message


async def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    started = time.monotonic()
    limits = Limits(unpacked_bytes=10 * 1024 * 1024)
    error = await refused(tmp_path, await asyncio.to_thread(zip_bomb, 20 * 1024 * 1024), "a.docx", limits)
    assert error.code == "invalid_file"
    assert "unpacks to" in error.message
    assert time.monotonic() - started < 10


async def test_text_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    error = await refused(tmp_path, pdf_file(*["many words on each page"] * 20), "a.pdf", Limits(chars=100))
    assert (error.code, "more than 100 characters" in error.message) == ("invalid_file", True)
    error = await refused(tmp_path, b"x" * 1000, "a.txt", Limits(chars=100))
    assert "1000 bytes" in error.message


async def test_a_file_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    endless = b"<p>x" * 1_000_000  # takes seconds on any machine
    started = time.monotonic()
    error = await refused(tmp_path, endless, "a.html", Limits(time_s=1))
    assert error.code == "invalid_file"
    assert time.monotonic() - started < 8


async def test_a_file_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    error = await refused(tmp_path, b"<p>x" * 2_000_000, "a.html", Limits(memory_bytes=160 * 1024 * 1024))
    assert error.code == "invalid_file"


@pytest.mark.soak
async def test_ten_thousand_pages_are_read(tmp_path: Path) -> None:
    text = await text_of(tmp_path, pdf_file(*[f"page {number}" for number in range(10_000)]), "a.pdf")
    assert text.count("page ") == 10_000


async def test_cancelling_a_read_ends_its_process(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    await asyncio.to_thread(path.write_bytes, b"<p>x" * 1_000_000)
    reading = asyncio.ensure_future(Extractor().read(path, "a.html"))
    await asyncio.sleep(0.5)
    assert not reading.done()
    reading.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert time.monotonic() - started < 5


async def test_a_long_text_is_returned_in_blocks(tmp_path: Path) -> None:
    text = "𝒳𝒴 a" * 1_000_000
    path = tmp_path / "blob"
    await asyncio.to_thread(path.write_text, text, "utf-8")
    blocks = (await Extractor().read(path, "a.txt")).blocks
    assert max(map(len, blocks)) <= 256 * 1024
    assert b"".join(blocks).decode() == f"{text}\n"
