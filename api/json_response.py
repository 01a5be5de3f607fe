"""JSON responses, encoded once. Bodies are wire objects already, so they are not validated again."""

from collections.abc import Mapping

import orjson
from fastapi import Response

from graphs.tools.kinds import KINDS
from wire.extensions import without_extensions
from wire.json import JsonView
from wire.v1 import as_v1

__all__ = ["json_response", "not_offered"]


def json_response(
    body: Mapping[str, object],
    *,
    v1: bool = False,
    extensions: bool = False,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a JSON response, in v1's form for a v1 client, and with our own fields only if `extensions` is set."""
    headers = not_offered(body) | (headers or {})
    body = body if extensions else without_extensions(body, v1=v1)
    content = orjson.dumps(as_v1(body) if v1 else body)
    return Response(content, status, headers=headers, media_type="application/json")


def not_offered(body: JsonView) -> dict[str, str]:
    """Return the header that names the tools of an assistant or run that are not offered to the model."""
    types = dict.fromkeys(tool["type"] for tool in body.get("tools") or () if tool["type"] not in KINDS)
    return {"x-threadhold-not-offered": ", ".join(types)} if types else {}
