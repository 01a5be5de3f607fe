"""Several answers to one request are generated one after another, and returned as one."""

from collections.abc import Iterator
from typing import Any

import orjson

from chains.non_streaming import complete_responses
from chains.upstream_response import UpstreamResponse


async def _answer(content: dict[str, Any], status: int = 200) -> UpstreamResponse:
    return UpstreamResponse(status, "application/json", body=orjson.dumps(content))


def _completion(*texts: str) -> dict[str, Any]:
    choices = [{"index": index, "text": text} for index, text in enumerate(texts)]
    usage = {"prompt_tokens": 2, "completion_tokens": len(texts), "total_tokens": 2 + len(texts)}
    return {"id": texts[0], "choices": choices, "usage": usage}


async def test_choices_keep_their_order_and_tokens_are_added() -> None:
    response = await complete_responses(map(_answer, [_completion("a", "b"), {**_completion("c"), "usage": None}]))
    assert orjson.loads(response.body or b"") == {
        "id": "a",
        "choices": [{"index": index, "text": text} for index, text in enumerate("abc")],
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    }


async def test_a_prompt_is_counted_once_for_all_answers() -> None:
    answers = [_completion(text) for text in "abcdef"]
    for answer, prompt_tokens in zip(answers, [5, 5, 5, 7, 7, 7], strict=True):
        answer["usage"]["prompt_tokens"] = prompt_tokens
    response = await complete_responses(map(_answer, answers), per_prompt=3)
    usage = orjson.loads(response.body or b"")["usage"]
    assert usage == {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}


async def test_no_request_is_sent_after_a_refusal() -> None:
    asked: list[int] = []

    def requests() -> Iterator[Any]:
        for number, status in enumerate([200, 400, 200]):
            asked.append(number)
            yield _answer(_completion("a") if status == 200 else {"error": {}}, status)

    response = await complete_responses(requests())
    assert (response.status, response.body, asked) == (400, b'{"error":{}}', [0, 1])
