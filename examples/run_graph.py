"""A run without a server: `MODEL_URL=http://127.0.0.1:1234/v1 python examples/run_graph.py`."""

import os
from datetime import UTC, datetime

from langgraph.types import Command

from graphs import build_run_graph


def get_time() -> str:
    """The time in UTC; this graph calls it."""
    return datetime.now(UTC).isoformat(timespec="minutes")


# The program itself answers this one: the run waits for it.
ASK = {"type": "function", "function": {"name": "ask_user", "description": "Ask for the user's name."}}
config = {"configurable": {"thread_id": "one"}}

with build_run_graph(os.environ["MODEL_URL"], tools=[get_time, ASK], instructions="Greet the user by name.") as graph:
    last = graph.invoke({"content": "Hello! What time is it?"}, config)
    while last["event"] == "thread.run.requires_action":
        last = graph.invoke(Command(resume="Ada"), config)
    print(last["text"])
