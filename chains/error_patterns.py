"""Patterns of servers' error messages, for `chains.error_responses`. Pure."""

import re
from typing import Final

__all__ = [
    "CERTAINLY_ROLES",
    "FINAL",
    "LACKS_VISION",
    "MALFORMED",
    "MALFORMED_CODES",
    "NOT_THE_FORM",
    "NOT_THE_FORM_CODES",
    "OF_THE_REQUEST",
    "OVERFLOW",
    "OVERFLOW_CODES",
    "ROLES",
    "UNREADABLE",
]

OVERFLOW_CODES: Final = {"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"}
# Known messages, with the groups `limit`, `used`, `answer` (tokens reserved for the answer) if they state them.
OVERFLOW: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # OpenAI, llama-cpp-python, vLLM until 2025, DeepSeek
        r"maximum context length (?:is|of) (?P<limit>[\d,]+) tokens.*?requested (?:about )?[\d,]+ tokens"
        r" \((?P<used>[\d,]+) (?:in|of)[^,;]*[,;] (?P<answer>[\d,]+|None)",
        # vLLM since 2026
        r"max(?:_completion)?_tokens.*?too large: (?P<answer>[\d,]+).*?maximum context length is"
        r" (?P<limit>[\d,]+) tokens.*?has (?P<used>[\d,]+) input tokens",
        r"maximum context length is (?P<limit>[\d,]+) tokens.*?(?:has|contains)(?: at least)? (?P<used>[\d,]+)"
        r" input tokens(?: plus (?P<answer>[\d,]+))?",
        # vLLM, prompt and answer together
        r"maximum context length is (?P<limit>[\d,]+) tokens.*?requested (?P<answer>[\d,]+) output tokens.*?"
        r"(?P<used>[\d,]+) input tokens",
        r"maximum context length (?:is|of) (?P<limit>[\d,]+) tokens.*?(?:resulted in|requested)(?: about)?"
        r" (?P<used>[\d,]+) tokens",
        r"exceed(?:s)? the configured limit of (?P<limit>[\d,]+) tokens.*?resulted in (?P<used>[\d,]+)",
        # llama.cpp, current and older
        r"request \((?P<used>[\d,]+) tokens\) exceeds the available context size \((?P<limit>[\d,]+) tokens\)",
        r"exceeds? the available context size",
        # llama-cpp-python
        r"requested tokens \((?P<used>[\d,]+)\) exceed context window of (?P<limit>[\d,]+)",
        # LM Studio, several versions
        r"trying to keep the first (?P<used>[\d,]+) tokens when.*?context.*?context length of only (?P<limit>[\d,]+)",
        r"n_keep:?\s*\(?(?P<used>\d+)\)?\s*>=\s*n_ctx:?\s*\(?(?P<limit>\d+)",
        r"tokens to keep from the initial prompt is greater than the context length",
        r"input length (?P<used>[\d,]+) exceeds context length (?P<limit>[\d,]+)",
        # Ollama
        r"input length exceeds (?:the |maximum )?context length",
        r"prompt (?:is )?too long[^\d]*(?P<used>[\d,]+) tokens > (?P<limit>[\d,]+) maximum",
        # SGLang, TGI, Mistral, Gemini, Anthropic's compatible endpoint
        r"input \((?P<used>[\d,]+) tokens\) is longer than the model's context length \((?P<limit>[\d,]+)",
        r"`inputs` must have less than (?P<limit>[\d,]+) tokens\. Given: (?P<used>[\d,]+)",
        r"max_new_tokens` must be <= (?P<limit>[\d,]+)\. Given: (?P<used>[\d,]+) `inputs`[^\d]*(?P<answer>[\d,]+)",
        r"prompt contains (?P<used>[\d,]+) tokens.*?model with (?P<limit>[\d,]+) maximum context",
        r"input token count \((?P<used>[\d,]+)\) exceeds the maximum number of tokens allowed \((?P<limit>[\d,]+)",
        r"exceed context limit: (?P<used>[\d,]+) \+ (?P<answer>[\d,]+) > (?P<limit>[\d,]+)",
        # any server, without numbers
        r"(?:exceed\w*|(?:longer|larger|greater) than|too long for) (?:the )?(?:model'?s? )?(?:maximum |available )?"
        r"context (?:length|window|size|limit)",
        r"maximum context length|context (?:length|window) (?:is )?exceeded|prompt is too long",
    )
)

# The model's tool call cannot be parsed by its own server. llama.cpp ("peg-native", "hermes 2 pro" …), Groq, Ollama
# (JSON, and the XML of Qwen's coders), vLLM and SGLang (gpt-oss among them), LM Studio, and similar messages of others.
_CALL: Final = r"(?:tool|function)[ _-]?(?:call|us(?:e|age)|arg)(?!\w*[ _-]?ids?\b)\w*"
_FAILS: Final = (
    r"(?:fail\w*|error|could ?n[o']t|cannot|can't|unable|invalid|malformed|unparsable|un(?:able|expected)|incomplete)"
)
MALFORMED: Final = re.compile(
    r"output that does not match the expected .{0,40}\bformat\b|failed to call a function|failed_generation"
    rf"|{_FAILS}\b[^.;]{{0,40}}\b(?:pars|decod|deserializ|generat|extract|read)\w*\b[^.;]{{0,40}}\b{_CALL}"
    rf"|{_FAILS}[^.;]{{0,10}}\b{_CALL}\b|\bnot (?:a )?valid\b[^.;]{{0,20}}\b{_CALL}\b"
    rf"|\b{_CALL}\b[^.;]{{0,20}}\b(?:generat|pars|decod)\w* (?:fail|error)"
    rf"|(?:工具|函数)调用.{{0,20}}(?:解析|无效|失败)"
    rf"|\b{_CALL}\b[^.;]{{0,40}}\b(?:{_FAILS}|not valid)\b.{{0,40}}"
    r"\b(?:pars|json|decod|syntax|generat|validat|schema)"
    r"|(?:model|generated?)\b.{0,60}\boutput\b.{0,40}\b(?:could not|cannot|can't|failed to) be parsed"
    rf"|{_FAILS}[^.;]{{0,20}}\bpars\w*[^.;]{{0,30}}\b(?:model(?:'s)? (?:output|response|reply)|generat\w*|completion)\b"
    r"|model called a tool|xml syntax error|harmonyerror|unexpected tokens remaining in message header"
    r"|attempted to call (?:a )?(?:tool|function)\b.{0,80}\bnot in\b",
    re.IGNORECASE,
)
# Errors of a JSON parser. With status 400 they may be about the request; a server that fails has already parsed that.
UNREADABLE: Final = re.compile(
    r"\bjson\b.{0,40}(?:invalid|unexpected|parse|unmarshal|decode)"
    r"|(?:invalid|unexpected|parse|unmarshal|decode)\w*.{0,40}\bjson"
    r"|JSONDecodeError|invalid character .{0,10} looking for|expecting .{0,30} (?:delimiter|value)\b"
    r"|unterminated string|\bEOF while parsing|find closing '\}'|tool[ _]?parser",
    re.IGNORECASE,
)
MALFORMED_CODES: Final = {"tool_use_failed", "output_parse_failed", "tool_call_parse_error", "malformed_function_call"}
OF_THE_REQUEST: Final = re.compile(r"\b(?:messages|tools)(?:\[|\.\d|\.\[)", re.IGNORECASE)
"""Matches a path into the request: such a refusal is not about what the model wrote."""

# llama.cpp and Ollama (with status 500), vLLM, OpenAI, LM Studio: the model does not support pictures.
LACKS_VISION: Final = re.compile(
    r"image input is not supported|is not a multimodal model|image_url is only supported by certain models|"
    r"missing data required for image input|does not support (?:images?|vision|multimodal)",
    re.IGNORECASE,
)


# A filtered prompt, or a problem with the key, the account or the model: no other form of the request would help.
NOT_THE_FORM: Final = re.compile(
    r"content[ _-]?(?:management )?(?:policy|filter)|\bmoderation\b|\bflagged\b|\bsafety\b|\binappropriate\b"
    r"|\bharmful\b|\bapi[ _-]?key\b|\bauthenticat|\bunauthori[sz]ed\b|\bquota\b|\bbilling\b|\bbalance\b|\bcredits?\b"
    r"|\brate[ _-]limit"
    r"|\bmodel\b[^.;]{0,60}\b(?:not exist|not found|no access)\b"
    r"|\b(?:unknown|invalid|no such|not (?:know|find|serve)|access to) (?:the |this )?model\b"
    r"|敏感|不安全|违规|余额|欠费|模型不存在",
    re.IGNORECASE | re.ASCII,
)
NOT_THE_FORM_CODES: Final = {
    "content_filter",
    "content_policy_violation",
    "data_inspection_failed",
    "DataInspectionFailed",
    "Arrearage",
} | {"insufficient_quota", "invalid_api_key", "model_not_found", "ResponsibleAIPolicyViolation"}
CERTAINLY_ROLES: Final = re.compile(
    r"\broles?\b|alternat|interleav|\bjinja\b|chat[_ ]template|consecutive|successive|角色|交替",
    re.IGNORECASE | re.ASCII,
)

# Permanent refusals that some servers send with status 500.
FINAL: Final = re.compile(
    r"unexpected keyword argument|extra inputs are not permitted|roles? (?:must|should)|roles are supported"
    r"|not supported|\bjinja\b|chat[_ ]template|(?:unexpected|invalid|unknown) (?:message )?role\b",
    re.IGNORECASE,
)

# Terms for roles and turns in several languages: the rest of the message differs between servers.
ROLES: Final = re.compile(
    r"\broles?\b|\b(?:system|developer|assistant)\b|system_(?:prompt|message|instruction)|alternat|interleav|multiturn"
    r"|\b(?:successive|consecutive|adjacent)\b|\bin a row\b|\bturns?\b"
    r"|\b(?:first|last|final|previous) (?:\w+ )?messages?\b"
    r"|\buser(?:'s)? (?:or \w+ )?messages?\b|\bmessages?\b.{0,40}\buser\b|[`'\"]user[`'\"]|\btool messages?\b"
    r"|\bjinja\b|chat[_ ]template|角色|роль|役割|역할|交替|交互|连续|連続|번갈아|연속"
    r"|[首末最]一?[后後]?一?[条條]|第一[条條]|(?:系统|系統|用户|助手)(?:消息|提示|指令)"
    r"|システム(?:メッセージ|プロンプト)|시스템 ?(?:메시지|프롬프트)|системн",
    re.IGNORECASE | re.ASCII,  # names adjoin Chinese text
)
