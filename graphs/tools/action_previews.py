"""Shows the requests of actions that wait for approval.

Invariant: a preview is built like the request itself and shows no secret: credentials are added only on sending.
"""

from typing import Final

from fairness.fair_limits import REQUESTS
from graphs.tools.arguments import BadArguments, read_arguments
from graphs.tools.http_requests import HttpRequest, build_request
from graphs.tools.operations import Operation
from graphs.tools.port import TOO_LONG, Preview
from telemetry.context import current_owner
from wire.json import JsonObject

__all__ = ["preview_call"]

_MAX_PATH: Final = 2_048
"""Characters of the URL that are shown if no request can be built."""


async def preview_call(operation: Operation, arguments: str, max_chars: int) -> Preview:
    """Return the request of a call; see `graphs.tools.port.PreviewCall`."""
    problem = TOO_LONG
    try:
        if max_chars > 0:
            values, _ = await read_arguments(operation, arguments)
            preview = await REQUESTS.run(current_owner(), _build, operation, values)
            if preview.size <= max_chars:
                return preview
    except BadArguments as error:
        problem = str(error)
    return _preview_of(HttpRequest(operation.method, (operation.server + operation.path)[:_MAX_PATH], []), problem)


def _build(operation: Operation, values: JsonObject) -> Preview:
    return _preview_of(build_request(operation, values), None)


def _preview_of(call: HttpRequest, problem: str | None) -> Preview:
    return Preview(call.method, call.url, dict(call.headers), _body(call), problem)


def _body(call: HttpRequest) -> str:
    if call.files is not None:
        return "\n".join(f"{name}: {data.decode('utf-8', 'replace')}" for name, (_, data, _) in call.files)
    return (call.content or b"").decode("utf-8", "replace")
