"""The page: `web/index.html` at `/`, and its scripts, style sheet and texts in `web/page` at `/page/`.

Invariant: the page executes and applies only its own files, whatever a model writes: it creates no elements from text,
its policy allows no inline code, and no answer with data of clients or models has a type of scripts or style sheets.
Opened from disk, the page has the same policy in a `<meta>`. Its scripts are classic ones, because browsers load no
modules from disk.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import HTTPException

__all__ = ["build_page"]

_WEB: Final = Path(__file__).parent.parent / "web"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")
_METHODS: Final = ["GET", "HEAD"]
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # a browser asks each time whether its copy is current
    "vary": "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page: its bytes as they are and compressed, and the hash of its content as an `ETag`."""

    media_type: str
    plain: bytes
    compressed: bytes
    etag: str

    def answer(self, request: Request) -> Response:
        """Answer with the file, compressed if the client accepts that; 304 if the client's copy is current."""
        headers = {**_HEADERS, "etag": self.etag}
        held = request.headers.get("if-none-match", "")
        if "*" in held or self.etag in (each.strip().removeprefix("W/") for each in held.split(",")):
            return Response(status_code=304, headers=headers)
        if _GZIP.search(request.headers.get("accept-encoding", "")):
            headers["content-encoding"] = "gzip"
            return Response(self.compressed, media_type=self.media_type, headers=headers)
        return Response(self.plain, media_type=self.media_type, headers=headers)


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return _File(_TYPES[path.suffix], plain, gzip.compress(plain, mtime=0), etag)


def build_page() -> APIRouter:
    """Read the page's files, and return a router that serves them. A file that is changed later needs a restart."""
    index = _read(_WEB / "index.html")
    files = {path.name: _read(path) for path in (_WEB / "page").iterdir() if path.suffix in _TYPES}
    router = APIRouter()

    @router.api_route("/", methods=_METHODS, include_in_schema=False)
    async def page(request: Request) -> Response:
        """Answer the page."""
        return index.answer(request)

    @router.api_route("/page/{name}", methods=_METHODS, include_in_schema=False)
    async def page_file(name: str, request: Request) -> Response:
        """Answer one of the page's files. Raises HTTPException (404)."""
        if (file := files.get(name)) is None:
            raise HTTPException(404)
        return file.answer(request)

    return router
