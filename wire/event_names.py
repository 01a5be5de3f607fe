"""The closed set of names of events: those of OpenAI's spec of 2026-08-21, and our `threadhold.…`. mypy checks them."""

from typing import Final, Literal, get_args

__all__ = ["EVENT_NAMES", "CustomEventName", "EventName"]

CustomEventName = Literal[
    "threadhold.reset",  # after a crash, discard the deltas of the named message and step; they are sent again
    "threadhold.reasoning.delta",  # a fragment of the model's reasoning, which is not part of any message
    "threadhold.context",  # how many of the thread's messages the prompt omits because of its length
]
"""The name of an event that OpenAI's API does not have."""

EventName = Literal[
    CustomEventName,
    "thread.created",  # create-thread-and-run created a thread
    "thread.run.created",  # a run was created
    "thread.run.queued",  # the run waits for execution, initially or after tool outputs
    "thread.run.in_progress",  # the run is being executed
    "thread.run.requires_action",  # the run waits for tool outputs; the stream ends
    "thread.run.completed",  # the run completed
    "thread.run.incomplete",  # the run ended early: a token budget, or the content filter
    "thread.run.failed",  # the run ended with `last_error`
    "thread.run.cancelling",  # a client requested cancellation
    "thread.run.cancelled",  # the run was cancelled
    "thread.run.expired",  # the run exceeded its time limit
    "thread.run.step.created",  # a step was created
    "thread.run.step.in_progress",  # a step is being executed
    "thread.run.step.delta",  # a fragment of a step's tool calls
    "thread.run.step.completed",  # a step completed
    "thread.run.step.failed",  # a step ended with `last_error`
    "thread.run.step.cancelled",  # a step was cancelled with its run
    "thread.run.step.expired",  # a step expired with its run
    "thread.message.created",  # an empty message was created
    "thread.message.in_progress",  # a message is being written
    "thread.message.delta",  # a fragment of a message
    "thread.message.completed",  # a message is complete
    "thread.message.incomplete",  # a message was cut off
    "error",  # the stream cannot continue; nested {'error': {...}}
    "done",  # the last frame of a stream, literal [DONE]; never part of a log
]
"""The name of an event."""

EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)
"""Every event name."""
