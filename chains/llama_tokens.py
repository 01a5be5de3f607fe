"""Asks llama.cpp for the tokens of a prompt, exactly as it will process the prompt."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

__all__ = ["Post", "apply_template", "tokenize"]

Post: TypeAlias = Callable[[str, dict[str, object]], Awaitable[object]]
"""Posts a body to a path outside `/v1`; returns the answer's JSON, None for a refusal."""


async def apply_template(post: Post, body: dict[str, object]) -> str | None:
    """Return a chat's prompt; None if the server does not report it."""
    reply = await post("/apply-template", body)
    prompt = reply.get("prompt") if isinstance(reply, dict) else None
    return prompt if isinstance(prompt, str) else None


async def tokenize(post: Post, prompt: str) -> list[object] | None:
    """Return the tokens of a prompt; None if the server does not report them."""
    reply = await post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
    tokens = reply.get("tokens") if isinstance(reply, dict) else None
    return tokens if isinstance(tokens, list) else None
