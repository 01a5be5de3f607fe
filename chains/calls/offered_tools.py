"""The functions that a request offers, and the check of the model's calls before they are released."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk

from chains.call_chunks import chunk_of_calls
from chains.calls.arguments import MAX_ARGUMENTS, parse_arguments, portable
from chains.calls.call_schemas import parameters_of
from chains.calls.checks import check_arguments, object_in
from chains.chat_types import FunctionTool, JsonSchema
from chains.prompts import Prompts, fill
from wire.errors import BudgetExceeded

__all__ = ["Checked", "OfferedTools", "call_chunk"]

_MAX_LISTED = 20
_log = logging.getLogger("threadhold.chains")


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked call. `arguments` may have been repaired; `problem` is empty for a valid call."""

    name: str
    arguments: str
    value: dict[str, object] | None
    problem: str = ""
    known: bool = True


class OfferedTools:
    """The tools of one call, by name."""

    def __init__(
        self, tools: Sequence[FunctionTool], prompts: Prompts, *, lenient: Collection[str] = frozenset()
    ) -> None:
        """For `lenient` functions, null counts as absent; see also `passes_unchecked`."""
        self._lenient = lenient
        self.tools = {str(tool["function"]["name"]): tool for tool in tools}
        self._prompts = prompts
        self._unchecked: set[str] = set()
        """Functions whose schema was too costly once: this reply does not apply it again."""

    @property
    def names(self) -> list[str]:
        """The names, in the order of the tools."""
        return list(self.tools)

    async def check(self, name: str, arguments: str) -> Checked:
        """Check a call. Invalid JSON is repaired if possible; a schema that is too costly is not applied."""
        tool = self.tools.get(name)
        if tool is None:
            return Checked(name, arguments, None, f"there is no function `{name[:80]}`", known=False)
        value, problem = parse_arguments(arguments)
        if value is None and (rest := arguments.strip().removeprefix("{}")).startswith("{"):
            arguments = rest  # some servers send this placeholder before the arguments
            value, problem = parse_arguments(arguments)
        if value is None and (repaired := await _repaired(arguments)) is not None:
            value, arguments = repaired, arguments_to_json(repaired)
        if value is None:
            return Checked(name, arguments, None, problem)
        if not value and not arguments.strip().startswith("{"):
            arguments = "{}"  # empty text or `null`: clients expect an object
        problems = [] if name in self._unchecked else await self._problems(name, parameters_of(tool), value)
        return Checked(name, arguments, value, "; ".join(problems))

    async def _problems(self, name: str, schema: JsonSchema, value: dict[str, object]) -> list[str]:
        try:
            return await check_arguments(schema, value, nulls_are_absent=name in self._lenient)
        except BudgetExceeded as error:  # the executor of the call validates the arguments
            _log.warning("did not check arguments of `%s` against its schema: %s", name, error)
            self._unchecked.add(name)
            return []

    def passes_unchecked(self, checked: Checked) -> bool:
        """Whether a call that is still invalid goes to the client unchanged: OpenAI checks only strict functions, and
        programs with a sloppy schema rely on that."""
        return checked.name in self._lenient and len(checked.arguments) <= MAX_ARGUMENTS

    def invalid(self, checked: Checked, id: str | None) -> AIMessageChunk:
        """Return a call that is still invalid, in LangChain's form; the model gets `error` as its output."""
        if checked.known:
            error = fill(self._prompts.wrong, problem=checked.problem)
        else:
            names = ", ".join(f"`{name}`" for name in self.names[:_MAX_LISTED]) or "none"
            error = fill(self._prompts.unknown, name=checked.name[:80], names=names)
        call = invalid_tool_call(name=checked.name, args=checked.arguments, id=id, error=error)
        return AIMessageChunk(content="", invalid_tool_calls=[call])


async def _repaired(text: str) -> dict[str, object] | None:
    try:
        value = portable(await object_in(text))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def arguments_to_json(value: dict[str, object]) -> str:
    """Return arguments as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def call_chunk(index: int, name: str, arguments: str, id: str | None = None) -> AIMessageChunk:
    """Return a whole call as one chunk."""
    return chunk_of_calls([tool_call_chunk(name=name, args=arguments, id=id, index=index)])
