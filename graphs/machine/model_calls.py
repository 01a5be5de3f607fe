"""One model call of a run: its prompt, its parameters, its stream, and what it used."""

import logging
from dataclasses import replace

from langchain_core.messages import BaseMessage

from chains.context import Prompt, build_prompt
from chains.reply import ReplyCall
from graphs.machine.deltas import ReplyParts
from graphs.machine.log_lines import log_prompt
from graphs.machine.state import RunContext, RunState
from graphs.machine.stream_parts import CustomEvent, Usage
from graphs.tools.toolset import ToolSet
from wire.errors import ContextOverflow

__all__ = ["ask_model", "call_parameters", "estimate_usage", "fit_prompt"]

logger = logging.getLogger("threadhold.runs")


async def fit_prompt(context: RunContext, exchange: list[BaseMessage], usage: Usage) -> Prompt | None:
    """Build the prompt within the run's budget and the model's context; None if no prompt fits the budget."""
    spec = context.spec
    prompt = build_prompt(
        instructions=spec.instructions,
        history=await context.history(),
        exchange=exchange,
        truncation=spec.truncation_strategy,
        tools=context.tools.specs,
        # Some servers refuse calls in a request without tools, and their models would not expect them.
        past=context.past if context.tools.specs else {},
    )
    budget = spec.max_prompt_tokens
    if budget is not None:
        fitted = prompt.fit(budget - usage["prompt_tokens"], context.model.tokens_per_char(spec.model))
        if fitted is None:
            return None
        prompt = fitted
    maximum = spec.max_completion_tokens
    return await context.model.fit(
        spec.model, prompt, answer=None if maximum is None else maximum - usage["completion_tokens"]
    )


def call_parameters(state: RunState, context: RunContext, usage: Usage, tools: ToolSet) -> ReplyCall:
    """Return the call, without its messages."""
    spec = context.spec
    budget = spec.max_completion_tokens
    choice = spec.tool_choice
    if isinstance(choice, dict) and choice["type"] != "function" and (name := tools.name_of(choice["type"])):
        choice = {"type": "function", "function": {"name": name}}
    named = choice["function"]["name"] if isinstance(choice, dict) and choice.get("type") == "function" else None
    binds = choice == "required" or named in tools.names
    if choice != "none" and (not binds or state.get("exchange")):
        choice = "auto"  # a forced choice applies only until the run's first call
    response_format = spec.response_format
    return ReplyCall(
        model=spec.model,
        messages=[],
        tools=list(tools.specs),
        tool_choice=choice if tools.specs and choice != "auto" else None,
        parallel_tool_calls=False if tools.specs and spec.parallel_tool_calls is False else None,
        response_format=None if isinstance(response_format, str) else response_format,
        options=spec.options,
        max_tokens=None if budget is None else budget - usage["completion_tokens"],
        lenient=tools.lenient,
        together=True,
    )


async def ask_model(context: RunContext, prompt: Prompt, parts: ReplyParts, call: ReplyCall) -> Prompt:
    """Stream one reply. If the upstream reports that the prompt is too long, drop the oldest turns and ask again."""
    while True:
        if prompt.dropped:
            context.emit(_left_out(context, prompt, parts.message_id))
        try:
            messages = prompt.messages()
            log_prompt(context.spec.id, messages)
            chunks = context.model.stream(replace(call, messages=messages))
            ended = seen = False
            try:
                async for chunk in chunks:
                    for part in parts.feed(chunk):
                        context.emit(part)
                    if not seen and parts.started:  # the first chunk of some models is empty
                        seen = True
                        context.note_output()
                    await context.backpressure()
                ended = True
            finally:
                if not ended and parts.started:
                    _count_rest(context, prompt, parts)
                # Not left to the garbage collector: closing stops the upstream's generation.
                await chunks.aclose()
            return prompt
        except ContextOverflow as overflow:
            if overflow.limit is not None:
                context.model.learn_limit(call.model, overflow.limit)
            shorter = prompt.shrink(overflow)
            if parts.started or shorter is None:
                raise
            prompt = shorter


def _count_rest(context: RunContext, prompt: Prompt, parts: ReplyParts) -> None:
    """Count the tokens of an aborted reply, as the upstream will not report them."""
    call_usage = parts.usage or estimate_usage(context, prompt, parts)
    context.metrics.count_tokens(call_usage["prompt_tokens"], call_usage["completion_tokens"])
    context.count_usage(call_usage)


def _left_out(context: RunContext, prompt: Prompt, message_id: str) -> CustomEvent:
    """Report the omitted messages to the client and in one log line, before the model call."""
    limit = context.model.context_limit(context.spec.model)
    more = "or more " if context.clipped else ""
    known = f" ({limit} tokens)" if limit else ""
    id, model = context.spec.id, context.spec.model
    logger.info(
        "run %s: %d messages %sleft out: longer than the context of `%s`%s", id, prompt.dropped, more, model, known
    )
    report: dict[str, object] = {"left_out_messages": prompt.dropped, "context_limit": limit}
    if context.clipped:
        report["at_least"] = True
    return CustomEvent("threadhold.context", message_id, report, {"threadhold": report})


def estimate_usage(context: RunContext, prompt: Prompt, parts: ReplyParts) -> Usage:
    """Estimate the usage by characters if the upstream reports none, so that budgets still hold."""
    ratio = context.model.tokens_per_char(context.spec.model)
    chars = len(parts.text) + sum(len(call["name"]) + len(call["arguments"]) for call in parts.calls())
    used, made = prompt.tokens(ratio), max(1, round(chars * ratio))
    return Usage(prompt_tokens=used, completion_tokens=made, total_tokens=used + made)
