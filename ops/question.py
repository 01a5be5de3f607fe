"""One short question to the model that answers where none is named: what `threadhold check --ask` waits for.

A built-in model is loaded for it, so this may take minutes; a person at a terminal sees how long it has taken.
"""

import time
from typing import TYPE_CHECKING, Any

import orjson

from ops.progress import waiting
from wire.errors import Problem

if TYPE_CHECKING:
    from chains import Routes

__all__ = ["ask"]

_QUESTION = "Say hello."
_TOKENS = 16
_SHOWN = 60


async def ask(routes: "Routes", model: str) -> tuple[bool, str]:
    """Ask, and tell whether an answer came, and what it was or why not."""
    begun = time.monotonic()
    body = {"model": model, "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _TOKENS}
    try:
        async with waiting(f"asking {model or 'the first model'}"):
            passage = await routes.pass_through(body)
            told = b"".join([block async for block in passage.blocks()])
    except Problem as problem:
        return False, problem.message
    took_s = time.monotonic() - begun
    answered, said = _read(passage.status, told)
    return answered, f"{said} ({took_s:.1f} s)" if answered else said


def _read(status: int, told: bytes) -> tuple[bool, str]:
    try:
        answer: Any = orjson.loads(told)
        if status >= 400:
            return False, str(answer["error"]["message"])
        said = answer["choices"][0]["message"].get("content") or ""
        model = str(answer.get("model") or "it")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return False, f"it answered with status {status} and no completion: {told[:_SHOWN].decode(errors='replace')!r}"
    shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
    return True, f"{model} says {shown!r}"
