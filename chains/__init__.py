"""What is one model call? Model lookup, context, the reply stream and the pass-through to the upstream."""

from chains.builtin import Builtin
from chains.calls import ToolCalls
from chains.chat import ChatInput, build_chat_chain
from chains.context import Prompt, build_prompt
from chains.embedding_router import EmbeddingRouter
from chains.endpoint import Endpoint, parse_endpoint
from chains.engine import EngineConfig
from chains.model_router import ModelRouter, RoutedUpstream
from chains.named_upstreams import build_upstream
from chains.prompts import Prompts
from chains.provider import Provider
from chains.reply import OpenAIBackend, chat_model
from chains.reply_call import ReplyCall
from chains.retries import RetryPolicy
from chains.tokens import Calibration
from chains.transport import CallLimits
from chains.upstream import Upstream
from chains.upstream_response import UpstreamResponse

__all__ = [
    "Builtin",
    "Calibration",
    "CallLimits",
    "ChatInput",
    "EmbeddingRouter",
    "Endpoint",
    "EngineConfig",
    "ModelRouter",
    "OpenAIBackend",
    "Prompt",
    "Prompts",
    "Provider",
    "ReplyCall",
    "RetryPolicy",
    "RoutedUpstream",
    "ToolCalls",
    "Upstream",
    "UpstreamResponse",
    "build_chat_chain",
    "build_prompt",
    "build_upstream",
    "chat_model",
    "parse_endpoint",
]
