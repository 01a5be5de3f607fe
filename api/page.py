"""The page at `/`: `web/index.html` as it lies on disk, read at start, under a policy that lets only its own code run.

The law: nothing on the page but its one script and its one style sheet is ever executed or loaded, whatever a model
says; the hashes in the policy are computed from the very bytes that are sent. From disk the same page carries the
same hashes in a `<meta>`, which `python -m tests.web.seal` renews and a test checks.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

__all__ = ["build_page", "hashes"]

_FILE: Final = Path(__file__).parent.parent / "web" / "index.html"
_BLOCK: Final = r"<{tag}\b[^>]*>(.*?)</{tag}>"


def hashes(html: str, tag: str) -> str:
    """Name the inline blocks of a tag (`script`, `style`) as CSP sources."""
    blocks = re.findall(_BLOCK.format(tag=tag), html, re.DOTALL)
    digests = (hashlib.sha256(block.encode()).digest() for block in blocks)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def build_page() -> APIRouter:
    """Read the page and answer it at `/`."""
    html = _FILE.read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {hashes(html, 'script')}; style-src {hashes(html, 'style')}; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
    body = html.encode()
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        """Answer the page."""
        return Response(body, media_type="text/html; charset=utf-8", headers=headers)

    return router
