"""Answers: JSON encoded once. Bodies are wire objects already, so that nothing is validated on the way out."""

from typing import Any

import orjson
from fastapi import Response

from wire.v1 import with_file_ids

__all__ = ["answer"]


def answer(body: Any, *, v1: bool = False, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response; what a v1 client reads carries `file_ids` too."""
    content = orjson.dumps(with_file_ids(body) if v1 else body)
    return Response(content, status, headers=headers, media_type="application/json")
