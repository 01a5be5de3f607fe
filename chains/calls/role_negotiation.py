"""Converts prompts whose roles or order of roles a server refuses, and sends them again.

Invariants: a prompt is sent unchanged until its server refuses it. The smallest conversion is tried first.
If none helps, the first refusal is reported. A conversion is remembered for prompts with all the traits of a refused
prompt (see `traits`); other prompts never change, and prompts with traits that were accepted are never converted.
"""

import logging
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains.calls.plain import alternating_turns, fold_system, merge_turns, plain_messages, side
from chains.error_responses import ErrorResponse, error_response_of
from chains.model_facts import ModelFacts
from chains.prompts import Prompts
from chains.refused_fields import OTHER_STATUSES
from chains.reply_call import Ask, ReplyCall
from wire.errors import MalformedCall, PromptRefused, RunError, UpstreamFailed

__all__ = ["RoleNegotiator", "RoleSupport", "traits"]

SYSTEM: Final = 1
"""The prompt has a system message."""
REPEATS: Final = 2
"""Two consecutive messages have the same role."""
NOT_THE_USER_FIRST: Final = 4
ASSISTANT_LAST: Final = 8
CALLS: Final = 16
"""The prompt has tool calls and their outputs."""
_UNUSUAL: Final = REPEATS | NOT_THE_USER_FIRST | ASSISTANT_LAST

_ABOUT_SYSTEM: Final = re.compile(r"system|developer|only user|系统|系統|システム|시스템", re.IGNORECASE)
_ABOUT_ORDER: Final = re.compile(
    r"alternat|interleav|successive|consecutive|optional|in a row|\blast\b|交替|交互|连续|連続", re.IGNORECASE
)
# Outages mention "system", too ("the system is overloaded"), so a failure needs a stronger sign than a refusal.
_TEMPLATE: Final = re.compile(
    r"\broles?\b|alternat|interleav|jinja|chat[_ ]template|\bin a row\b|consecutive|successive"
    r"|\b(?:system|developer|user|assistant|tool|first|last) (?:roles?|messages?|prompts?|turns?)\b|角色|交替",
    re.IGNORECASE | re.ASCII,
)

Conversion: TypeAlias = Callable[[Sequence[BaseMessage], Prompts], list[BaseMessage]]

_CONVERSIONS: Final[tuple[Conversion, ...]] = (
    lambda messages, _: list(messages),
    lambda messages, _: merge_turns(messages),
    lambda messages, _: alternating_turns(messages),
    lambda messages, _: fold_system(messages),
    lambda messages, _: alternating_turns(fold_system(messages)),
    lambda messages, prompts: alternating_turns(plain_messages(messages, prompts)),
    lambda messages, prompts: alternating_turns(fold_system(plain_messages(messages, prompts))),
)
"""From the unchanged prompt to the plainest."""
_DESCRIPTIONS: Final = (
    "unchanged",
    "with consecutive messages of one role joined",
    "with the user first and last",
    "with the instructions in the first user turn",
    "with the instructions in the first user turn and the user last",
    "with calls and outputs as text",
    "with the instructions in the first user turn, and calls and outputs as text",
)
_ORDER_FIRST: Final = (1, 2, 4, 5, 6)
_SYSTEM_FIRST: Final = (3, 4, 1, 2, 5, 6)

_log = logging.getLogger("threadhold.chains")


def traits(messages: Sequence[BaseMessage]) -> int:
    """Return the traits of a prompt that some servers refuse, as a sum of this module's constants."""
    found, last, is_first = 0, "", True
    for message in messages:
        if isinstance(message, SystemMessage):
            found |= SYSTEM if last != "system" else REPEATS
            last = "system"
            continue
        if is_first and not isinstance(message, HumanMessage):
            found |= NOT_THE_USER_FIRST
        is_first = False
        if isinstance(message, ToolMessage):
            found |= CALLS
            last = ""
            continue
        role = str(message.type)
        if role == last:
            found |= REPEATS
        last = side(message)
    if is_first:
        return found | NOT_THE_USER_FIRST
    return found | ASSISTANT_LAST if last == "ai" else found


@dataclass(slots=True)
class RoleSupport:
    """What is known about one model: the accepted traits, and the conversions of prompts that were refused."""

    conversions: dict[int, int] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)

    def conversion(self, kind: int) -> int:
        """Return the conversion for prompts with these traits: the strongest that any subset of them needs."""
        if not self.conversions or kind in self.accepted:
            return 0
        return max((each for known, each in self.conversions.items() if known & kind == known), default=0)


class _Attempts:
    """The attempts of one request; `messages` is the next prompt to send."""

    def __init__(self, role_support: RoleSupport, call: ReplyCall, prompts: Prompts) -> None:
        self.call = call
        self.first: RunError | None = None
        self._role_support = role_support
        self._prompts = prompts
        self._kind = traits(call.messages)
        self._conversion = role_support.conversion(self._kind)
        self._left: list[int] | None = None
        self._refused: list[int] = []
        self._was_repeated = False
        self.messages = _CONVERSIONS[self._conversion](call.messages, prompts) if self._conversion else call.messages

    def choose_next(self, error: RunError) -> bool:
        """Choose the next conversion after a refusal; return whether there was one."""
        if isinstance(error, MalformedCall):
            self._was_repeated, was_repeated = True, self._was_repeated
            return not was_repeated
        if not self._is_about_prompt(error):
            return False
        self.first = self.first or error
        self._refused.append(traits(self.messages))
        if self._left is None:
            self._left = self._conversions_to_try(_error_response(error))
        while self._left:
            self._conversion = self._left.pop(0)
            messages = _CONVERSIONS[self._conversion](self.call.messages, self._prompts)
            if messages not in (self.messages, self.call.messages):
                self.messages = messages
                return True
        return False

    def record_success(self) -> None:
        """Remember that the server accepted the prompt after its last conversion."""
        if not self._refused:
            if not self._conversion:
                self._role_support.accepted.add(self._kind)
            return
        doubtful = self._role_support.accepted.intersection(self._refused)
        for kind in set(self._refused) - doubtful:
            self._role_support.conversions[kind] = max(self._conversion, self._role_support.conversions.get(kind, 0))
        # If prompts with these traits were accepted before, the reason may be another: only a second refusal counts.
        self._role_support.accepted -= doubtful
        self._role_support.accepted.add(traits(self.messages))
        _log.info(
            "model `%s`: its server refuses this order of roles; sending the prompt %s",
            self.call.model,
            _DESCRIPTIONS[self._conversion],
        )

    def _is_about_prompt(self, error: RunError) -> bool:
        if self.first is None and not self._can_be_about_roles(error):
            return False
        return isinstance(error, PromptRefused) or _of_a_template(error)

    def _can_be_about_roles(self, error: RunError) -> bool:
        """Whether a first refusal can be about roles: it names them, or the prompt has an unusual order."""
        error_response = _error_response(error)
        if not error_response.is_about_form or error.kind not in ("refused", "failed"):
            return False
        return error_response.names_roles or bool(self._kind & _UNUSUAL and not self._conversion)

    def _conversions_to_try(self, error_response: ErrorResponse) -> list[int]:
        if not error_response.names_roles:
            return [2]
        about_system = _ABOUT_SYSTEM.search(error_response.full) and not _ABOUT_ORDER.search(error_response.full)
        return [each for each in (_SYSTEM_FIRST if about_system else _ORDER_FIRST) if each != self._conversion]


class RoleNegotiator:
    """Makes requests to one upstream, and remembers which prompts its models accept."""

    def __init__(self, ask: Ask, prompts: Prompts, role_support: ModelFacts[RoleSupport] | None = None) -> None:
        """`role_support`, by model, can be shared with other objects."""
        self._ask = ask
        self._prompts = prompts
        self._role_support: ModelFacts[RoleSupport] = ModelFacts() if role_support is None else role_support

    async def ask(self, call: ReplyCall, *, once: bool = False) -> AsyncGenerator[AIMessageChunk]:
        """Make one request; convert and repeat it if its server refuses the roles.

        If the server could not parse its model's call, the request is repeated once, unless `once`.

        Raises:
            RunError: the first refusal if no conversion helps, else the last error.
        """
        role_support = self._role_support.get(call.model)
        if role_support is None:
            role_support = self._role_support[call.model] = RoleSupport()
        attempts = _Attempts(role_support, call, self._prompts)
        while True:
            started = False
            request = call if attempts.messages is call.messages else replace(call, messages=attempts.messages)
            try:
                async with aclosing(self._ask(request)) as chunks:
                    async for chunk in chunks:
                        started = True
                        yield chunk
                attempts.record_success()
                return
            except (PromptRefused, UpstreamFailed) as error:
                if started or (once and isinstance(error, MalformedCall)) or not attempts.choose_next(error):
                    raise _reported(attempts, error) from error


def _reported(attempts: _Attempts, error: RunError) -> RunError:
    """Return the first refusal, unless the last error has another cause, such as the network or the load."""
    is_refusal = error.kind in ("refused", "failed") and _error_response(error).status not in OTHER_STATUSES
    return attempts.first if attempts.first is not None and is_refusal else error


def _of_a_template(error: RunError) -> bool:
    """Whether a failure is a chat template's exception, which some servers report with status 500."""
    return _TEMPLATE.search(_error_response(error).full) is not None


def _error_response(error: RunError) -> ErrorResponse:
    """Return the server's refusal, even if its status is unknown."""
    error_response = error_response_of(error)
    return (
        error_response
        if error_response is not None
        else ErrorResponse(error.quote or error.message, full=error.quote or error.message)
    )
