"""Limits a run's exchange: the calls of its replies and their outputs. Pure.

Invariant: a run's exchange has at most `MAX_EXCHANGE_BYTES` as JSON, so no checkpoint, step, event or prompt of the run
contains more of it. A client's outputs that would exceed the limit are refused. Such an output of the server's own
calls is replaced by a note for the model. A reply whose calls exceed the limit fails the run.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

import orjson

from graphs.machine.stream_parts import Call
from graphs.tools.port import Outcome
from retrieval.grounding import Source
from wire.errors import InvalidRequest, RunError

__all__ = [
    "CALL_BYTES",
    "LEFT_OUT",
    "MAX_CALLS_BYTES",
    "MAX_EXCHANGE_BYTES",
    "MAX_REPLY_CHARS",
    "MAX_SUBMITTED_BYTES",
    "NO_MEMORY",
    "can_call",
    "check_calls",
    "check_reply",
    "check_submitted",
    "count_calls",
    "fit_outcome",
    "json_bytes",
    "share_of_left",
]

MAX_EXCHANGE_BYTES: Final = 3 * 1024 * 1024
"""Each round writes the exchange as a checkpoint; 4 MB take the store's writer about 50 ms."""

MAX_CALLS_BYTES: Final = 1024 * 1024
"""Maximum bytes of one reply's calls; a checkpoint can contain them three times."""

MAX_SUBMITTED_BYTES: Final = 512 * 1024
"""Maximum UTF-8 bytes of all outputs in one request: OpenAI's limit."""

CALL_BYTES: Final = 1024
"""Bytes of a call in addition to its texts, in events, rows and checkpoints. A reply thus has at most about 1,000
calls, as many as one request can answer."""

MAX_REPLY_CHARS: Final = 4 * 1024 * 1024
"""Maximum characters of a reply's text, which is one row and, after calls, part of a checkpoint: about a million
tokens."""

_MIN_LEFT: Final = 8 * 1024
"""With fewer bytes left, the model is offered no tools, so the run ends with an answer."""

LEFT_OUT: Final = (
    "(The output of this call was omitted: the tool calls and outputs of a run can have at most "
    f"{MAX_EXCHANGE_BYTES} bytes as JSON.)"
)

NO_MEMORY: Final = (
    "(The output of this call was omitted: the server's memory for runs is in use. Try again later, or request less.)"
)


def json_bytes(value: object) -> int:
    """Return the length of a value as JSON."""
    return len(orjson.dumps(value))


def check_calls(used: int, added: int) -> None:
    """Check the calls of a reply, `added` bytes, in a run whose exchange has `used` bytes. Raises RunError."""
    left = min(MAX_CALLS_BYTES, max(0, MAX_EXCHANGE_BYTES - used))
    if added > left:
        raise RunError(
            f"The model's tool calls are too large: more than {left} bytes, with {CALL_BYTES} for each call besides "
            f"its arguments. The calls of one reply can have {MAX_CALLS_BYTES} bytes, and all calls and outputs of a "
            f"run {MAX_EXCHANGE_BYTES}. Ask for fewer or shorter calls."
        )


def check_reply(chars: int) -> None:
    """Check the length of a reply's text so far. Raises RunError."""
    if chars > MAX_REPLY_CHARS:
        raise RunError(f"The model's reply is too long: more than {MAX_REPLY_CHARS} characters. Ask for a shorter one.")


def count_calls(used: int, text: str, calls: Iterable[Call], extra_fields: str) -> int:
    """Return how many bytes a reply with calls adds to the exchange. Raises RunError if that is too much."""
    calls_bytes = sum(json_bytes(call["name"]) + json_bytes(call["arguments"]) + CALL_BYTES for call in calls)
    added = calls_bytes + json_bytes(text) + json_bytes(extra_fields)
    check_calls(used, added)
    return added


def can_call(used: int) -> bool:
    """Whether a run whose exchange has `used` bytes can make more calls."""
    return MAX_EXCHANGE_BYTES - used >= _MIN_LEFT


def share_of_left(used: int, calls: int) -> int:
    """Return how many bytes each of several concurrent calls can add, whichever of them ends first."""
    return max(0, MAX_EXCHANGE_BYTES - used) // max(1, calls)


def fit_outcome(outcome: Outcome, max_bytes: int, reserve: Callable[[int], bool]) -> tuple[Outcome, int]:
    """Return the outcome of a call and its size in bytes.

    A note replaces it if it is too large, or if `reserve` finds no memory. Passages that exceed `max_bytes` are left
    out, so they are not cited.
    """
    added = json_bytes(outcome.output)
    if added > max_bytes:
        return Outcome(LEFT_OUT), len(LEFT_OUT)
    if not reserve(added):
        return Outcome(NO_MEMORY), len(NO_MEMORY)
    passages: dict[str, Source] = {}
    for number, passage in outcome.passages.items():
        size = json_bytes(passage)
        if added + size > max_bytes:
            break
        passages[number] = passage
        added += size
    return replace(outcome, passages=passages), added


def check_submitted(outputs: Mapping[str, str], used: int) -> None:
    """Check the outputs of one request against its limit and the run's limit. Raises InvalidRequest.

    `used` is the size of the run's exchange so far, in bytes.
    """
    total = sum(len(output.encode()) for output in outputs.values())
    if total > MAX_SUBMITTED_BYTES:
        raise _too_large(
            f"'tool_outputs' too large: the combined tool outputs must be less than 512kb "
            f"({MAX_SUBMITTED_BYTES} bytes), and these have {total}. Submit shorter outputs."
        )
    added = sum(map(json_bytes, outputs.values()))
    left = max(0, MAX_EXCHANGE_BYTES - used)
    if total and added > left + CALL_BYTES * len(outputs):
        raise _too_large(
            f"'tool_outputs' too large: {added} bytes as JSON, and the run has {left} left of the {MAX_EXCHANGE_BYTES} "
            "that all its tool calls and outputs can have in total. Submit shorter outputs."
        )


def _too_large(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="tool_outputs", code="invalid_value")
