"""Fits a prompt into a model's context, with space left for the answer.

Invariants: a prompt that is certainly small is sent without asking the engine. The engine's own count decides if it has
one, else the calibrated estimate. It never counts a history that is many times too long. If even the shortest prompt
does not fit, it is sent: the upstream decides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from langchain_core.messages import BaseMessage

from chains.context import Prompt

__all__ = ["ContextWindow", "Uncounted", "fit_prompt", "tokens_for_answer"]

_SURELY_SMALL: Final = 700
"""Estimated tokens that fit into any context of 2,048, however wrong the estimate is."""

_DOUBTFUL: Final = 0.5
"""The share of the available context above which an exact count is requested."""

_SURELY_LONG: Final = 8
"""How many times the available context an estimate is surely too long: the engine is not made to count more."""

_ROUNDS: Final = 4
_SPARE_TOKENS: Final = 16


class ContextWindow(Protocol):
    """The part of an upstream that fitting uses."""

    def context_limit(self, model: str) -> int | None:
        """Return the context in tokens if it is known. Never waits."""
        ...

    async def ask_limit(self, model: str) -> int | None:
        """Return the context in tokens; may ask the engine, in limited time."""
        ...

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> int | None:
        """Return the number of tokens of a prompt; None if the upstream does not count."""
        ...


class Uncounted:
    """The window of an upstream that does not count tokens, or charges for it: only known limits are used."""

    def __init__(self, limit: Callable[[str], int | None]) -> None:
        self.context_limit = limit

    async def ask_limit(self, model: str) -> int | None:
        """Return the known limit."""
        return self.context_limit(model)

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> int | None:
        """Return None."""
        del model, messages, tools
        return None


def tokens_for_answer(limit: int, wanted: int | None) -> int:
    """Return the tokens of a context that are reserved for the answer; `wanted`, the answer's limit, if that is less.

    A quarter of a small context, an eighth of a large one.
    """
    reserved = min(limit // 4, max(512, limit // 8))
    return max(1, reserved if wanted is None else min(reserved, wanted))


async def fit_prompt(prompt: Prompt, model: str, window: ContextWindow, *, ratio: float, answer: int | None) -> Prompt:
    """Return the prompt without as many of its oldest turns as necessary; `answer` is the answer's limit in tokens."""
    limit = window.context_limit(model)
    estimate = prompt.tokens(ratio)
    if limit is None:
        if estimate <= _SURELY_SMALL:
            return prompt
        limit = await window.ask_limit(model)
        if limit is None:
            return prompt
    target = limit - tokens_for_answer(limit, answer) - _SPARE_TOKENS
    if estimate <= target * _DOUBTFUL:
        return prompt
    if estimate > target * _SURELY_LONG:
        prompt = prompt.fit(target * _SURELY_LONG, ratio) or prompt.shortest()
    for _ in range(_ROUNDS):
        count = await window.count_tokens(model, prompt.messages(), prompt.tools)
        if count is None:
            return prompt.fit(target, ratio) or prompt.shortest()
        if count <= target:
            return prompt
        ratio = max(ratio, count / prompt.chars) if prompt.dropped else count / prompt.chars
        shorter = prompt.fit(target, ratio) or prompt.shortest()
        if shorter.dropped == prompt.dropped:
            return prompt
        prompt = shorter
    return prompt
