"""LangServe's routes: the chat chain at `/chat`, runs at `/assistant`, and their playgrounds.

The only file that knows LangServe, which is in maintenance. It is imported when the server starts, not before. What it
adds to every deployment and nobody asked for (feedback) is left out.
"""

import warnings
from typing import Any, Final

from fastapi import APIRouter, Request
from langserve import add_routes

from api.depends import House
from chains import build_chat_chain
from graphs.facade import OWNER, RunFacade

__all__ = ["build_router"]

# The playgrounds ask for schemas and link to themselves (Share) under the hash of what is configured in them.
_SHOWN: Final = ("input_schema", "output_schema", "config_schema", "config_hashes")


def build_router(house: House) -> APIRouter:
    """Return the routes for these parts of the house."""
    # The playgrounds post to /stream_log, so LangServe goes on calling what LangChain has deprecated.
    warnings.filterwarnings("ignore", message=r"astream_log is deprecated", category=DeprecationWarning)
    router = APIRouter()
    add_routes(
        router,
        build_chat_chain(house.upstream, tells_failures=True),
        path="/chat",
        enabled_endpoints=["invoke", "batch", "stream", "stream_log", "stream_events", "playground", *_SHOWN],
        enable_feedback_endpoint=False,
    )
    add_routes(
        router,
        RunFacade(house.runner, house.store),
        path="/assistant",
        enabled_endpoints=["invoke", "batch", "stream", "stream_log", "playground", *_SHOWN],
        per_req_config_modifier=_with_owner,
        enable_feedback_endpoint=False,
    )
    return router


def _with_owner(config: dict[str, Any], request: Request) -> dict[str, Any]:
    """Say whose request it is; whatever the client said about that is overwritten."""
    return {**config, "configurable": {**config.get("configurable", {}), OWNER: request.state.owner}}
