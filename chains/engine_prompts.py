"""Validates messages and prompts for the built-in engine: known roles, parts and types. Pure.

A model's template reads messages without checks. Unexpected content makes llama.cpp fail with an error of its own, or
worse. Invariant: the engine receives only fields that templates know, each of the right type.
"""

from collections.abc import Mapping
from typing import Final

from chains.chat_types import RequestCall, RequestMessage
from wire.errors import InvalidRequest

__all__ = ["fit_messages", "fit_prompt_text", "require_fitting", "require_text", "split_prompts"]

_MAX_MESSAGES: Final = 5_000  # rendering 15,000 takes 13 s; more do not fit into a context anyway
_MAX_PARTS: Final = 1_000
_MAX_CALLS: Final = 256
_MAX_PROMPTS: Final = 8
_MAX_CHARS_PER_TOKEN: Final = 32
"""On average; prose has 4. llama.cpp takes 7 s for the tokens of 400 KB of control tokens, and 22 s for a 9 MB word."""
_MAX_TOKEN: Final = 2**31 - 1
_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS: Final = ("name", "tool_call_id", "reasoning_content", "refusal")
_PARTS: Final = ("text", "refusal", "image_url", "input_audio", "file")


def fit_messages(name: str, value: object) -> list[RequestMessage]:
    """Return a chat's messages, without fields that no template uses. Raises InvalidRequest."""
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_MESSAGES:
        raise _invalid(name, f"an array of 1 to {_MAX_MESSAGES} messages{_count(value)}")
    return [_fit_message(f"{name}[{index}]", message) for index, message in enumerate(value)]


def fit_prompt_text(name: str, value: object) -> object:
    """Return a text completion's prompt: a text, tokens, or an array of these. Raises InvalidRequest."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise _invalid(name, "a string, or an array of strings or tokens")
    if type(value[0]) is int:
        return _fit_tokens(name, value)
    if len(value) > _MAX_PROMPTS:
        raise _invalid(name, f"an array of at most {_MAX_PROMPTS} prompts{_count(value)}")
    return [each if isinstance(each, str) else _fit_tokens(name, each) for each in value]


def split_prompts(prompt: object) -> list[object]:
    """Return the single prompts, each a text or a list of tokens, of a fitted `prompt`."""
    return prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]


def require_fitting(body: Mapping[str, object], context: int) -> None:
    """Raise InvalidRequest if a prompt is longer than a context of `context` tokens can hold.

    llama.cpp would read all of it before refusing it.
    """
    maximum = context * _MAX_CHARS_PER_TOKEN
    prompts = split_prompts(body.get("prompt"))
    for tokens in prompts:
        if isinstance(tokens, list) and len(tokens) > context:
            raise _too_long("prompt", context, f"{len(tokens)} tokens")
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    for param, value in ("prompt", texts), ("messages", body.get("messages")), ("tools", body.get("tools")):
        if (chars := _count_chars(value)) > maximum:
            raise _too_long(param, context, f"{chars} characters; at most {maximum} are allowed")


def _count_chars(value: object) -> int:
    """Return the number of characters in all texts, names and numbers of a prompt."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(map(len, value)) + sum(map(_count_chars, value.values()))
        case list():
            return sum(map(_count_chars, value))
        case int():
            return 1 + value.bit_length() // 3
    return len(str(value))


def _too_long(param: str, context: int, found: str) -> InvalidRequest:
    return InvalidRequest(
        f"This model's maximum context length is {context} tokens. However, '{param}' has {found}. Please reduce its "
        "length.",
        param=param,
        code="context_length_exceeded",
    )


def require_text(body: Mapping[str, object]) -> None:
    """Raise InvalidRequest if a fitted message has an image, audio or a file: no model here accepts them."""
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if part["type"] not in ("text", "refusal"):
                param = f"messages[{index}].content[{number}]"
                raise InvalidRequest(
                    f"Invalid '{param}': the built-in engine does not support `{part['type']}`. Send text parts only, "
                    "or use an engine that supports other parts.",
                    param=param,
                    code="invalid_value",
                )


def _fit_tokens(name: str, value: object) -> list[int]:
    if not isinstance(value, list) or not value:
        raise _invalid(name, "a string, or an array of strings or tokens")
    if not all(type(token) is int and 0 <= token <= _MAX_TOKEN for token in value):
        raise _invalid(name, f"an array of tokens, which are integers from 0 to {_MAX_TOKEN}")
    return value


def _fit_message(param: str, message: object) -> RequestMessage:
    if not isinstance(message, dict):
        raise _invalid(param, "an object")
    role = message.get("role")
    if role not in _ROLES:
        raise _invalid(f"{param}.role", f"one of {', '.join(_ROLES)}")
    fitted: RequestMessage = {"role": role}
    if "content" in message:
        fitted["content"] = _fit_content(f"{param}.content", message["content"])
    for name in _TEXTS:
        if message.get(name) is not None:
            if not isinstance(message[name], str):
                raise _invalid(f"{param}.{name}", "a string")
            fitted[name] = message[name]
    if message.get("tool_calls") is not None:
        fitted["tool_calls"] = _fit_calls(f"{param}.tool_calls", message["tool_calls"])
    if fitted.get("content") is None and not (role == "assistant" and "tool_calls" in fitted):
        if role != "assistant" or "content" not in fitted:
            raise _invalid(f"{param}.content", "a string or an array of content parts")
        fitted["content"] = ""
    return fitted


def _fit_content(param: str, content: object) -> object:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list) or len(content) > _MAX_PARTS:
        raise _invalid(param, f"a string or an array of at most {_MAX_PARTS} content parts{_count(content)}")
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _PARTS:
            raise _invalid(f"{param}[{index}].type", f"one of {', '.join(_PARTS)}")
        if kind in ("text", "refusal"):
            if not isinstance(part.get(kind), str):
                raise _invalid(f"{param}[{index}].{kind}", "a string")
        elif not isinstance(part.get(kind), dict):
            raise _invalid(f"{param}[{index}].{kind}", "an object")
    return content


def _fit_calls(param: str, calls: object) -> list[RequestCall]:
    if not isinstance(calls, list) or len(calls) > _MAX_CALLS:
        raise _invalid(param, f"an array of at most {_MAX_CALLS} calls{_count(calls)}")
    return [_fit_call(f"{param}[{index}]", call) for index, call in enumerate(calls)]


def _fit_call(param: str, call: object) -> RequestCall:
    if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
        raise _invalid(f"{param}.function", "an object")
    name, arguments, id = function.get("name"), function.get("arguments", ""), call.get("id", "")
    if not isinstance(name, str) or not isinstance(arguments, str) or not isinstance(id, str):
        raise _invalid(param, "a call whose id, name and arguments are strings")
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _count(value: object) -> str:
    return f"; it has {len(value)}" if isinstance(value, list) else ""


def _invalid(param: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': it must be {expected}.", param=param, code="invalid_value")
