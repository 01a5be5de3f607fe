"""What is one model call? Model lookup, context, the reply stream and the pass-through to the upstream."""

from chains.builtin import Builtin
from chains.calls import ToolCalls
from chains.chat import ChatInput, build_chat_chain
from chains.context import Prompt, build_prompt
from chains.embedding_router import EmbeddingRouter
from chains.endpoint import Endpoint, parse_endpoint
from chains.engine import Shape
from chains.members import build_member
from chains.model_router import Member, ModelRouter
from chains.passage import Passage
from chains.prompts import Prompts
from chains.provider import Provider
from chains.reply import Replies, chat_model
from chains.reply_call import ReplyCall
from chains.retries import RetryPolicy
from chains.tokens import Calibration
from chains.transport import CallLimits
from chains.upstream import Upstream

__all__ = [
    "Builtin",
    "Calibration",
    "CallLimits",
    "ChatInput",
    "EmbeddingRouter",
    "Endpoint",
    "Member",
    "ModelRouter",
    "Passage",
    "Prompt",
    "Prompts",
    "Provider",
    "Replies",
    "ReplyCall",
    "RetryPolicy",
    "Shape",
    "ToolCalls",
    "Upstream",
    "build_chat_chain",
    "build_member",
    "build_prompt",
    "chat_model",
    "parse_endpoint",
]
