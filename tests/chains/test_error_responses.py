"""The exact error messages of servers in use, and their meaning."""

import ast
from typing import Any

import orjson
import pytest

from chains.error_responses import explain, quoted, read_error_response
from wire.errors import ContextOverflow, PromptRefused, RateLimited, UpstreamFailed

M = "This model's maximum context length is "
OVERFLOWS: dict[str, tuple[dict[str, Any], int | None, int | None, int | None]] = {
    # id: (body, limit, limit minus the answer, used)
    "openai": (
        {"error": {"message": M + "128000 tokens. However, your messages resulted in 140001 tokens. Please reduce the"
                   " length of the messages.", "type": "invalid_request_error", "param": "messages",
                   "code": "context_length_exceeded"}}, 128000, 128000, 140001),
    "openai, configured limit": (
        {"error": {"message": "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in"
                   " 300009 tokens. Please reduce the length of the messages.", "code": "context_length_exceeded"}},
        272000, 272000, 300009),
    "openai, code alone": ({"error": {"message": "No.", "code": "context_length_exceeded"}}, None, None, None),
    "llama-cpp-python, seed 003": (
        {"error": {"message": M + "2048 tokens. However, you requested 2078 tokens (2078 in the messages, None in the"
                   " completion). Please reduce the length of the messages or completion.",
                   "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}},
        2048, 2048, 2078),
    "llama-cpp-python, ValueError": (
        {"error": {"message": "Requested tokens (2078) exceed context window of 2048", "type": "internal_server_error",
                   "code": None}}, 2048, 2048, 2078),
    "llama.cpp": (
        {"error": {"code": 400, "message": "request (9031 tokens) exceeds the available context size (8192 tokens), try"
                   " increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9031, "n_ctx": 8192}},
        8192, 8192, 9031),
    "llama.cpp, before": (
        {"error": {"code": 400, "message": "the request exceeds the available context size. try increasing the context"
                   " size or enable context shift", "type": "invalid_request_error"}}, None, None, None),
    "vllm, 2025": (
        {"object": "error", "message": M + "16384 tokens. However, you requested 22946 tokens (12946 in the messages,"
                   " 10000 in the completion). Please reduce the length of the messages or completion.",
         "type": "BadRequestError", "param": None, "code": 400}, 16384, 6384, 12946),
    "vllm, 2026": (
        {"error": {"message": M + "2048 tokens. However, your request has 2500 input tokens. Please reduce the length"
                   " of the input messages. (parameter=input_tokens, value=2500)", "type": "BadRequestError",
                   "param": "input_tokens", "code": 400}}, 2048, 2048, 2500),
    "vllm, 2026, with max_tokens": (
        {"error": {"message": M + "2048 tokens. However, your request has 1800 input tokens plus 1045 'max_tokens'."
                   " Please reduce one or the other.", "type": "BadRequestError", "code": 400}}, 2048, 1003, 1800),
    "vllm, max_tokens too large": (
        {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 500. " + M + "4096 tokens and your"
                   " request has 4000 input tokens (500 > 4096 - 4000).", "code": 400}}, 4096, 3596, 4000),
    "lm studio": (
        {"error": "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with"
                  " context length of only 4096 tokens, which is not enough. Try to load the model with a larger"
                  " context length, or provide a shorter input"}, 4096, 4096, 15857),
    "lm studio, n_keep": (
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep:"
                  " 13055>= n_ctx: 4096). Try to load the model with a larger context length"}, 4096, 4096, 13055),
    "lm studio, cannot truncate": (
        {"error": {"message": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"}}, 7424, 7424, 15028),
    "ollama": ({"error": {"message": "the input length exceeds the context length"}}, None, None, None),
    "anthropic": (
        {"type": "error", "error": {"type": "invalid_request_error",
         "message": "prompt is too long: 210000 tokens > 200000 maximum"}}, 200000, 200000, 210000),
    "gemini, in a list": (
        [{"error": {"code": 400, "message": "The input token count (1,200,000) exceeds the maximum number of tokens"
                    " allowed (1048576).", "status": "INVALID_ARGUMENT"}}], 1048576, 1048576, 1200000),
    "mistral": (
        {"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768"
         " maximum context length", "code": 3051}, 32768, 32768, 40000),
}  # fmt: skip


@pytest.mark.parametrize(("body", "limit", "prompt_limit", "used"), OVERFLOWS.values(), ids=OVERFLOWS)
def test_overflow_is_recognized_by_code_type_or_wording(
    body: dict[str, Any], limit: int | None, prompt_limit: int | None, used: int | None
) -> None:
    for status in (400, 413, 500):
        error_response = read_error_response(orjson.dumps(body), status=status)
        assert (error_response.overflow, error_response.limit, error_response.prompt_limit, error_response.used) == (
            True,
            limit,
            prompt_limit,
            used,
        )
        assert not error_response.retryable
        error = explain(error_response, host="h", model="m")
        assert isinstance(error, ContextOverflow)
        assert (error.limit, error.used) == (prompt_limit, used)


def test_an_answer_limit_beyond_the_context_is_no_overflow() -> None:
    body = {
        "error": {"message": f"'max_tokens' is too large: 9000. {M}4096 tokens and your request has 10 input tokens"}
    }
    assert isinstance(explain(read_error_response(orjson.dumps(body), status=400), host="h", model="m"), PromptRefused)
    body = {
        "error": {"message": "max_tokens is too large: 200000. This model supports at most 16384 completion tokens"}
    }
    assert isinstance(explain(read_error_response(orjson.dumps(body), status=400), host="h", model="m"), PromptRefused)


@pytest.mark.parametrize(
    ("status", "kind", "part"),
    [
        (401, UpstreamFailed, "MODEL_API_KEY"),
        (403, UpstreamFailed, "MODEL_API_KEY"),
        (404, PromptRefused, "`m`"),
        (400, PromptRefused, "why"),
        (422, PromptRefused, "why"),
        (429, RateLimited, "why"),
        (500, UpstreamFailed, "why"),
        (503, UpstreamFailed, "why"),
        (302, UpstreamFailed, "MODEL_URL"),
    ],
)
def test_each_status_becomes_its_error_with_advice(status: int, kind: type[Exception], part: str) -> None:
    error = explain(read_error_response(b'{"error": {"message": "why"}}', status=status), host="host:1", model="m")
    assert type(error) is kind
    assert part in error.message
    assert "host:1" in error.message
    assert "why" in error.message


@pytest.mark.parametrize(
    "body",
    [b"", b"nope", b"<html><style>x{}</style><h1>why</h1></html>", b"[]", b"3", b"null", b'{"error": null}',
     b'{"error": []}', b'{"detail": [{"loc": 1}]}', b"\xff\xfe", b'{"error": {"message": {"a": 1}, "code": {}}}'],
)  # fmt: skip
def test_any_body_can_be_explained(body: bytes) -> None:
    error = explain(read_error_response(body, status=500), host="h", model="m")
    assert type(error) is UpstreamFailed
    assert "<" not in error.message


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Bad Request", "message": ["why"]},
        {"status": 400, "error": "Bad Request", "message": "why", "path": "/v1/chat/completions"},
        {"error": None, "message": "why"},
        {"errors": [{"message": "why"}]},
        {"error_code": 5, "error_msg": "why"},
        {"title": "Bad Request", "detail": "why"},
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"message": "why"}'}}},
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "why"}}},
    ],
    ids=str,
)
def test_the_reason_is_found_anywhere_in_a_body(body: dict[str, Any]) -> None:
    error = explain(read_error_response(orjson.dumps(body), status=400), host="h", model="m")
    assert error.message.endswith("why")
    assert "None" not in error.message


def test_a_gateway_s_quoted_error_counts_as_its_own() -> None:
    overflow = "This model's maximum context length is 10 tokens. However, your messages resulted in 20 tokens."
    raw = orjson.dumps({"error": {"message": overflow}}).decode()
    error = {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}
    error_response = read_error_response(orjson.dumps({"error": error}), status=400)
    assert (error_response.overflow, error_response.limit, error_response.used) == (True, 10, 20)


def test_an_exhausted_quota_is_a_rate_limit_without_retries() -> None:
    error_response = read_error_response(b'{"error": {"message": "x", "code": "insufficient_quota"}}', status=429)
    assert not error_response.retryable
    assert isinstance(explain(error_response, host="h", model="m"), RateLimited)


def test_a_status_inside_a_stream_error_counts() -> None:
    assert isinstance(
        explain(read_error_response({"error": {"message": "x", "code": 429}}), host="h", model="m"), RateLimited
    )
    assert isinstance(
        explain(read_error_response({"error": {"message": "x", "code": 500}}), host="h", model="m"), UpstreamFailed
    )
    assert isinstance(explain(read_error_response({"error": "cuda"}), host="h", model="m"), UpstreamFailed)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (400, "llama3 is not a multimodal model"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (500, "Failed to create new sequence: this model is missing data required for image input"),
    ],
    ids=["llama.cpp", "vllm", "openai", "ollama"],
)
def test_an_image_refused_by_a_text_model_is_not_retried(status: int, message: str) -> None:
    error_response = read_error_response({"error": {"message": message}}, status=status)
    error = explain(error_response, host="h", model="m")
    assert (error.code, error_response.retryable) == ("invalid_prompt", False)
    assert "model `m` cannot see pictures" in error.message


@pytest.mark.parametrize(
    "text",
    [
        b"\n" * 900,
        b"a" * 900,
        "\U000e0001".encode() * 900,
        b"\xff\x00" * 900,
        b"a\n" * 100 + b"\x1b" * 300,
        b"",
    ],
    ids=["line ends", "letters", "long escapes", "no utf-8", "mixed", "nothing"],
)
def test_a_quote_is_short_with_all_its_escapes(text: bytes) -> None:
    quote = quoted(text)
    assert len(quote) <= 500
    assert len(quote) > 200 or len(text) < 10
    assert text.decode(errors="replace").startswith(ast.literal_eval(quote))
