"""Text of DrawingML parts, which Word, PowerPoint and Excel share: charts, SmartArt, text boxes on sheets."""

from typing import Final

from documents.markup import TextTarget
from documents.package import Package, Part

__all__ = ["read_drawing"]

_MAX_DEPTH: Final = 3


def read_drawing(package: Package, part: Part, depth: int = 0) -> str:
    """Return a part's text and that of its charts and diagrams, down to `_MAX_DEPTH` levels."""

    def related(id: str) -> str:
        found = package.by_id(part, id)
        return "" if found is None or depth >= _MAX_DEPTH else read_drawing(package, found, depth + 1)

    target = TextTarget(related)
    package.feed(part, target)
    return target.text
