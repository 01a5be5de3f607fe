"""How much of a prompt an engine is asked to count."""

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from chains import build_prompt
from chains.fitting import fit_prompt


class Engine:
    """An engine with a context of 2,000 tokens, each of which has this many characters."""

    def __init__(self, chars_per_token: int) -> None:
        self.counted: list[int] = []
        self._chars = chars_per_token

    def context_limit(self, model: str) -> int | None:
        del model
        return 2000

    async def ask_limit(self, model: str) -> int | None:
        return self.context_limit(model)

    async def count_tokens(
        self, model: str, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]
    ) -> int | None:
        del model, tools
        self.counted.append(sum(len(str(message.content)) for message in messages))
        return self.counted[-1] // self._chars


def history(count: int, size: int) -> list[dict[str, Any]]:
    return [
        {
            "role": "user",
            "status": "completed",
            "attachments": [],
            "content": [{"type": "text", "text": {"value": f"{number} {'x' * size}", "annotations": []}}],
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("chars_per_token", [1, 4, 12])
@pytest.mark.parametrize(("count", "size"), [(2000, 10_000), (40, 500_000), (200, 500)])
async def test_an_engine_does_not_count_a_far_too_long_history(count: int, size: int, chars_per_token: int) -> None:
    prompt = build_prompt(
        instructions="", history=history(count, size), exchange=(), truncation={"type": "auto", "last_messages": None}
    )
    engine = Engine(chars_per_token)
    fitted = await fit_prompt(prompt, "m", engine, ratio=0.3, answer=None)
    assert max(engine.counted) <= max(size + 10, 2000 * 8 / 0.3)
    newest = str(fitted.messages()[-1].content)
    assert newest.startswith(f"{count - 1} ")
    assert len(fitted.messages()) == 1 or sum(len(str(m.content)) for m in fitted.messages()) <= 2000 * chars_per_token
