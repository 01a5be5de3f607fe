"""The nodes of a run.

When it is resumed, `pause` runs again from its top. So `interrupt` is its first statement, and it does nothing that
must not happen twice. Nodes report to their run by `RunContext.emit` and do not use the store.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from chains.call_chunks import chunk_of_calls
from chains.context import calls_message
from chains.prompts import DENIED, GONE
from fairness.fair_limits import COMPARING
from graphs.machine.deltas import NO_USAGE, ReplyParts, add_usage, reply_ids
from graphs.machine.edges import calls_for_client
from graphs.machine.exchange import (
    MAX_EXCHANGE_BYTES,
    can_call,
    count_calls,
    fit_outcome,
    json_bytes,
)
from graphs.machine.log_lines import log_reply
from graphs.machine.model_calls import ask_model, call_parameters, estimate_usage, fit_prompt
from graphs.machine.spans import reply_span, set_usage, tool_span
from graphs.machine.spec import WireMessage
from graphs.machine.state import Act, Reply, RunContext, RunState
from graphs.machine.stream_parts import Call, CallAnswered, CallsAnswered, EndReason, RunEnded, StreamPart, Usage
from graphs.tools.port import CallInput
from graphs.tools.toolset import NO_TOOLS, ToolSet
from telemetry.context import current_owner
from wire.errors import RunError

__all__ = ["act", "finish", "pause", "prepare", "reply", "reply_and_finish"]

logger = logging.getLogger("threadhold.runs")


async def prepare(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Load the thread's history, so that an error of the store occurs before the model call."""
    await runtime.context.history()
    return {"replies": state.get("replies", 0), "usage": state.get("usage", NO_USAGE)}


async def reply(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Call the model once, and emit its reply as parts."""
    context = runtime.context
    emit = context.emit
    answered = _answers(state)
    if answered:
        newest = state["reply"]
        calls_step = reply_ids(context.spec.id, newest["number"])[2]
        emit(CallsAnswered(calls_step, {call["id"]: state["outputs"].get(call["id"], "") for call in newest["calls"]}))
    usage = state.get("usage", NO_USAGE)
    prompt = await fit_prompt(context, [*state.get("exchange", ()), *answered], usage)
    budget = context.spec.max_completion_tokens
    if prompt is None or (budget is not None and usage["completion_tokens"] >= budget):
        return {"ended": "max_prompt_tokens" if prompt is None else "max_completion_tokens", "reply": _nothing(state)}
    number, used = state.get("replies", 0), state.get("exchange_bytes", 0)
    tools, read_first = await _tools(state, context)
    parts = ReplyParts(
        context.spec.id,
        number,
        tools.names,
        step_types=tools.step_types,
        sources=state.get("sources"),
        used=used,
    )
    if read_first is not None:
        call_usage = NO_USAGE
        for part in parts.feed(read_first):
            emit(part)
    else:
        with context.metrics.reply(), reply_span(context.spec) as span:
            sent = await ask_model(context, prompt, parts, call_parameters(state, context, usage, tools))
            call_usage = parts.usage or estimate_usage(context, sent, parts)
            set_usage(span, call_usage)
        context.metrics.count_tokens(call_usage["prompt_tokens"], call_usage["completion_tokens"])
        context.count_cached(parts.cached_tokens)
        if parts.usage is not None and parts.requests == 1:
            context.model.calibrate(context.spec.model, chars=sent.chars, prompt_tokens=call_usage["prompt_tokens"])
    calls = parts.calls() if tools.specs else []
    try:
        added = count_calls(used, parts.text, calls, parts.extra_fields) if calls else 0
    except RunError:
        context.count_usage(call_usage)
        raise
    log_reply(context.spec.id, parts.text, parts.calls())
    reply_usage = add_usage(state.get("unreported_usage", NO_USAGE), call_usage)
    for part in await _ending(parts, reply_usage):
        emit(part)
    update: RunState = {
        "replies": number + 1,
        "usage": add_usage(usage, call_usage),
        "unreported_usage": reply_usage if parts.silent else NO_USAGE,
        "reply": Reply(number=number, text=parts.text, calls=calls, usage=reply_usage, finish=parts.finish),
        "ended": _ended(parts.finish),
    }
    if calls:
        update["exchange"] = [*answered, _as_message(parts.text, calls, parts.extra_fields)]
        # Earlier outputs are now in the exchange, so a checkpoint contains them once.
        update["outputs"] = dict.fromkeys(state.get("outputs", ()), "") | parts.faults()
        update["exchange_bytes"] = added + sum(map(json_bytes, parts.faults().values()))
    return update


async def _ending(parts: ReplyParts, reply_usage: Usage) -> Iterable[StreamPart]:
    """Return the parts that end the reply. The comparison of a long answer with passages can take 0.5 s."""
    ending = parts.close(reply_usage)
    return await COMPARING.run(current_owner(), list, ending) if parts.compares else ending


async def act(task: Act, runtime: Runtime[RunContext]) -> RunState:
    """Execute one server-side call. Each call is a task of its own, so a crash repeats none that is recorded."""
    call, context = task["call"], runtime.context
    tool = context.tools.served.get(call["name"])
    if tool is None:  # its server no longer listed it when the run continued
        context.emit(CallAnswered(task["step_id"], call["id"], GONE))
        return {"outputs": {call["id"]: GONE}, "exchange_bytes": json_bytes(GONE)}
    max_bytes = task.get("max_bytes", MAX_EXCHANGE_BYTES)

    async def question() -> str:
        return _newest_question(await context.history())

    with context.metrics.tool(tool.label), tool_span(call, tool.label):
        outcome = await tool.call(call, CallInput(task["search"], max_bytes, question))
    outcome, added = fit_outcome(outcome, max_bytes, context.reserve)
    context.emit(CallAnswered(task["step_id"], call["id"], outcome.output, outcome.details, outcome.contents))
    update: RunState = {"outputs": {call["id"]: outcome.output}, "exchange_bytes": added}
    if tool.returns_passages:
        update |= {"sources": dict(outcome.passages), "searches": 1}
    return update


async def pause(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Wait for the client: for outputs of functions, and for `approved` or `denied` for consequential calls."""
    used = state.get("exchange_bytes", 0)
    given: dict[str, str] = interrupt({"calls": calls_for_client(state, runtime.context), "exchange_bytes": used})
    tools, calls = runtime.context.tools, state["reply"]["calls"]
    gone = {call["id"]: GONE for call in calls if call["id"] in given and call["name"] not in tools.names}
    consequential = {call["id"] for call in calls if tools.requires_approval(call["name"])}
    approved = [id for id, output in given.items() if id in consequential and _approves(output)]
    outputs = {
        id: DENIED if id in consequential else output for id, output in (given | gone).items() if id not in approved
    }
    added = sum(map(json_bytes, outputs.values()))
    return {"outputs": outputs, "approved": approved, "exchange_bytes": added}


async def finish(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Emit how the run ends."""
    runtime.context.emit(RunEnded(state.get("ended")))
    return {}


async def reply_and_finish(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Execute a whole run without tools."""
    return await finish(await reply(state, runtime), runtime)


# --- details ---------------------------------------------------------------------------------------------------------


def _approves(output: str) -> bool:
    return output.strip().strip('"').lower() == "approved"


async def _tools(state: RunState, context: RunContext) -> tuple[ToolSet, AIMessageChunk | None]:
    """Return the tools that the reply is offered, and the tool call that replaces the first model call, if any.

    A model whose server makes no tool calls does not decide whether to search, as small models cannot. Instead, the
    newest user message is searched for first, and the model then replies.
    """
    tools, number = context.tools, state.get("replies", 0)
    # The last round has no tools, so that a model that keeps calling must answer.
    if not tools.specs or number >= context.spec.max_tool_rounds or not can_call(state.get("exchange_bytes", 0)):
        return NO_TOOLS, None
    without = tools.for_models_without_calls()
    if without is tools or await context.model.calls_natively(context.spec.model):
        return tools, None
    question = "" if number or context.spec.tool_choice == "none" else _newest_question(await context.history())
    first = tools.forced_call(question) if question else None
    if first is None:
        return without, None
    name, arguments = first
    return tools, chunk_of_calls([tool_call_chunk(name=name, args=arguments, id=None, index=0)])


def _newest_question(history: Sequence[WireMessage]) -> str:
    newest = next((message for message in reversed(history) if message["role"] == "user"), None)
    parts = newest["content"] if newest is not None else ()
    return "\n".join(part["text"]["value"] for part in parts if part["type"] == "text").strip()


def _answers(state: RunState) -> list[BaseMessage]:
    """Return the tool messages that answer the newest reply's calls; empty if it has none."""
    newest = state.get("reply")
    if not newest or not newest["calls"]:
        return []
    outputs = state["outputs"]
    return [
        ToolMessage(content=outputs.get(call["id"], ""), tool_call_id=call["upstream_id"], name=call["name"])
        for call in newest["calls"]
    ]


_END_REASONS: Final[Mapping[str, EndReason]] = {"length": "max_completion_tokens", "content_filter": "content_filter"}
"""Finish reason of a model → why the run ends."""


def _ended(finish_reason: str | None) -> EndReason | None:
    return _END_REASONS.get(finish_reason or "")


def _nothing(state: RunState) -> Reply:
    return Reply(number=state.get("replies", 0), text="", calls=[], usage=NO_USAGE, finish=None)


def _as_message(text: str, calls: list[Call], extra: str) -> AIMessage:
    """Return the reply as a message for the model, with the fields that its engine requires back."""
    return calls_message(text, [(call["upstream_id"], call["name"], call["arguments"]) for call in calls], extra)
