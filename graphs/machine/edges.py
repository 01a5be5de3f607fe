"""The conditional edges of a run's graph: which node follows, from the calls that are still unanswered."""

from langgraph.runtime import Runtime
from langgraph.types import Send

from graphs.machine.deltas import reply_ids
from graphs.machine.exchange import share_of_left
from graphs.machine.state import Act, RunContext, RunState
from graphs.machine.stream_parts import Call

__all__ = ["after_act", "after_pause", "after_reply", "calls_for_client"]


def after_reply(state: RunState, runtime: Runtime[RunContext]) -> str | list[Send]:
    """Continue with the calls, or with the end."""
    if state.get("ended") or not state["reply"]["calls"]:
        return "finish"
    ready = [
        call
        for call in _open_calls(state)
        if call["name"] not in runtime.context.tools.functions
        and not runtime.context.tools.requires_approval(call["name"])
    ]
    return _sends(state, runtime.context, ready) or after_act(state, runtime)


def after_act(state: RunState, runtime: Runtime[RunContext]) -> str:
    """If only the client can answer a call, wait for it or end the run, as the spec says; otherwise reply."""
    if not calls_for_client(state, runtime.context):
        return "reply"
    return "pause" if runtime.context.spec.client_calls == "pause" else "finish"


def after_pause(state: RunState, runtime: Runtime[RunContext]) -> str | list[Send]:
    """Make the approved calls, then reply."""
    ready = [call for call in _open_calls(state) if call["id"] in state.get("approved", ())]
    return _sends(state, runtime.context, ready) or "reply"


def calls_for_client(state: RunState, context: RunContext) -> list[Call]:
    """Return the calls that only the client can answer."""
    return [
        call
        for call in _open_calls(state)
        if call["name"] in context.tools.functions
        or (context.tools.requires_approval(call["name"]) and call["id"] not in state.get("approved", ()))
    ]


def _sends(state: RunState, context: RunContext, calls: list[Call]) -> list[Send]:
    step_id = reply_ids(context.spec.id, state["reply"]["number"])[2]
    search = state.get("searches", 0)
    max_bytes = share_of_left(state.get("exchange_bytes", 0), len(calls))
    sends = []
    for call in calls:
        sends.append(Send("act", Act(call=call, step_id=step_id, search=search, max_bytes=max_bytes)))
        search += (tool := context.tools.served.get(call["name"])) is not None and tool.returns_passages
    return sends


def _open_calls(state: RunState) -> list[Call]:
    """Return the newest reply's calls that have no output yet."""
    outputs = state.get("outputs", {})
    return [call for call in state["reply"]["calls"] if call["id"] not in outputs]
