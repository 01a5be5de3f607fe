"""The nodes of a run and the ways between them.

`pause` runs again from its top when it is resumed, so `interrupt` is its first statement and it does nothing else
that could happen twice. Nodes tell their run what happens (`RunContext.tell`); they touch no store.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt

from chains.call_chunks import chunk_of_calls
from chains.calls.arguments import portable_arguments
from chains.context import Prompt, build_prompt
from chains.passback import EXTRA_FIELDS
from chains.reply import ReplyCall
from graphs.deltas import NO_USAGE, ReplyParts, add_usage, reply_ids
from graphs.exchange import (
    MAX_EXCHANGE_BYTES,
    can_call,
    count_calls,
    fit_findings,
    fit_output,
    json_bytes,
    passage_chars,
    share_of_left,
)
from graphs.parts import Call, CallAnswered, CallsAnswered, LeftOut, Part, RunEnded, Usage
from graphs.spans import reply_span, spend, tool_span
from graphs.state import Act, Reply, RunContext, RunState
from graphs.telling import tell_answer, tell_prompt
from graphs.tools.toolset import NO_TOOLS, ToolSet
from wire.errors import ContextOverflow, RunError

__all__ = ["DENIED", "act", "after_act", "after_pause", "after_reply", "finish", "pause", "prepare", "reply"]

logger = logging.getLogger("threadhold.runs")

DENIED = "The user denied this call; it was not made."


async def prepare(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Load the thread's history: where no reply was begun, a store that fails does so before the model is asked."""
    await runtime.context.history()
    return {"replies": state.get("replies", 0), "usage": state.get("usage", NO_USAGE)}


async def reply(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Ask the model once; stream what it says as parts. What was begun before the graph is waited for."""
    context = runtime.context
    if context.begun is not None and not state.get("replies"):
        return await context.begun
    tell = context.tell
    answered = _answers(state)
    if answered:
        newest = state["reply"]
        calls_step = reply_ids(context.run["id"], newest["number"])[2]
        tell(CallsAnswered(calls_step, {call["id"]: state["outputs"].get(call["id"], "") for call in newest["calls"]}))
    usage = state.get("usage", NO_USAGE)
    prompt = await _prompt(context, [*state.get("exchange", ()), *answered], usage)
    budget = context.run["max_completion_tokens"]
    if prompt is None or (budget is not None and usage["completion_tokens"] >= budget):
        return {"ended": "max_prompt_tokens" if prompt is None else "max_completion_tokens", "reply": _nothing(state)}
    number, used = state.get("replies", 0), state.get("exchange_bytes", 0)
    tools, read_first = await _tools(state, context)
    parts = ReplyParts(
        context.run["id"],
        number,
        tools.names,
        search=None if tools.search is None else tools.search.name,
        sources=state.get("sources"),
        used=used,
    )
    if read_first is not None:
        spent = NO_USAGE
        for part in parts.feed(read_first):
            tell(part)
    else:
        with context.figures.reply(), reply_span(context.run) as span:
            sent = await _ask(context, prompt, parts, _call(state, context, usage, tools))
            spent = parts.usage or _estimate(context, sent, parts)
            spend(span, spent)
        context.figures.spend(spent["prompt_tokens"], spent["completion_tokens"])
        if parts.usage is not None and parts.requests == 1:
            context.model.learn(context.run["model"], chars=sent.chars, prompt_tokens=spent["prompt_tokens"])
    calls = parts.calls() if tools.specs else []
    try:
        added = count_calls(used, parts.text, calls, parts.extra_fields) if calls else 0
    except RunError:
        context.book(spent)
        raise
    tell_answer(context.run["id"], parts.text, parts.calls())
    booked = add_usage(state.get("owed", NO_USAGE), spent)
    for part in await _ending(parts, booked):
        tell(part)
    update: RunState = {
        "replies": number + 1,
        "usage": add_usage(usage, spent),
        "owed": booked if parts.silent else NO_USAGE,
        "reply": Reply(number=number, text=parts.text, calls=calls, usage=booked, finish=parts.finish),
        "ended": _ended(parts.finish),
    }
    if calls:
        update["exchange"] = [*answered, _said(parts.text, calls, parts.extra_fields)]
        # Earlier outputs are now in the exchange, so a checkpoint contains them once.
        update["outputs"] = dict.fromkeys(state.get("outputs", ()), "") | parts.faults()
        update["exchange_bytes"] = added + sum(map(json_bytes, parts.faults().values()))
    return update


async def _ending(parts: ReplyParts, booked: Usage) -> Iterable[Part]:
    """Return the parts that end the reply. Comparing a long answer in Chinese with passages takes 0.5 s."""
    ending = parts.close(booked)
    return await asyncio.to_thread(list, ending) if parts.compares else ending


async def act(task: Act, runtime: Runtime[RunContext]) -> RunState:
    """Make one server-side call. Each call is a task of its own, so a crash repeats none that was recorded."""
    call, context = task["call"], runtime.context
    max_bytes = task.get("max_bytes", MAX_EXCHANGE_BYTES)
    context.asking()
    if context.tools.search is not None and call["name"] == context.tools.search.name:
        with context.figures.tool("file_search"), tool_span(call, "file_search"):
            found = await context.search(call, task["search"], passage_chars(max_bytes))
        ranking = context.tools.search.ranking_options()
        question = _newest_question(await context.history())
        found, added = fit_findings(found, question, max_bytes, context.reserve)
        context.tell(CallAnswered(task["step_id"], call["id"], found.output, found.results, ranking))
        outputs = {call["id"]: found.output}
        return {"outputs": outputs, "sources": found.sources, "searches": 1, "exchange_bytes": added}
    with context.figures.tool("action"), tool_span(call, "action"):
        output, added = fit_output(await context.act(call), max_bytes, context.reserve)
    context.tell(CallAnswered(task["step_id"], call["id"], output))
    return {"outputs": {call["id"]: output}, "exchange_bytes": added}


async def pause(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Wait for the client: outputs of functions, and `approved` or `denied` for consequential calls."""
    used = state.get("exchange_bytes", 0)
    given: dict[str, str] = interrupt({"calls": wanted(state, runtime.context), "exchange_bytes": used})
    consequential = {call["id"] for call in state["reply"]["calls"] if _is_consequential(runtime.context, call)}
    approved = [id for id, output in given.items() if id in consequential and _approves(output)]
    outputs = {id: DENIED if id in consequential else output for id, output in given.items() if id not in approved}
    added = sum(map(json_bytes, outputs.values()))
    return {"outputs": outputs, "approved": approved, "exchange_bytes": added}


async def finish(state: RunState, runtime: Runtime[RunContext]) -> RunState:
    """Say how the run ends."""
    reason: Any = state.get("ended")
    runtime.context.tell(RunEnded(reason))
    return {}


# --- ways ---------------------------------------------------------------------------------------------------------


def after_reply(state: RunState, runtime: Runtime[RunContext]) -> str | list[Send]:
    """Go on to the calls, or to the end."""
    if state.get("ended") or not state["reply"]["calls"]:
        return "finish"
    ready = [
        call
        for call in _open_calls(state)
        if call["name"] in runtime.context.tools.served and not _is_consequential(runtime.context, call)
    ]
    return _sends(state, runtime.context, ready) or after_act(state, runtime)


def after_act(state: RunState, runtime: Runtime[RunContext]) -> str:
    """Wait for the client where something is still open, else reply."""
    return "pause" if wanted(state, runtime.context) else "reply"


def after_pause(state: RunState, runtime: Runtime[RunContext]) -> str | list[Send]:
    """Make the approved calls, then reply."""
    ready = [call for call in _open_calls(state) if call["id"] in state.get("approved", ())]
    return _sends(state, runtime.context, ready) or "reply"


def wanted(state: RunState, context: RunContext) -> list[Call]:
    """Return the calls that only the client can answer."""
    return [
        call
        for call in _open_calls(state)
        if call["name"] in context.tools.functions
        or (_is_consequential(context, call) and call["id"] not in state.get("approved", ()))
    ]


def _sends(state: RunState, context: RunContext, calls: list[Call]) -> list[Send]:
    step_id = reply_ids(context.run["id"], state["reply"]["number"])[2]
    search = state.get("searches", 0)
    max_bytes = share_of_left(state.get("exchange_bytes", 0), len(calls))
    sends = []
    for call in calls:
        sends.append(Send("act", Act(call=call, step_id=step_id, search=search, max_bytes=max_bytes)))
        search += call.get("kind") == "file_search"
    return sends


def _open_calls(state: RunState) -> list[Call]:
    outputs = state.get("outputs", {})
    return [call for call in state["reply"]["calls"] if call["id"] not in outputs]


def _is_consequential(context: RunContext, call: Call) -> bool:
    operation = context.tools.operations.get(call["name"])
    return operation is not None and operation.is_consequential


def _approves(output: str) -> bool:
    return output.strip().strip('"').lower() == "approved"


# --- one model call -------------------------------------------------------------------------------------------------


async def _tools(state: RunState, context: RunContext) -> tuple[ToolSet, AIMessageChunk | None]:
    """Return what the reply is offered; where files are read before the first one, also the call that reads them.

    A model whose server makes no tool calls is not asked whether to search: small ones cannot decide it. The newest
    user message is looked for instead, and the reply comes after that.
    """
    tools, number = context.tools, state.get("replies", 0)
    # The last round replies without tools, so that a model that calls forever comes to an end.
    if not tools.specs or number >= context.max_tool_rounds or not can_call(state.get("exchange_bytes", 0)):
        return NO_TOOLS, None
    if tools.search is None or await context.model.calls_natively(context.run["model"]):
        return tools, None
    asked = "" if number or context.run["tool_choice"] == "none" else _newest_question(await context.history())
    if not asked:
        return tools.without_search(), None
    arguments = json.dumps({"query": asked}, ensure_ascii=False)
    call = tool_call_chunk(name=tools.search.name, args=arguments, id=None, index=0)
    return tools, chunk_of_calls([call])


def _newest_question(history: list[dict[str, Any]]) -> str:
    newest = next((message for message in reversed(history) if message["role"] == "user"), None)
    parts = newest["content"] if newest is not None else ()
    return "\n".join(part["text"]["value"] for part in parts if part["type"] == "text").strip()


def _answers(state: RunState) -> list[BaseMessage]:
    """The tool messages that answer the newest reply's calls; empty when it had none."""
    newest = state.get("reply")
    if not newest or not newest["calls"]:
        return []
    outputs = state["outputs"]
    return [
        ToolMessage(content=outputs.get(call["id"], ""), tool_call_id=call["upstream_id"], name=call["name"])
        for call in newest["calls"]
    ]


async def _prompt(context: RunContext, exchange: list[BaseMessage], usage: Usage) -> Prompt | None:
    """Build the prompt within the run's budget and the model's context; None when the budget admits nothing."""
    run = context.run
    prompt = build_prompt(
        instructions=run["instructions"],
        history=await context.history(),
        exchange=exchange,
        truncation=run["truncation_strategy"],
        tools=context.tools.specs,
    )
    budget = run["max_prompt_tokens"]
    if budget is not None:
        fitted = prompt.fit(budget - usage["prompt_tokens"], context.model.tokens_per_char(run["model"]))
        if fitted is None:
            return None
        prompt = fitted
    most = run["max_completion_tokens"]
    return await context.model.fit(
        run["model"], prompt, answer=None if most is None else most - usage["completion_tokens"]
    )


def _call(state: RunState, context: RunContext, usage: Usage, tools: ToolSet) -> dict[str, Any]:
    run = context.run
    budget = run["max_completion_tokens"]
    choice: Any = run["tool_choice"]
    if isinstance(choice, dict) and choice.get("type") == "file_search" and tools.search is not None:
        choice = {"type": "function", "function": {"name": tools.search.name}}
    named = choice["function"]["name"] if isinstance(choice, dict) and choice.get("type") == "function" else None
    binds = choice == "required" or named in tools.names
    if choice != "none" and (not binds or state.get("exchange")):
        choice = "auto"  # a binding choice binds until the run's first call
    response_format = run["response_format"]
    return {
        "model": run["model"],
        "tools": list(tools.specs),
        "tool_choice": choice if tools.specs and choice != "auto" else None,
        "parallel_tool_calls": False if tools.specs and run["parallel_tool_calls"] is False else None,
        "response_format": None if response_format == "auto" else response_format,
        **context.sampling,
        "reasoning_effort": run.get("reasoning_effort"),
        "max_tokens": None if budget is None else budget - usage["completion_tokens"],
        "lenient": tools.lenient,
        "together": True,
    }


async def _ask(context: RunContext, prompt: Prompt, parts: ReplyParts, call: dict[str, Any]) -> Prompt:
    """Stream one reply; where the upstream says the prompt is too long, drop the oldest turns and ask again."""
    while True:
        if prompt.dropped:
            context.tell(_left_out(context, prompt, parts.message_id))
        try:
            messages = prompt.messages()
            tell_prompt(context.run["id"], messages)
            chunks = context.model.stream(ReplyCall(messages=messages, **call))
            context.asking()
            ended = seen = False
            try:
                async for chunk in chunks:
                    for part in parts.feed(chunk):
                        context.tell(part)
                    if not seen and parts.started:  # some models begin with an empty chunk
                        seen = True
                        context.note_output()
                    await context.room()
                ended = True
            finally:
                if not ended and parts.started:
                    _book_rest(context, prompt, parts)
                # At once, not when the collector comes by: closing is what stops the upstream.
                await chunks.aclose()  # type: ignore[attr-defined]
            return prompt
        except ContextOverflow as overflow:
            if overflow.limit is not None:
                context.model.learn_limit(call["model"], overflow.limit)
            shorter = prompt.shrink(overflow)
            if parts.started or shorter is None:
                raise
            prompt = shorter


def _book_rest(context: RunContext, prompt: Prompt, parts: ReplyParts) -> None:
    """Book what a reply that is broken off has taken: nobody will tell any more, and it was not nothing."""
    spent = parts.usage or _estimate(context, prompt, parts)
    context.figures.spend(spent["prompt_tokens"], spent["completion_tokens"])
    context.book(spent)


def _left_out(context: RunContext, prompt: Prompt, message_id: str) -> LeftOut:
    """Say what is left out, on the wire and in one line of the log, before the model is asked."""
    limit = context.model.context_limit(context.run["model"])
    more = "or more " if context.clipped else ""
    known = f" ({limit} tokens)" if limit else ""
    id, model = context.run["id"], context.run["model"]
    logger.info(
        "run %s: %d messages %sleft out: longer than the context of `%s`%s", id, prompt.dropped, more, model, known
    )
    return LeftOut(message_id, prompt.dropped, context.clipped, limit)


def _estimate(context: RunContext, prompt: Prompt, parts: ReplyParts) -> Usage:
    """Usage where the upstream tells none: by characters, so that budgets still bind."""
    ratio = context.model.tokens_per_char(context.run["model"])
    said = len(parts.text) + sum(len(call["name"]) + len(call["arguments"]) for call in parts.calls())
    used, made = prompt.tokens(ratio), max(1, round(said * ratio))
    return Usage(prompt_tokens=used, completion_tokens=made, total_tokens=used + made)


def _ended(finish_reason: str | None) -> str | None:
    return {"length": "max_completion_tokens", "content_filter": "content_filter"}.get(finish_reason or "")


def _nothing(state: RunState) -> Reply:
    return Reply(number=state.get("replies", 0), text="", calls=[], usage=NO_USAGE, finish=None)


def _said(text: str, calls: list[Call], extra: str) -> AIMessage:
    """The reply as it is sent back to the model, with the fields that its engine requires back. Arguments that are not
    a JSON object are sent as an empty one: strict servers refuse a history with broken arguments, and the call's
    output tells the model what was wrong."""
    return AIMessage(
        content=text,
        additional_kwargs={EXTRA_FIELDS: extra} if extra else {},
        tool_calls=[
            {
                "name": call["name"],
                "args": portable_arguments(call["arguments"]),
                "id": call["upstream_id"],
                "type": "tool_call",
            }
            for call in calls
        ],
    )
