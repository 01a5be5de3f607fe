"""Encodes requests to an upstream as JSON: those with a large prompt in a thread, because encoding 8 MB takes 10 ms, in
which the event loop would do nothing else."""

from collections.abc import Mapping
from typing import Final

import orjson

from fairness.fair_limits import REQUESTS
from telemetry.context import current_owner
from wire.errors import PromptRefused
from wire.json import Json

__all__ = ["LARGE", "encode_request"]

LARGE: Final = 256 * 1024
"""Characters of a prompt; for a shorter one, switching threads takes longer than the work."""

_PROMPTS: Final = ("messages", "prompt", "input")


async def encode_request(payload: Mapping[str, object]) -> bytes:
    """Return the payload as JSON. Raises PromptRefused."""
    left = LARGE
    for name in _PROMPTS:
        left = _left(payload.get(name), left)
    if left >= 0:
        return _encode(payload)
    return await REQUESTS.run(current_owner(), _encode, payload)


def _left(value: Json, left: int) -> int:
    """Return `left` minus the characters of the texts in a value; stops soon after it is negative."""
    if isinstance(value, str):
        return left - len(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            left = _left(each, left)
            if left < 0:
                break
    return left


def _encode(payload: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise PromptRefused(f"The prompt cannot be sent as JSON: {error}.") from error
