"""The two graphs of a run: one with tools, and one without, which consists of a single reply.

prepare → reply ─┬─ no tool calls ─────────────────→ finish
           ↑     ├─ server-side calls → act (a task each) ───┐
           │     └─ functions, approvals → pause ─┬─ approved → act
           └──────────────────────────────────────┴──────────┘

If the spec of a run says that calls for the client end it, `reply` and `act` lead to `finish` instead of `pause`.

A run without tools takes the smaller graph. Its only node replies and finishes, so it can neither wait nor repeat
anything and needs no checkpoints. That saves LangGraph 0.5 ms of processor time.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphs.machine import edges, nodes
from graphs.machine.state import RunContext, RunState

__all__ = ["CompiledRun", "compile_reply_graph", "compile_run_graph", "recursion_limit"]

CompiledRun = CompiledStateGraph[RunState, RunContext, RunState, RunState]


def compile_run_graph(checkpointer: BaseCheckpointSaver[str] | None = None) -> CompiledRun:
    """Compile the graph of a run. Without a checkpointer, a run that calls functions cannot wait for their outputs."""
    graph: Any = StateGraph(RunState, context_schema=RunContext)
    graph.add_node("prepare", nodes.prepare)
    graph.add_node("reply", nodes.reply)
    graph.add_node("act", nodes.act)
    graph.add_node("pause", nodes.pause)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "reply")
    graph.add_conditional_edges("reply", edges.after_reply, ["act", "pause", "reply", "finish"])
    graph.add_conditional_edges("act", edges.after_act, ["pause", "reply", "finish"])
    graph.add_conditional_edges("pause", edges.after_pause, ["act", "reply"])
    graph.add_edge("finish", END)
    built: CompiledRun = graph.compile(checkpointer=checkpointer, name="run")
    return built


def compile_reply_graph() -> CompiledRun:
    """Compile the graph of a run without tools: one node, which replies and finishes."""
    graph: Any = StateGraph(RunState, context_schema=RunContext)
    graph.add_node("reply", nodes.reply_and_finish)
    graph.add_edge(START, "reply")
    graph.add_edge("reply", END)
    built: CompiledRun = graph.compile(name="run")
    return built


def recursion_limit(max_tool_rounds: int) -> int:
    """Return a LangGraph recursion limit that is never reached before the run's own limit (4 supersteps a round)."""
    return 4 * max_tool_rounds + 16
