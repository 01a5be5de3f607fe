"""Maps Azure's paths of the API before anything else sees them: admission, log, metrics and routes know only our own.

| Azure | here |
|---|---|
| `/openai/threads`, `/openai/v1/threads` | `/v1/threads` |
| `/openai/deployments/NAME/chat/completions` | `/v1/chat/completions` with NAME as the model |
| `/openai/v1/deployments/NAME/chat/completions` | the same; SDKs make it of a `base_url` that ends in `/openai/v1` |

On Azure, `api-version` selects the generation of the Assistants API: a client without `OpenAI-Beta` gets v1 for the
versions that had it. Otherwise every route ignores `api-version`.
"""

import re
from collections.abc import Awaitable
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["DEPLOYMENT", "AzureAddresses"]

DEPLOYMENT: Final = "deployment"
"""Key of the request's state: the deployment's name, which replaces the body's model, as on Azure."""

_PREFIXES: Final = ("/openai/", "//openai/")
"""SDKs make the second one of an endpoint that ends in `/`."""

_DEPLOYMENTS: Final = "/deployments/"
_OPERATIONS: Final = (
    *("/chat/completions", "/completions", "/embeddings", "/images/generations", "/images/edits"),
    *("/audio/transcriptions", "/audio/translations", "/audio/speech"),
)
"""What Azure's SDKs send to deployments. The ends of paths are listed because SDKs do not encode a slash in a name."""

_STORED: Final = frozenset({"assistants", "batches", "files", "models", "threads", "uploads", "vector_stores"})
"""Objects of the account, not of a deployment. SDKs up to openai-python 1.51 request them below a deployment."""

_API_VERSION: Final = re.compile(rb"(?:^|&)api-version=(\d{4}-\d\d-\d\d)")
_FIRST_V2: Final = b"2024-05-01"


class AzureAddresses:
    """Maps Azure's paths for `app`. Not a coroutine itself, so that other requests cost one comparison."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one request."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIXES):
            scope = _mapped(scope)
        return self._app(scope, receive, send)


def _mapped(scope: Scope) -> Scope:
    raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    rest = raw.partition("?")[0].partition("openai")[2]
    if rest.startswith("/v1/"):
        rest = rest.removeprefix("/v1")
    deployment = None
    if rest.startswith(_DEPLOYMENTS):
        deployment, rest = _split_deployment(rest.removeprefix(_DEPLOYMENTS))
    path = f"/v1{rest}"
    mapped = {**scope, "path": unquote(path), "raw_path": path.encode("latin-1"), "headers": _headers(scope)}
    if deployment is not None and rest.split("/")[1] not in _STORED:
        mapped["state"] = {**scope.get("state", {}), DEPLOYMENT: deployment}
    return mapped


def _split_deployment(path: str) -> tuple[str, str]:
    """Return the deployment's name, and the rest of the path, which begins with a slash."""
    for operation in _OPERATIONS:
        if path.endswith(operation):
            return unquote(path.removesuffix(operation)), operation
    name, _, rest = path.partition("/")
    return unquote(name), f"/{rest}"


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = list(scope["headers"])
    version = _API_VERSION.search(scope["query_string"])
    if version is not None and version[1] < _FIRST_V2 and all(name != b"openai-beta" for name, _ in headers):
        headers.append((b"openai-beta", b"assistants=v1"))
    return headers
