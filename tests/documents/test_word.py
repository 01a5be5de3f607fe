"""All text that Word shows is read, in reading order, and hidden text is not."""

import io

import pytest
from lxml import etree

from documents.kinds import office_kind
from documents.package import Package
from documents.readers import read_office
from tests.documents.packages import WORD, Related, package, paragraph, run, word_file


def text_of(data: bytes) -> str:
    return "\n".join(read_office(io.BytesIO(data)))


def kind_of(data: bytes) -> str | None:
    with Package(io.BytesIO(data)) as opened:
        main = opened.main()
        return None if main is None else office_kind(opened, main)


def control(content: str) -> str:
    return f'<w:sdt><w:sdtPr><w:alias w:val="no"/></w:sdtPr><w:sdtContent>{content}</w:sdtContent></w:sdt>'


def cell(content: str) -> str:
    return f"<w:tc>{content}</w:tc>"


def row(*content: str) -> str:
    return f"<w:tr>{''.join(content)}</w:tr>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def box(text: str) -> str:
    return f"<w:txbxContent>{paragraph(text)}</w:txbxContent>"


def drawn(shape: str) -> str:
    graphic = f"<a:graphic><a:graphicData>{shape}</a:graphicData></a:graphic>"
    return f"<w:r><w:drawing><wp:inline>{graphic}</wp:inline></w:drawing></w:r>"


def alternatives(requires: str, choice: str, fallback: str) -> str:
    return (
        f'<mc:AlternateContent><mc:Choice Requires="{requires}">{choice}</mc:Choice>'
        f"<mc:Fallback>{fallback}</mc:Fallback></mc:AlternateContent>"
    )


def field(*runs: str) -> str:
    """Return a complex field: `code`, then its result."""
    code, *result = runs
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'.format
    return mark("begin") + code + mark("separate") + "".join(result) + mark("end")


MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
YES = paragraph("yes")
CODE = "<w:r><w:instrText>no</w:instrText></w:r>"
VML_BOX = f"<w:r><w:pict><v:shape><v:textbox>{box('yes')}</v:textbox></v:shape></w:pict></w:r>"
SHAPE = f"<wps:wsp><wps:txbx>{box('yes')}</wps:txbx></wps:wsp>"


@pytest.mark.parametrize(
    "body",
    [
        control(paragraph("yes")),
        paragraph(control(run("yes"))),
        control(control(paragraph(control(control(run("yes")))))),
        table(control(row(cell(YES)))),
        table(row(control(cell(YES)))),
        table(row(cell(table(row(cell(YES)))))),
        paragraph(f"<w:ins>{run('yes')}</w:ins><w:del><w:r><w:delText>no</w:delText></w:r></w:del>"),
        paragraph(f"<w:moveFrom>{run('no')}</w:moveFrom><w:moveTo>{run('yes')}</w:moveTo>"),
        paragraph(f"<w:ins><w:del>{run('no')}</w:del>{run('yes')}</w:ins>"),
        table(row("<w:trPr><w:del/></w:trPr>", cell(paragraph("no"))), row(cell(YES))),
        table(row("<w:trPr><w:ins/></w:trPr>", cell(YES))),
        paragraph(VML_BOX),
        paragraph(drawn(SHAPE)),
        paragraph(drawn(f"<wpg:wgp>{SHAPE}</wpg:wgp>")),
        paragraph(f"<w:r>{alternatives('wps', drawn(SHAPE), VML_BOX)}</w:r>"),
        paragraph(f"<w:r>{alternatives('wps', drawn('<wps:wsp/>'), VML_BOX)}</w:r>"),
        alternatives("zz", paragraph("no"), paragraph("yes")),
        alternatives("wps", paragraph("yes"), paragraph("no")),
        paragraph(field(CODE, run("yes"))),
        paragraph(field(CODE + field(CODE, run("no")), run("yes"))),
        paragraph(f'<w:fldSimple w:instr="no">{run("yes")}</w:fldSimple>'),
        paragraph(f'<w:hyperlink r:id="no">{run("yes")}</w:hyperlink>'),
        paragraph(f'<w:smartTag w:element="no">{run("yes")}</w:smartTag>'),
        f'<w:customXml w:element="no">{paragraph("yes")}</w:customXml>',
        paragraph(f'<w:customXml w:element="no">{run("yes")}</w:customXml>'),
        paragraph(f'<w:dir w:val="rtl"><w:bdo w:val="rtl">{run("yes")}</w:bdo></w:dir>'),
        paragraph("<m:oMathPara><m:oMath><m:r><m:t>yes</m:t></m:r></m:oMath></m:oMathPara>"),
        paragraph('<w:r><w:drawing><wp:inline><wp:docPr id="1" name="no" descr="yes"/></wp:inline></w:drawing></w:r>'),
        paragraph('<w:r><w:pict><v:shape><v:textpath string="yes"/></v:shape></w:pict></w:r>'),
        paragraph(run("no", "<w:vanish/>") + run("yes", '<w:vanish w:val="0"/>')),
        paragraph("<w:pPr><w:tabs><w:tab/></w:tabs></w:pPr>" + run("yes")),
        paragraph(f"<w:unknown>{run('yes')}</w:unknown>"),
        paragraph(
            '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="no"/>'
            '<w:listEntry w:val="yes"/></w:ddList></w:ffData></w:fldChar></w:r>'
            + '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
        ),
    ],
    ids=[
        "block-control",
        "inline-control",
        "nested-controls",
        "row-control",
        "cell-control",
        "nested-table",
        "inserted",
        "moved",
        "inserted-and-deleted",
        "deleted-row",
        "inserted-row",
        "vml-box",
        "box",
        "box-in-group",
        "box-twice",
        "box-in-fallback",
        "unknown-alternative",
        "known-alternative",
        "field",
        "nested-field",
        "simple-field",
        "hyperlink",
        "smart-tag",
        "custom-block",
        "custom-inline",
        "direction",
        "math",
        "alternative-text",
        "word-art",
        "hidden",
        "tab-stop",
        "unknown-element",
        "drop-down",
    ],
)
def test_only_the_visible_text_of_a_document_is_read(body: str) -> None:
    assert text_of(word_file(body)).split() == ["yes"]


@pytest.mark.parametrize("strict", [False, True], ids=["transitional", "strict"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("document", "word/document.xml"),
        ("document", "word/document2.xml"),
        ("document", "a/b/c.xml"),
        ("document", "main.xml"),
        ("document", "word/main%20part.xml"),
        ("template", "word/document.xml"),
        ("application/vnd.ms-word.document.macroEnabled.main+xml", "word/document.xml"),
        ("application/vnd.ms-word.template.macroEnabledTemplate.main+xml", "word/document.xml"),
        (f"{WORD}document.main+xml".upper(), "WORD/Document.XML"),
        ("application/xml", "word/document.xml"),
    ],
)
def test_a_document_is_recognized_by_its_content(kind: str, name: str, strict: bool) -> None:
    notes = Related(
        "notes.xml", "footnotes", f'<w:footnotes><w:footnote w:id="1">{paragraph("aside")}</w:footnote></w:footnotes>'
    )
    body = paragraph("Said", '<w:r><w:footnoteReference w:id="1"/></w:r>') + paragraph("Then")
    data = word_file(body, notes, name=name, kind=kind, strict=strict)
    assert (kind_of(data), text_of(data)) == ("docx", "Said\naside\nThen")


def test_content_types_are_found_in_any_case_of_their_name() -> None:
    main = Related(
        "x.xml", "other", f"<w:document><w:body>{paragraph('yes')}</w:body></w:document>", f"{WORD}document.main+xml"
    )
    assert text_of(package(main, content_types="[content_types].XML")) == "yes"


def test_notes_and_comments_follow_their_paragraph() -> None:
    related = [
        Related(
            "footnotes.xml",
            "footnotes",
            f'<w:footnotes><w:footnote w:id="0" w:type="separator">{paragraph("no")}</w:footnote>'
            f'<w:footnote w:id="2">{paragraph("foot")}</w:footnote></w:footnotes>',
        ),
        Related(
            "endnotes.xml", "endnotes", f'<w:endnotes><w:endnote w:id="2">{paragraph("end")}</w:endnote></w:endnotes>'
        ),
        Related(
            "comments.xml",
            "comments",
            f'<w:comments><w:comment w:id="2" w:author="Ada">{paragraph("why?")}</w:comment>'
            f'<w:comment w:id="3">{paragraph("gone")}</w:comment></w:comments>',
        ),
    ]
    marks = "".join(f'<w:r><w:{kind}Reference w:id="2"/></w:r>' for kind in ("footnote", "endnote", "comment"))
    body = paragraph(run("one") + marks + '<w:del><w:r><w:commentReference w:id="3"/></w:r></w:del>') + paragraph("two")
    assert text_of(word_file(body, *related)).split("\n") == ["one", "foot", "Ada: why?", "two", "end"]


def test_headers_and_footers_of_all_kinds_are_read_once() -> None:
    related = [
        Related(f"{kind}{index}.xml", kind, f"<w:{tag}>{paragraph(text)}</w:{tag}>")
        for index, (kind, tag, text) in enumerate(
            [
                ("header", "hdr", "top"),
                ("header", "hdr", "first"),
                ("header", "hdr", "top"),
                ("footer", "ftr", "bottom"),
            ]
        )
    ]
    body = paragraph("body") + "".join(
        f'<w:sectPr><w:headerReference r:id="r{index}"/></w:sectPr>' for index in range(3)
    )
    assert text_of(word_file(body, *related)).split() == ["top", "first", "body", "bottom"]


def test_spaces_hyphens_and_symbols_are_characters() -> None:
    body = paragraph(
        "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t>"
        "<w:softHyphen/><w:t>e</w:t>"
        '<w:sym w:font="Symbol" w:char="F061"/><w:sym w:font="Wingdings" w:char="F0FC"/></w:r>'
    )
    assert text_of(word_file(body)) == "a\tb\nc-deα✓"


def test_phonetic_guides_do_not_split_words() -> None:
    ruby = f"<w:r><w:ruby><w:rt>{run('とうきょう')}</w:rt><w:rubyBase>{run('東京')}</w:rubyBase></w:ruby></w:r>"
    assert text_of(word_file(paragraph(ruby + run("都")))) == "東京都 (とうきょう)"


def test_rows_are_lines_and_deleted_paragraph_marks_join() -> None:
    rows = f"<w:tbl><w:tr>{cell(paragraph('a') + paragraph('b'))}{cell(paragraph('c'))}</w:tr></w:tbl>"
    joined = f"<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{run('whole ')}</w:p>{paragraph('line')}"
    assert text_of(word_file(rows + joined)) == "a b\tc\nwhole line"


def test_numbers_of_lists_and_headings_are_counted() -> None:
    levels = '<w:lvl w:ilvl="{}"><w:start w:val="1"/><w:numFmt w:val="{}"/><w:lvlText w:val="{}"/></w:lvl>'.format
    numbering = (
        f'<w:numbering><w:abstractNum w:abstractNumId="0">{levels(0, "decimal", "Article %1.")}'
        f"{levels(1, 'lowerLetter', '%1%2)')}{levels(2, 'bullet', 'x')}</w:abstractNum>"
        '<w:num w:numId="7"><w:abstractNumId w:val="0"/></w:num></w:numbering>'
    )
    styles = (
        '<w:styles><w:style w:styleId="H"><w:pPr><w:numPr><w:numId w:val="7"/></w:numPr></w:pPr></w:style>'
        '<w:style w:styleId="Sub"><w:basedOn w:val="H"/></w:style></w:styles>'
    )
    numbered = '<w:pPr><w:numPr><w:ilvl w:val="{}"/><w:numId w:val="7"/></w:numPr></w:pPr>'.format
    body = "".join(
        paragraph(properties, run(text))
        for properties, text in [
            ('<w:pPr><w:pStyle w:val="H"/></w:pPr>', "Rent"),
            (numbered(1), "amount"),
            (numbered(1), "date"),
            (numbered(2), "bullet"),
            ('<w:pPr><w:pStyle w:val="Sub"/></w:pPr>', "Term"),
            (numbered(1), "length"),
        ]
    )
    related = [Related("numbering.xml", "numbering", numbering), Related("styles.xml", "styles", styles)]
    assert text_of(word_file(body, *related)).split("\n") == [
        "Article 1. Rent",
        "1a) amount",
        "1b) date",
        "bullet",
        "Article 2. Term",
        "2a) length",
    ]


def test_a_field_without_an_end_hides_no_other_paragraph() -> None:
    body = paragraph('<w:r><w:fldChar w:fldCharType="begin"/></w:r>' + CODE + run("code")) + paragraph("yes")
    assert text_of(word_file(body)).split() == ["yes"]


def test_text_of_hidden_styles_is_left_out() -> None:
    styles = (
        '<w:styles><w:style w:styleId="S"><w:rPr><w:vanish/></w:rPr></w:style>'
        '<w:style w:styleId="T"><w:basedOn w:val="S"/></w:style></w:styles>'
    )
    body = paragraph(run("no", '<w:rStyle w:val="T"/>') + run("yes")) + paragraph(
        '<w:pPr><w:pStyle w:val="S"/></w:pPr>', run("no")
    )
    assert text_of(word_file(body, Related("styles.xml", "styles", styles))).split() == ["yes"]


def test_charts_and_diagrams_are_read() -> None:
    chart = (
        "<c:chartSpace><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:rich></c:tx></c:title>"
        "<c:ser><c:tx><c:v>North</c:v></c:tx><c:val><c:pt><c:v>12</c:v></c:pt></c:val></c:ser></c:chart></c:chartSpace>"
    )
    diagram = "<dgm:dataModel><dgm:pt><dgm:t><a:p><a:r><a:t>Step one</a:t></a:r></a:p></dgm:t></dgm:pt></dgm:dataModel>"
    body = paragraph(drawn('<c:chart r:id="r0"/>')) + paragraph(drawn('<dgm:relIds r:dm="r1"/>'))
    text = text_of(word_file(body, Related("chart.xml", "chart", chart), Related("data.xml", "diagramData", diagram)))
    assert text.split("\n") == ["", "Sales", "North\t12", "", "Step one"] or text.split() == [
        "Sales",
        "North",
        "12",
        "Step",
        "one",
    ]


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"<html><body><p>taken <b>in</b></p></body></html>", "text/html"),
        (b"taken in", "text/plain"),
        (word_file(paragraph("taken in")), f"{WORD}document.main+xml"),
        (
            b'Content-Type: multipart/related; boundary="b"\n\n--b\nContent-Type: text/html\n\n<p>taken in</p>\n--b--',
            "message/rfc822",
        ),
    ],
    ids=["html", "text", "word", "mht"],
)
def test_included_files_are_read_at_their_position(data: bytes, content_type: str) -> None:
    body = paragraph("before") + '<w:altChunk r:id="r0"/>' + paragraph("after")
    text = text_of(word_file(body, Related("chunk.bin", "aFChunk", data, content_type)))
    assert text.split() == ["before", "taken", "in", "after"]


def test_ten_thousand_levels_are_read() -> None:
    depth = 10_000
    body = "<w:sdt><w:sdtContent>" * depth + paragraph("deep") + "</w:sdtContent></w:sdt>" * depth
    assert text_of(word_file(body)) == "deep"


@pytest.mark.parametrize("entity", ['SYSTEM "file:///etc/hostname"', f'"{"x" * 10}"'], ids=["outside", "inside"])
def test_entities_load_no_file(entity: str) -> None:
    xml = f'<!DOCTYPE d [<!ENTITY e {entity}>]><w:document xmlns:w="{MAIN}"><w:p><w:t>a&e;b</w:t></w:p></w:document>'
    text = text_of(package(Related("d.xml", "officeDocument", xml.encode(), f"{WORD}document.main+xml")))
    assert text in ("ab", f"a{'x' * 10}b")


def test_expanding_entities_are_refused() -> None:
    many = "&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};".format
    entities = "".join(f"<!ENTITY e{n} '{many(n - 1)}'>" for n in range(1, 10))
    xml = f'<!DOCTYPE d [<!ENTITY e0 "many">{entities}]><w:document xmlns:w="{MAIN}"><w:t>&e9;</w:t></w:document>'
    with pytest.raises(etree.XMLSyntaxError):
        text_of(package(Related("d.xml", "officeDocument", xml.encode(), f"{WORD}document.main+xml")))
