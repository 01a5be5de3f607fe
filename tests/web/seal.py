"""Writes the hashes of the page's script and style into its `<meta>`: `python -m tests.web.seal`, after each change."""

import re

from api.page import hashes
from tests.process import ROOT

__all__ = ["PAGE", "sealed"]

PAGE = ROOT / "web" / "index.html"


def sealed(html: str) -> str:
    """Return the page with the hashes that it should contain."""
    for tag in ("script", "style"):
        html = re.sub(rf"{tag}-src 'sha256-[^;]*;", f"{tag}-src {hashes(html, tag)};", html, count=1)
    return html


if __name__ == "__main__":
    PAGE.write_text(sealed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
