"""Asks the default model one short question, for `threadhold check --ask`.

A built-in model is loaded for this, which can take minutes. A terminal shows the elapsed time.
"""

import time
from typing import TYPE_CHECKING

import orjson

from ops.progress import waiting
from wire.errors import Problem

if TYPE_CHECKING:
    from chains import ModelRouter

__all__ = ["ask"]

_QUESTION = "Say hello."
_TOKENS = 16
_SHOWN = 60


async def ask(router: "ModelRouter", model: str) -> tuple[bool, str]:
    """Return whether the model answered, and a sentence with the answer or the reason."""
    started_at = time.monotonic()
    body = {"model": model, "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _TOKENS}
    try:
        async with waiting(f"asking {model or 'the first model'}"):
            passage = await router.pass_through(body)
            body_bytes = b"".join([block async for block in passage.blocks()])
    except Problem as problem:
        return False, problem.message
    took_s = time.monotonic() - started_at
    answered, text = _read_answer(passage.status, body_bytes)
    return answered, f"{text} ({took_s:.1f} s)" if answered else text


def _read_answer(status: int, body: bytes) -> tuple[bool, str]:
    try:
        answer = orjson.loads(body)
        if status >= 400:
            return False, str(answer["error"]["message"])
        content = answer["choices"][0]["message"].get("content") or ""
        model = str(answer.get("model") or "it")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return False, f"it answered with status {status} and no completion: {body[:_SHOWN].decode(errors='replace')!r}"
    shown = content if len(content) <= _SHOWN else f"{content[:_SHOWN]}…"
    return True, f"{model} says {shown!r}"
