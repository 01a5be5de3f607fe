"""Builds Open XML packages part by part, for content that libraries cannot write."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["WORD", "Related", "package", "paragraph", "run", "word_file"]

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml."
_NAMESPACES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "wpg": "http://schemas.microsoft.com/office/word/2010/wordprocessingGroup",
    "v": "urn:schemas-microsoft-com:vml",
    "zz": "urn:unknown",
}


@dataclass(frozen=True, slots=True)
class Related:
    """A part, its relationship's kind and its content type. `xml` gets the namespaces, unless it is bytes."""

    name: str
    kind: str
    xml: str | bytes
    content_type: str = "application/xml"
    related: Sequence["Related"] = field(default=())


def run(text: str, properties: str = "") -> str:
    """Return a run of text."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(*content: str) -> str:
    """Return a paragraph of runs, or of a text."""
    return f"<w:p>{''.join(item if item.startswith('<') else run(item) for item in content)}</w:p>"


def word_file(
    body: str, *related: Related, name: str = "word/document.xml", kind: str = "document", strict: bool = False
) -> bytes:
    """Return a Word document; `kind` is its content type, or the end of it."""
    content_type = kind if "/" in kind else f"{WORD}{kind}.main+xml"
    main = Related(name, "officeDocument", f"<w:document><w:body>{body}</w:body></w:document>", content_type, related)
    return package(main, strict=strict)


def package(main: Related, *, strict: bool = False, content_types: str = "[Content_Types].xml") -> bytes:
    """Return a package; the ids of relationships are `r0`, `r1` and so on, in the order given."""
    parts: dict[str, tuple[str, bytes]] = {}
    relationships: dict[str, str] = {}
    _collect(main, strict, parts, relationships)
    relationships["_rels/.rels"] = _relations([main], strict, base="")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        overrides = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, (kind, _) in parts.items())
        archive.writestr(
            content_types,
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Default Extension="rels" ContentType="application/xml"/>{overrides}</Types>',
        )
        for name, xml in relationships.items():
            archive.writestr(name, xml)
        for name, (_, data) in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def _collect(part: Related, strict: bool, parts: dict[str, tuple[str, bytes]], relationships: dict[str, str]) -> None:
    data = part.xml if isinstance(part.xml, bytes) else _declare(part.xml, _names(strict)).encode()
    parts[part.name] = (part.content_type, data)
    folder, _, name = part.name.rpartition("/")
    relationships[f"{folder}/_rels/{name}.rels".lstrip("/")] = _relations(part.related, strict, base="/")
    for other in part.related:
        _collect(other, strict, parts, relationships)


def _relations(parts: Sequence[Related], strict: bool, *, base: str) -> str:
    kind = _names(strict)["r"]
    items = "".join(
        f'<Relationship Id="r{index}" Type="{kind}/{part.kind}" Target="{base}{part.name}"/>'
        for index, part in enumerate(parts)
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{items}</Relationships>'
    )


def _names(strict: bool) -> Mapping[str, str]:
    if not strict:
        return _NAMESPACES
    return {
        prefix: uri.replace("http://schemas.openxmlformats.org/", "http://purl.oclc.org/ooxml/").replace("/2006", "")
        if "/officeDocument/" in uri or "ml/2006" in uri
        else uri
        for prefix, uri in _NAMESPACES.items()
    }


def _declare(xml: str, names: Mapping[str, str]) -> str:
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in names.items())
    end = min(found for found in (xml.find(">"), xml.find(" "), xml.find("/>")) if found != -1)
    return f"{xml[:end]} {declared}{xml[end:]}"
