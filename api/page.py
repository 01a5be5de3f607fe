"""The page at `/`: `web/index.html`, read at start, with a content security policy that allows only its own code.

Invariants: the page executes and applies only its one script and its one style sheet, whatever a model writes. The
hashes in the policy are computed from the bytes that are sent. Opened from disk, the page has the same hashes in a
`<meta>`, which `python -m tests.web.seal` updates and a test checks.
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
    """Return the inline blocks of a tag (`script`, `style`) as CSP sources."""
    blocks = re.findall(_BLOCK.format(tag=tag), html, re.DOTALL)
    digests = (hashlib.sha256(block.encode()).digest() for block in blocks)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def build_page() -> APIRouter:
    """Read the page, and return a router that serves it at `/`."""
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
