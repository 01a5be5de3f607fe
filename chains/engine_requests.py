"""Limits what the built-in engine receives of a client's request: known parameters, checked for type and range.

llama.cpp is native code in one process for all owners, and it does not validate many parameters. Invariant: it
receives only the parameters listed here, with values within their bounds. OpenAI's parameters without effect on it are
accepted and dropped, so that unmodified SDKs work. All other parameters are refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from chains.calls.checks import bounded_schemas
from chains.chat_types import FunctionSpec, FunctionTool, JsonSchema, ResponseFormat, SchemaFormat
from chains.engine_prompts import fit_messages, fit_prompt_text, split_prompts
from chains.forwarding import CHAT
from chains.schema_limits import is_number
from wire.errors import BudgetExceeded, InvalidRequest, Unavailable

__all__ = ["answer_count", "fit_request", "single_requests", "template_tools"]

_MAX_TOOLS: Final = 128
_MAX_STOPS: Final = 16
_MAX_STOP_CHARS: Final = 500
_MAX_BIASES: Final = 300
_MAX_PROBABILITIES: Final = 20
_MAX_KWARGS: Final = 16
_MAX_TEXT: Final = 200
_SHOWN_CHARS: Final = 40
_SCHEMA_ADVICE: Final = "Change the schema, or use a model that is not served by the built-in engine."

_REASONING_FORMATS: Final = ("none", "auto", "deepseek", "deepseek-legacy")

_LEFT_OUT: Final = frozenset(
    {
        "audio",
        "metadata",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""OpenAI's parameters that have no effect on the engine."""

Check: TypeAlias = Callable[[str, object], object]
"""Takes a parameter's name and value, returns the value to send. Raises InvalidRequest."""


async def fit_request(
    body: Mapping[str, object], path: str, *, context: int, lenient: bool = False
) -> dict[str, object]:
    """Return a `/chat/completions` or `/completions` body that is safe to send. `context` is in tokens.

    With `lenient`, a function whose schema is too costly gets any object as its arguments; the caller checks them.

    Raises:
        InvalidRequest: with the parameter, its value and the limit.
        Unavailable: the cost of its schemas could not be checked now.
    """
    fitted: dict[str, object] = {}
    checks = _CHECKS if path == CHAT else _COMPLETION_CHECKS
    for name, value in body.items():
        if name in _LEFT_OUT or value is None:
            continue
        check = checks.get(name)
        if check is None:
            raise InvalidRequest(
                f"Unknown parameter: '{name[:80]}'. The built-in engine does not accept it; leave it out."
                + (" For a grammar, use `response_format` with a JSON Schema." if name in _GRAMMARS else ""),
                param=name[:80],
                code="unknown_parameter",
            )
        fitted[name] = min(_tokens(name, value), context) if check is _tokens else check(name, value)
    tools: list[FunctionTool] = []
    described: SchemaFormat | None = None
    if isinstance(given := fitted.get("tools"), list):
        fitted["tools"] = tools = _fit_tools(given)
    if isinstance(wanted := fitted.get("response_format"), dict):
        fitted["response_format"] = form = _fit_format(wanted)
        described = form.get("json_schema")
    await _bound_schemas(tools, described, lenient=lenient)
    return fitted


async def template_tools(tools: Sequence[Mapping[str, object]], *, context: int) -> Sequence[Mapping[str, object]]:
    """Return tools for a template, or none if they exceed the limits; the prompt then only counts as shorter."""
    try:
        fitted = await fit_request({"tools": list(tools)}, CHAT, context=context, lenient=True)
    except (InvalidRequest, Unavailable):
        return ()
    found = fitted["tools"]
    return found if isinstance(found, list) else ()


def answer_count(fitted: Mapping[str, object]) -> int:
    """Return how many answers to each prompt a fitted request asks for."""
    count = fitted.get("n")
    return count if isinstance(count, int) else 1


def single_requests(fitted: dict[str, object]) -> list[dict[str, object]]:
    """Split a fitted request into one for each answer (`n` for each prompt), in the order of their indexes."""
    count, seed = answer_count(fitted), fitted.get("seed")
    singles = [{**fitted, "prompt": one} for one in split_prompts(fitted["prompt"])] if "prompt" in fitted else [fitted]
    if count == 1:
        return singles
    bare = [{name: value for name, value in single.items() if name != "n"} for single in singles]
    return [
        {**single, "seed": seed + number} if isinstance(seed, int) else single
        for single in bare
        for number in range(count)
    ]


def _fit_tools(tools: list[object]) -> list[FunctionTool]:
    if len(tools) > _MAX_TOOLS:
        raise _invalid("tools", f"an array of {len(tools)}", f"an array of at most {_MAX_TOOLS} functions")
    return [_fit_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]


def _fit_tool(tool: object, param: str) -> FunctionTool:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise _invalid(param, _excerpt(tool), "`{'type': 'function', 'function': {…}}`")
    name, described = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_TEXT:
        raise _invalid(f"{param}.function.name", _excerpt(name), f"a string of 1 to {_MAX_TEXT} characters")
    if not isinstance(described, str):
        raise _invalid(f"{param}.function.description", _excerpt(described), "a string")
    fitted: FunctionSpec = {"name": name, "description": described, "parameters": function.get("parameters") or {}}
    return {"type": "function", "function": fitted}


def _fit_format(wanted: dict[str, object]) -> ResponseFormat:
    kind = wanted.get("type")
    if kind in ("text", "json_object") and "schema" not in wanted:
        return {"type": str(kind)}
    described = wanted.get("json_schema") if kind == "json_schema" else {"schema": wanted.get("schema")}
    if kind not in ("json_schema", "json_object") or not isinstance(described, dict):
        raise _invalid("response_format", _excerpt(wanted), "an object of type `text`, `json_object` or `json_schema`")
    name = described.get("name")
    named: SchemaFormat = {"name": name} if isinstance(name, str) else {}
    return {"type": "json_schema", "json_schema": {**named, "strict": True, "schema": described.get("schema", {})}}


async def _bound_schemas(tools: Sequence[FunctionTool], described: SchemaFormat | None, *, lenient: bool) -> None:
    """Replace the schemas of the functions and of the format with ones that llama.cpp accepts."""
    functions = [tool["function"] for tool in tools]
    schemas = [function["parameters"] for function in functions]
    if described is not None:
        schemas.append(described["schema"])
    try:
        bounded = await bounded_schemas(schemas)
    except BudgetExceeded as error:
        message = f"The schemas could not be checked now: {error.message} Try again in a moment."
        raise Unavailable(message, headers={"Retry-After": "5"}) from error
    free: JsonSchema = {"type": "object"}
    for index, (function, found) in enumerate(zip(functions, bounded, strict=False)):
        if "refused" in found and not lenient:
            raise InvalidRequest(
                f"Invalid schema for function '{function['name']}': {found['refused']} {_SCHEMA_ADVICE}",
                param=f"tools[{index}].function.parameters",
                code="invalid_function_parameters",
            )
        function["parameters"] = found.get("schema", free)
    if described is not None:
        if "refused" in bounded[-1]:
            raise InvalidRequest(
                f"Invalid schema for response_format: {bounded[-1]['refused']} {_SCHEMA_ADVICE}",
                param="response_format",
                code="invalid_json_schema",
            )
        described["schema"] = bounded[-1]["schema"]


# --- parameters -------------------------------------------------------------------------------------------------------


def _number(minimum: float, maximum: float) -> Check:
    def check(name: str, value: object) -> float:
        if not is_number(value) or not math.isfinite(value) or not minimum <= value <= maximum:
            raise _invalid(name, _excerpt(value), f"a number from {minimum:g} to {maximum:g}")
        return value

    return check


def _integer(minimum: int, maximum: float, expected: str = "") -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not minimum <= value <= maximum:
            raise _invalid(name, _excerpt(value), expected or f"an integer from {minimum} to {maximum}")
        return value

    return check


_tokens: Final = _integer(-1, math.inf, "an integer of at least 0, or -1 for no limit")


def _seed(name: str, value: object) -> object:
    if type(value) is not int:
        raise _invalid(name, _excerpt(value), "an integer")
    return value & 0xFFFF_FFFF  # llama.cpp has 32 bits, OpenAI 64


def _boolean(name: str, value: object) -> object:
    if type(value) is not bool:
        raise _invalid(name, _excerpt(value), "a boolean")
    return value


def _word(name: str, value: object) -> object:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _invalid(name, _excerpt(value), f"a string of at most {_MAX_TEXT} characters")
    return value


def _object(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _invalid(name, _excerpt(value), "an object")
    return value


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise _invalid(name, _excerpt(value), "an array")
    return value


def _model(name: str, value: object) -> object:
    if not isinstance(value, str):
        raise _invalid(name, _excerpt(value), "a string")
    return value


def _stop(name: str, value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS:
        found = f"an array of {len(stops)}" if isinstance(stops, list) else _excerpt(value)
        raise _invalid(name, found, f"a string or an array of at most {_MAX_STOPS} strings")
    for stop in stops:
        if not isinstance(stop, str) or len(stop) > _MAX_STOP_CHARS:
            raise _invalid(name, _excerpt(stop), f"a string of at most {_MAX_STOP_CHARS} characters")
    return [stop for stop in stops if stop]


def _logit_bias(name: str, value: object) -> object:
    """OpenAI's object of tokens and numbers, or llama.cpp's list of pairs."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or len(pairs) > _MAX_BIASES:
        raise _invalid(name, _excerpt(value), f"an object of at most {_MAX_BIASES} tokens")
    for pair in pairs:
        token, bias = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (None, None)
        is_token = (isinstance(token, str) and len(token) <= 64) or (type(token) is int and 0 <= token < 2**31)
        if not is_token or not (bias is False or _is_within(bias, 100)):
            raise _invalid(name, _excerpt(pair), "a token with a number from -100 to 100")
    return value


def _is_within(value: object, maximum: float) -> bool:
    return is_number(value) and -maximum <= value <= maximum


def _stream_options(name: str, value: object) -> object:
    wanted = _object(name, value).get("include_usage")
    return {} if wanted is None else {"include_usage": _boolean(f"{name}.include_usage", wanted)}


def _tool_choice(name: str, value: object) -> object:
    if value in ("none", "auto", "required") or isinstance(value, dict):
        return value
    raise _invalid(name, _excerpt(value), "`none`, `auto`, `required` or an object")


def _reasoning_format(name: str, value: object) -> object:
    if value not in _REASONING_FORMATS:
        raise _invalid(name, _excerpt(value), f"one of {', '.join(_REASONING_FORMATS)}")
    return value


def _logprobs(name: str, value: object) -> object:
    """A boolean for a chat completion, a number for a text completion."""
    return value if type(value) is bool else _integer(0, _MAX_PROBABILITIES)(name, value)


def _modalities(name: str, value: object) -> object:
    if value != ["text"]:
        raise _invalid(name, _excerpt(value), '["text"], the only output that the engine produces')
    return value


def _template_values(name: str, value: object) -> object:
    """Switches of a model's template, such as Qwen's `enable_thinking`: scalars only, because a template can loop over
    its input."""
    switches = _object(name, value)
    if len(switches) > _MAX_KWARGS:
        raise _invalid(name, f"an object of {len(switches)} values", f"an object of at most {_MAX_KWARGS} values")
    for key, each in switches.items():
        is_text = isinstance(each, str) and len(each) <= _MAX_TEXT
        is_number = type(each) is int and abs(each) <= 10**6
        if len(key) > _MAX_TEXT or not (is_text or is_number or isinstance(each, bool)):
            raise _invalid(
                f"{name}.{key[:40]}",
                _excerpt(each),
                f"a boolean, an integer up to ±10^6 or a string of at most {_MAX_TEXT} characters",
            )
    return switches


_GRAMMARS: Final = ("grammar", "grammar_lazy", "grammar_triggers", "json_schema")
_SAMPLING: Final[dict[str, Check]] = {
    "cache_prompt": _boolean,
    "dry_allowed_length": _integer(0, 10_000),
    "dry_base": _number(1, 10),
    "dry_multiplier": _number(0, 10),
    "dry_penalty_last_n": _integer(-1, 10_000),
    "frequency_penalty": _number(-2, 2),
    "ignore_eos": _boolean,
    "logit_bias": _logit_bias,
    "logprobs": _logprobs,
    "max_completion_tokens": _tokens,
    "max_tokens": _tokens,
    "min_p": _number(0, 1),
    "mirostat": _integer(0, 2),
    "mirostat_eta": _number(0, 1),
    "mirostat_tau": _number(0, 20),
    "model": _model,
    "n": _integer(1, 8),
    "n_predict": _tokens,
    "n_probs": _integer(0, _MAX_PROBABILITIES),
    "presence_penalty": _number(-2, 2),
    "repeat_last_n": _integer(-1, 10_000),
    "repeat_penalty": _number(0.01, 10),
    "seed": _seed,
    "stop": _stop,
    "stream": _boolean,
    "stream_options": _stream_options,
    "temperature": _number(0, 100),
    "timings_per_token": _boolean,
    "top_k": _integer(-1, 1_000_000),
    "top_p": _number(0, 1),
    "typical_p": _number(0, 1),
}
_CHECKS: Final[dict[str, Check]] = {
    **_SAMPLING,
    "chat_template_kwargs": _template_values,
    "messages": fit_messages,
    "modalities": _modalities,
    "parallel_tool_calls": _boolean,
    "reasoning_effort": _word,
    "reasoning_format": _reasoning_format,
    "response_format": _object,
    "tool_choice": _tool_choice,
    "tools": _list,
    "top_logprobs": _integer(0, _MAX_PROBABILITIES),
}
_COMPLETION_CHECKS: Final[dict[str, Check]] = {
    **_SAMPLING,
    "best_of": _integer(1, 1),
    "echo": _boolean,
    "prompt": fit_prompt_text,
    "suffix": _word,
}


def _invalid(param: str, found: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': it is {found}, but must be {expected}.", param=param, code="invalid_value"
    )


def _excerpt(value: object) -> str:
    match value:
        case dict() | list():
            return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
        case str() if len(value) > _SHOWN_CHARS:
            return f"'{value[:_SHOWN_CHARS]}…' ({len(value)} characters)"
        case str():
            return f"'{value}'"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:_SHOWN_CHARS]
