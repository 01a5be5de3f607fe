"""One request whose upstream may refuse some of its fields: the request is sent again without them.

Invariants: each field is dropped at most once. A dropped field is remembered for the model and one owner, and only
after the server has accepted the request without it. The refusal that is reported was not caused by a change made here.
"""

import logging
from typing import Final, TypeAlias

from chains.error_responses import ErrorResponse, unquoted
from chains.model_facts import ModelFacts
from chains.quotes import RequestText
from chains.refused_fields import find_request_changes
from chains.request_changes import LIMITS, RequestChange, apply_changes
from fairness.fair_limits import COMPARING
from telemetry.context import current_owner

__all__ = ["Known", "Negotiation"]

_MAX_KEPT: Final = 32
_MAX_TRIES: Final = 8

_log = logging.getLogger("threadhold.chains")

Known: TypeAlias = ModelFacts[tuple[RequestChange, ...]]
"""The changes that an upstream's models need, by model."""


class Negotiation:
    """One request's changes: call `applied` before each try, `drop_refused` after a refusal, and `record_success`."""

    def __init__(self, known: Known, model: str) -> None:
        self._known = known
        self._model = model
        self._changes: list[RequestChange] = []
        self._sent: dict[str, object] = {}
        self._more_texts: object = ()
        self._first: ErrorResponse | None = None
        self._tries = 0

    def applied(self, body: dict[str, object], more_texts: object = ()) -> dict[str, object]:
        """Return the body to send, with the changes known for the model and those of this request.

        `more_texts` are the texts that are sent in addition to the body, in lists and dicts.
        """
        self._more_texts = more_texts
        self._sent = apply_changes(body, (*self._known.get(self._model, ()), *self._changes))
        return self._sent

    async def drop_refused(self, error_response: ErrorResponse) -> bool:
        """Drop the fields that a refusal names. Returns False if there is nothing to drop."""
        self._tries += 1
        if (
            error_response.overflow
            or error_response.malformed
            or error_response.lacks_vision
            or self._tries > _MAX_TRIES
        ):
            return False
        found = await COMPARING.run(
            current_owner(), self._find, error_response
        )  # request and refusal can have megabytes
        fresh = [change for change in found if change not in self._changes and not self._is_reversal(change)]
        if self._first is None or fresh:
            self._first = error_response
        self._changes += fresh
        return bool(fresh)

    def _find(self, error_response: ErrorResponse) -> list[RequestChange]:
        sent = RequestText(self._sent, self._more_texts)
        return find_request_changes(
            self._sent,
            sent,
            paths=error_response.paths,
            text=error_response.full,
            status=error_response.status,
            code=error_response.code,
        )

    async def error_to_report(self, error_response: ErrorResponse) -> ErrorResponse:
        """Return the error to report after `drop_refused` returned False."""
        return await self.trusted(self._caused_by_change(error_response))

    async def trusted(self, error_response: ErrorResponse) -> ErrorResponse:
        """Return the error; if its limit is a quotation from the request, without the limit."""
        if error_response.limit_at is None:
            return error_response
        return await COMPARING.run(current_owner(), self._unquoted, error_response)

    def _unquoted(self, error_response: ErrorResponse) -> ErrorResponse:
        return unquoted(error_response, RequestText(self._sent, self._more_texts))

    def _caused_by_change(self, error_response: ErrorResponse) -> ErrorResponse:
        named = {change.name for change in self._changes}
        swapped = named | {LIMITS[name] for name in named if name in LIMITS}
        is_caused = any(name in error_response.full for name in swapped) and self._first is not None
        return self._first if is_caused and self._first is not None else error_response

    def record_success(self) -> None:
        """Remember this request's changes for its model, and log them once."""
        if not self._changes:
            return
        known = [change for change in self._known.get(self._model, ()) if not self._is_reversal(change)]
        fresh = [change for change in self._changes if change not in known]
        self._known[self._model] = tuple([*known, *fresh][-_MAX_KEPT:])
        self._changes = []
        names = ", ".join(dict.fromkeys(change.label for change in fresh))
        _log.info("model `%s`: its server refuses %s; later requests omit or replace it", self._model, names)

    def _is_reversal(self, change: RequestChange) -> bool:
        """Whether a change would undo one of this request's own."""
        return change.place == "limit" and any(
            own.place == "limit" and own.name == LIMITS[change.name] for own in self._changes
        )
