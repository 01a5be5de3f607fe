"""Serves the files of the API documentation in small blocks.

Anyone can read these files, without a key, on many connections, and as slowly as the server allows. Each keeps a block.
"""

from os import PathLike, stat_result
from typing import Final

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["serve_in_small_blocks"]

_BLOCK: Final = 16 * 1024


class _SmallBlocks(StaticFiles):
    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        if isinstance(response, FileResponse):
            response.chunk_size = _BLOCK
        return response


def serve_in_small_blocks(app: FastAPI) -> None:
    """Replace the apps of all folders of static files that `app` serves."""
    for route in app.router.routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            route.app = _SmallBlocks(directory=route.app.directory)
