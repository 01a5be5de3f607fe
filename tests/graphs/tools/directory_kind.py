"""The kind of tool `directory` (see `directory_server.py`): the only file of `graphs/tools/` that a new kind adds."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from graphs.machine.stream_parts import Call
from graphs.tools.names import free_name
from graphs.tools.port import (
    CallInput,
    Discovered,
    ItemChange,
    Kind,
    Offer,
    Outcome,
    Preview,
    PreviewCall,
    StepCalls,
    Tools,
)
from graphs.tools.resources import Resource, ToolContext, ToolDeps
from wire.errors import InvalidRequest, RunError
from wire.items import FunctionCall, FunctionCallOutput, call_item_id, output_item_id


@asynccontextmanager
async def _open_client(_: ToolDeps) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


CLIENT = Resource(_open_client)


@dataclass(frozen=True)
class ListedFunction:
    """A function that a directory listed."""

    name: str
    remote_name: str
    tool: dict[str, object]
    client: httpx2.AsyncClient
    step_type: str = "directory"
    label: str = "directory"
    returns_passages: bool = False

    @property
    def preview(self) -> PreviewCall | None:
        return self._preview if self.tool.get("require_approval") else None

    async def _preview(self, arguments: str, _: int) -> Preview:
        return Preview("POST", f"{self.tool['server_url']}/functions/{self.remote_name}", body=arguments)

    def arguments_for(self, _: str, /) -> str | None:
        return None

    async def call(self, call: Call, _: CallInput, /) -> Outcome:
        url = f"{self.tool['server_url']}/functions/{self.remote_name}"
        answer = await self.client.post(url, content=call["arguments"], headers=_headers(self.tool))
        return Outcome(answer.text)


def _headers(tool: dict[str, object]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tool.get('token')}"}


def _offer(tools: Tools, _: ToolContext, __: set[str]) -> list[Offer]:
    for index, tool in tools:
        if not str(tool["server_url"]).startswith("http://"):
            raise InvalidRequest("It is no URL.", param=f"tools[{index}].server_url", code="invalid_value")
    return []


async def _discover(tools: Tools, context: ToolContext) -> Discovered:
    client = context.get(CLIENT)
    assert client is not None, "the kind is not offered without its resource"
    found: list[tuple[int, dict[str, object], str]] = []
    for index, tool in tools:
        answer = await client.get(f"{tool['server_url']}/functions", headers=_headers(tool))
        if answer.status_code != 200:
            raise RunError(f"The directory `{tool['label']}` answered with status {answer.status_code}.")
        found += [(index, tool, name) for name in answer.json()]

    def offers(taken: set[str]) -> list[Offer]:
        made = [(index, ListedFunction(free_name(name, taken), name, tool, client)) for index, tool, name in found]
        return [
            Offer(
                index,
                {"type": "function", "function": {"name": each.name, "parameters": {"type": "object"}}},
                each,
            )
            for index, each in made
        ]

    return offers


def _origins(tool: dict[str, object]) -> frozenset[str]:
    url = urlsplit(str(tool["server_url"]))
    return frozenset({f"{url.scheme}://{url.netloc}"})


def _answer(shown: dict[str, object], output: str) -> bool:
    changes = shown["result"] != output
    shown["result"] = output
    return changes


STEP_CALLS = StepCalls(
    start=lambda name: {"function": name, "result": None},
    show=lambda call: {"function": call["name"], "arguments": json.loads(call["arguments"]), "result": None},
    item=lambda call: FunctionCall(
        id=call_item_id(call["id"]),
        type="function_call",
        status="completed",
        call_id=call["id"],
        name=call["name"],
        arguments=call["arguments"],
    ),
    item_change=lambda id, shown, _: ItemChange(
        output_item_id(id),
        FunctionCallOutput(
            id=output_item_id(id), type="function_call_output", status="completed", call_id=id, output=shown["result"]
        ),
        is_new=True,
    ),
    has_outcome=lambda shown: shown["result"] is not None,
    answer=_answer,
)

DIRECTORY = Kind(_offer, discover=_discover, origins=_origins, resource=CLIENT, step_calls=STEP_CALLS)
