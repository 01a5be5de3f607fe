"""Words that a line end divides are joined, and form values and notes are read."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from documents.pdf import join_lines, read_pdf


def pdf(
    lines: Sequence[str], annotations: Sequence[str] = (), *, box: str = "/MediaBox[0 0 595 842]", matrix: str = ""
) -> bytes:
    """Return a page with these lines. Annotations are dictionaries without brackets; those with /FT are fields."""
    drawn = f"{matrix} BT /F1 12 Tf 14 TL 72 760 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    places = [f"{6 + index} 0 R" for index in range(len(annotations))]
    fields = [index for index, item in zip(places, annotations, strict=True) if "/FT" in item]
    objects = [
        f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[{' '.join(fields)}]/DA(/F1 12 Tf)>>>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R{box}/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R/Annots[{' '.join(places)}]>>",
        f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        *(
            f"<</Type/Annot/P 3 0 R/Rect[10 {10 + 20 * n} 90 {20 + 20 * n}]{item}>>"
            for n, item in enumerate(annotations)
        ),
    ]
    out, starts = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += f"{number} 0 obj{body}endobj\n".encode("latin-1")
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\n"
    return out + f"{end}startxref\n{len(out)}\n%%EOF".encode()


def read(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    return "\n".join(read_pdf(path))


@pytest.mark.parametrize(
    ("box", "matrix"),
    [
        ("/Rotate 90/MediaBox[0 0 595 842]", "0 1 -1 0 595 0 cm"),
        ("/Rotate 180/MediaBox[0 0 595 842]", "-1 0 0 -1 595 842 cm"),
        ("/Rotate 270/MediaBox[0 0 595 842]", "0 -1 1 0 0 842 cm"),
        ("/MediaBox[0 0 60 842]", ""),
        ("/MediaBox[0 0 595 842]/CropBox[0 0 60 842]", ""),
    ],
    ids=["90", "180", "270", "narrow", "cropped"],
)
def test_rotated_or_cropped_pages_lose_no_word(tmp_path: Path, box: str, matrix: str) -> None:
    lines = ["A line of many words about docu-", "mentation and the like."]
    assert (
        read(tmp_path, pdf(lines, box=box, matrix=matrix)) == "A line of many words about documentation and the like."
    )


def test_words_are_complete_on_a_page(tmp_path: Path) -> None:
    text = read(
        tmp_path, pdf(["The docu-", "mentation is manda-", "tory in the state-of-the-", "art labora\\255", "tory."])
    )
    assert text == "The documentation is mandatory in the state-of-the-art laboratory."


@pytest.mark.parametrize(
    "mark", ["\x02", "\ufffe", "-\n", "\u2010\n"], ids=["stx", "noncharacter", "hyphen", "unicode-hyphen"]
)
@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("docu|mentation", "documentation"),
        ("in|for|ma|tion", "information"),
        ("state-of-the|art", "state-of-the-art"),
        ("Müller|Lüdenscheidt", "Müller-Lüdenscheidt"),
        ("COVID|19", "COVID-19"),
        ("OP|TIONAL", "OPTIONAL"),
        ("2020|2021", "2020-2021"),
        ("Vor|und Nachteile", "Vor- und Nachteile"),
        ("well|known", "well-known"),
        ("ab|", "ab|"),
    ],
)
def test_a_word_s_own_hyphen_stays_at_a_line_end(mark: str, broken: str, whole: str) -> None:
    assert join_lines(broken.replace("|", mark), {"well-known"}) == whole.replace("|", mark)


def test_soft_hyphens_at_line_ends_are_removed() -> None:
    assert join_lines("A\xad\nB, state-of-the\xad\nart") == "AB, state-of-theart"


def test_a_dash_at_a_line_end_is_not_a_hyphen() -> None:
    assert join_lines("one -\ntwo\n- three") == "one -\ntwo\n- three"


@pytest.mark.parametrize(
    ("annotation", "line"),
    [
        ("/Subtype/Widget/FT/Tx/T(name)/TU(Full name)/V(Ada Lovelace)", "Full name: Ada Lovelace"),
        ("/Subtype/Widget/FT/Tx/T(name)/V<FEFF738B>", "name: 王"),
        ("/Subtype/Widget/FT/Tx/T(name)", None),
        ("/Subtype/Widget/FT/Tx/Ff 8192/T(pin)/V(1234)", None),
        ("/Subtype/Widget/FT/Btn/T(agree)/V/Yes/AS/Yes/AP<</N<</Yes 4 0 R/Off 4 0 R>>>>", "agree: Yes"),
        ("/Subtype/Widget/FT/Btn/T(agree)/V/Off/AS/Off/AP<</N<</Yes 4 0 R/Off 4 0 R>>>>", None),
        ("/Subtype/Widget/FT/Ch/Ff 131072/T(land)/V(FR)/Opt[[(DE)(Germany)][(FR)(France)]]", "land: France"),
        ("/Subtype/Widget/FT/Ch/Ff 2097152/T(land)/V[(a)(c)]/Opt[(a)(b)(c)]", "land: a, c"),
        ("/Subtype/FreeText/DA(/F1 12 Tf)/Contents(A free text)", "A free text"),
        ("/Subtype/Text/Contents(A note)", "A note"),
        ("/Subtype/Link/Contents(no)", None),
    ],
    ids=[
        "text",
        "unicode",
        "empty",
        "password",
        "checked",
        "unchecked",
        "choice",
        "choices",
        "free-text",
        "note",
        "link",
    ],
)
def test_fields_and_notes_are_lines_after_the_page(tmp_path: Path, annotation: str, line: str | None) -> None:
    assert read(tmp_path, pdf(["Form"], [annotation])).split("\n") == ["Form", *([line] if line else [])]


def test_ligatures_become_letters(tmp_path: Path) -> None:
    assert read(tmp_path, pdf(["Form"], ["/Subtype/Text/Contents<FEFFFB01006E>"])).endswith("fin")
