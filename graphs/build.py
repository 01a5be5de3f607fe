"""The graphs of a run, each drawn once: with tools, and without, where answering is all there is.

prepare → reply ─┬─ no tool calls ─────────────────→ finish
           ↑     ├─ server-side calls → act (a task a call) ─┐
           │     └─ functions, approvals → pause ─┬─ approved → act
           └──────────────────────────────────────┴──────────┘

A superstep costs as much as 15 tokens, so that the graph without tools has a single one.
"""

from typing import Any

from langgraph.channels import EphemeralValue
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import NodeBuilder, Pregel

from graphs import nodes
from graphs.answering import Answer
from graphs.state import RunContext, RunState

__all__ = ["compile_answer_graph", "compile_run_graph", "recursion_limit"]

CompiledRun = CompiledStateGraph[RunState, RunContext, RunState, RunState]
Answering = Pregel[Any, Any, Any, Any]


def compile_run_graph(checkpointer: BaseCheckpointSaver[str] | None = None) -> CompiledRun:
    """Compile the graph of a run. Without a checkpointer a run that calls functions cannot wait."""
    graph: Any = StateGraph(RunState, context_schema=RunContext)
    graph.add_node("prepare", nodes.prepare)
    graph.add_node("reply", nodes.reply)
    graph.add_node("act", nodes.act)
    graph.add_node("pause", nodes.pause)
    graph.add_node("finish", nodes.finish)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "reply")
    graph.add_conditional_edges("reply", nodes.after_reply, ["act", "pause", "reply", "finish"])
    graph.add_conditional_edges("act", nodes.after_act, ["pause", "reply"])
    graph.add_conditional_edges("pause", nodes.after_pause, ["act", "reply"])
    graph.add_edge("finish", END)
    built: CompiledRun = graph.compile(checkpointer=checkpointer, name="run")
    return built


def compile_answer_graph() -> Answering:
    """Compile the graph of a run without tools, which can neither wait nor repeat anything.

    A StateGraph begins with a superstep of its own, which hands the input to the channels; Pregel, which is what
    LangGraph makes of it, takes a node that its input wakes. What happens is told (`RunContext.tell`), so that nothing
    is written at its end: a channel more was a seventh of what LangGraph takes.
    """
    node = NodeBuilder().subscribe_only("begin").do(Answer()).build()
    node.writers.clear()  # of nothing, which would be a Runnable and a task more
    return Pregel(
        nodes={"answer": node},
        channels={"begin": EphemeralValue(bool)},
        input_channels="begin",
        output_channels="begin",
        name="run",
    )


def recursion_limit(max_tool_rounds: int) -> int:
    """Return a LangGraph recursion limit that the run's own limit always comes before (4 supersteps a round)."""
    return 4 * max_tool_rounds + 16
