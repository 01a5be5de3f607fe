"""Requests to an upstream are encoded where they delay nothing else."""

import threading
from typing import Any

import orjson
import pytest

from chains import request_body
from chains.request_body import LARGE, encode_request
from wire.errors import PromptRefused

TEXT = "é" * (LARGE // 2 + 1)


@pytest.mark.parametrize(
    ("payload", "in_thread"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, False),
        ({"messages": [{"role": "user", "content": TEXT}]}, False),
        ({"messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT + TEXT}]}]}, True),
        ({"messages": [{"tool_calls": [{"function": {"arguments": TEXT + TEXT}}]}]}, True),
        ({"prompt": TEXT + TEXT}, True),
        ({"input": [TEXT, TEXT]}, True),
        ({"input": None}, False),
    ],
)
async def test_a_large_prompt_is_encoded_in_a_thread(
    payload: dict[str, Any], in_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    encode = request_body._encode

    def noted(payload: Any) -> bytes:
        threads.append(threading.current_thread())
        return encode(payload)

    monkeypatch.setattr(request_body, "_encode", noted)
    assert orjson.loads(await encode_request(payload)) == payload
    assert [thread is not threading.main_thread() for thread in threads] == [in_thread]


@pytest.mark.parametrize("text", ["\ud800", "\ud800" + TEXT + TEXT], ids=["small", "large"])
async def test_text_that_is_not_unicode_is_refused(text: str) -> None:
    with pytest.raises(PromptRefused, match="cannot be sent as JSON"):
        await encode_request({"prompt": text})
