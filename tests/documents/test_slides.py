"""Every text of a presentation is read, slide by slide, in every format that PowerPoint saves."""

import io

import pptx
import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from documents.kinds import office_kind
from documents.package import Package
from documents.readers import read_office
from tests.documents.packages import Related, package

_TYPE = "application/vnd.openxmlformats-officedocument.presentationml."


def text_of(data: bytes) -> str:
    return "\n".join(read_office(io.BytesIO(data)))


def shape(text: str, *, of: str = "", hidden: str = "0") -> str:
    placeholder = f'<p:ph type="{of}"/>' if of else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="no" hidden="{hidden}"/><p:nvPr>{placeholder}</p:nvPr></p:nvSpPr>'
        f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def slide(name: str, content: str, *related: Related) -> Related:
    return Related(name, "slide", f"<p:sld><p:cSld><p:spTree>{content}</p:spTree></p:cSld></p:sld>", _TYPE, related)


def presentation(
    *slides: Related, kind: str = "presentation", order: list[int] | None = None, strict: bool = False
) -> bytes:
    ids = "".join(f'<p:sldId id="{index}" r:id="r{index}"/>' for index in order or range(len(slides)))
    xml = f"<p:presentation><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    content_type = kind if "/" in kind else f"{_TYPE}{kind}.main+xml"
    return package(Related("ppt/main.xml", "officeDocument", xml, content_type, slides), strict=strict)


@pytest.mark.parametrize("strict", [False, True], ids=["transitional", "strict"])
@pytest.mark.parametrize(
    "kind",
    [
        "presentation",
        "template",
        "slideshow",
        "application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml",
        "application/vnd.ms-powerpoint.slideshow.macroEnabled.main+xml",
        "application/xml",
    ],
)
def test_a_presentation_is_recognized_by_its_content(kind: str, strict: bool) -> None:
    data = presentation(
        slide("a.xml", shape("second")), slide("b.xml", shape("first")), kind=kind, order=[1, 0], strict=strict
    )
    with Package(io.BytesIO(data)) as opened:
        main = opened.main()
        assert main is not None
        assert office_kind(opened, main) == "pptx"
    assert text_of(data).split() == ["first", "second"]


@pytest.mark.parametrize(
    "content",
    [
        f"<p:grpSp><p:grpSp>{shape('yes')}</p:grpSp></p:grpSp>",
        '<mc:AlternateContent><mc:Choice Requires="zz"><p:sp/></mc:Choice><mc:Fallback>'
        + shape("yes")
        + "</mc:Fallback></mc:AlternateContent>",
        "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>yes</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>",
        '<p:pic><p:nvPicPr><p:cNvPr id="1" name="no" descr="yes"/></p:nvPicPr></p:pic>',
        shape("yes") + shape("no", of="sldNum") + shape("no", hidden="1"),
        "<p:sp><p:txBody><a:p><a:fld><a:t>yes</a:t></a:fld></a:p></p:txBody></p:sp>",
    ],
    ids=["groups", "alternatives", "table", "picture", "hidden", "field"],
)
def test_only_the_visible_text_of_a_slide_is_read(content: str) -> None:
    assert text_of(presentation(slide("a.xml", content))).split() == ["yes"]


def test_notes_comments_and_diagrams_belong_to_their_slide() -> None:
    related = [
        Related(
            "data.xml",
            "diagramData",
            "<dgm:dataModel><dgm:t><a:p><a:r><a:t>step</a:t></a:r></a:p></dgm:t></dgm:dataModel>",
        ),
        Related("notes.xml", "notesSlide", f"<p:notes>{shape('aside')}{shape('7', of='sldNum')}</p:notes>"),
        Related("c.xml", "comments", "<p:cmLst><p:cm><p:text>why?</p:text></p:cm></p:cmLst>"),
    ]
    frame = (
        '<p:graphicFrame><a:graphic><a:graphicData><dgm:relIds r:dm="r0"/></a:graphicData></a:graphic></p:graphicFrame>'
    )
    data = presentation(slide("a.xml", shape("one") + frame, *related), slide("b.xml", shape("two")))
    assert text_of(data).split() == ["one", "step", "aside", "why?", "two"]


def test_presentations_of_powerpoint_libraries_are_read() -> None:
    made = pptx.Presentation()
    page = made.slides.add_slide(made.slide_layouts[5])
    assert page.shapes.title is not None
    page.shapes.title.text = "Title"
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("Sales", (1, 2))
    page.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(1), Inches(3), Inches(3), data)
    cells = page.shapes.add_table(1, 2, Inches(1), Inches(1), Inches(3), Inches(1)).table
    cells.cell(0, 0).text, cells.cell(0, 1).text = "a", "b"
    out = io.BytesIO()
    made.save(out)
    text = text_of(out.getvalue())
    assert text.startswith("Title\n")
    assert "Sales\tEast\tWest\t1" in text
    assert "a\tb\n" in text
