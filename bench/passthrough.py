"""A pass-through to the model: Starlette and aiohttp, without a graph and without a store.

`python -m bench.passthrough URL` serves on a free loopback port and prints its address. It has the minimum cost of the
same web server and the same HTTP client, so processor times are compared with it.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route


def build(upstream: str) -> Starlette:
    """Return an application that passes completions through to this address."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    async def completions(request: Request) -> StreamingResponse:
        session: aiohttp.ClientSession = request.app.state.session
        headers = {"content-type": "application/json"}
        answer = await session.post(f"{upstream}/chat/completions", data=await request.body(), headers=headers)

        async def blocks() -> AsyncIterator[bytes]:
            async with answer:
                async for block in answer.content.iter_any():
                    yield block

        return StreamingResponse(blocks(), answer.status, media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])], lifespan=lifespan)


async def _serve(upstream: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    await uvicorn.Server(uvicorn.Config(build(upstream), log_level="error")).serve(sockets=[listening])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
        runner.run(_serve(sys.argv[1]))
