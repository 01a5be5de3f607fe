"""Validates stream data: one payload in, one chunk in exactly OpenAI's shape out, or a run error. Pure.

LangChain receives only chunks that are built here, never an upstream's own objects. Tool calls get unique indexes, and
their id and name once. A whole completion (from an upstream that ignores `stream`) becomes one chunk. Reasoning is
moved from the content to `reasoning_content` (see `chains.reasoning`).
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import orjson

from chains.chat_types import CallDelta, CallFunction, Chunk, ChunkChoice, Delta, Sent, TokenCounts
from chains.delta_template import DeltaTemplate
from chains.error_responses import explain, quoted, read_error_response, unquoted
from chains.extra_fields import EXTRA_FIELDS, ExtraFields
from chains.fragments import CallFragments, Fragment, Piece
from chains.quotes import RequestText
from chains.reasoning import ReasoningParser, Split
from chains.surrogates import SurrogatePairs
from wire.errors import RunError, UpstreamFailed

__all__ = ["MAX_TOGETHER", "AnyChunk", "ChunkReader", "TextChunk", "split_chunk"]

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_MAX_TOKENS: Final = 2**40
"""Greater counts are ignored; their sums could be too large to be stored."""

_NOTHING: Final = {"role": "assistant", "content": ""}
_REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
_OTHER_CONTENT: Final = ("tool_calls", "function_call", *_REASONING_FIELDS)

_FAILURES: Final = frozenset({"message", "detail", "msg", "error_msg", "errors"})
"""Members of error bodies that have no `error`."""

_PLAIN: Final = frozenset({"role", "content"})

MAX_TOGETHER: Final = 256
"""Maximum texts in one chunk."""


_PIECE: Final = 4096
"""Maximum characters of a text in a chunk of `split_chunk`. A chunk is read without yielding to other tasks."""


class TextChunk(dict[str, list[ChunkChoice]]):
    """A chunk with text only, like nearly all chunks."""


AnyChunk: TypeAlias = Chunk | TextChunk


class ChunkReader:
    """Reads one stream, and keeps its state: whether it has finished, and which tool calls have started."""

    def __init__(
        self,
        *,
        host: str,
        model: str,
        learn_limit: Callable[[str, int], None],
        begins_with_reasoning: bool = False,
        offered: Collection[str] = (),
        extra: ExtraFields | None = None,
        sent: Mapping[str, object] | None = None,
    ) -> None:
        """`learn_limit` is called with (model, tokens) if an overflow error in the stream names the context's length.
        `sent` is the request's body, which that error may quote. `offered` are the names of the functions that the
        request offers. `extra` keeps the fields that go back with calls."""
        self.begins_with_reasoning = begins_with_reasoning
        self._parser = ReasoningParser(begins=begins_with_reasoning)
        self._has_reasoning = False
        self._surrogates = SurrogatePairs()
        self._extra = extra
        self._bare_text = _bare_text if extra is None else _lone_text
        self._template = DeltaTemplate(self._bare_text)
        self._learn_limit = learn_limit
        self._sent = sent
        self.finished = False
        self._host = host
        self._model = model
        self._calls = CallFragments(offered)

    def read(self, payload: bytes) -> AnyChunk | None:
        """Return the chunk in a payload; None if it has no content. Raises RunError for errors and invalid data."""
        read = self._read(payload)
        return _text_chunk(read) if isinstance(read, str) else read

    def read_all(self, payloads: Sequence[bytes]) -> Iterator[AnyChunk]:
        """Yield the chunks of payloads that arrived together. Consecutive texts become one chunk whose content is their
        list, so that each step of the pipeline handles them together. Raises RunError, after the preceding chunks."""
        texts: list[str] = []
        last: Chunk | None = None
        for payload in payloads:
            try:
                read = self._read(payload)
            except RunError:
                yield from _rest(texts, last)
                raise
            if isinstance(read, str):
                if last is not None:
                    yield last
                    last = None
                texts.append(read)
                if len(texts) < MAX_TOGETHER:
                    continue
            if texts:
                yield _text_chunk(texts)
                texts = []
            if isinstance(read, dict):
                last = yield from _merge_usage(last, read)
        yield from _rest(texts, last)

    def _read(self, payload: bytes) -> Chunk | str | None:
        """Parse one payload; return the text itself if there is nothing else, as in nearly every payload."""
        if not self._surrogates.met and (text := self._template.read(payload)) and self._parser.is_plain(text):
            return text
        try:
            data = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            try:
                data = self._surrogates.read(payload)
            except (ValueError, RecursionError):
                raise self._unusable("data that is not JSON", payload) from error
        if not isinstance(data, dict):
            raise self._unusable("data that is no object", payload)
        if data.get("error") or ("choices" not in data and not _FAILURES.isdisjoint(data)):
            raise self._refused(data)
        try:
            return (None if self._surrogates.met else self._plain_text(data, payload)) or self._chunk(data)
        except (TypeError, AttributeError, KeyError, IndexError) as error:
            raise self._unusable("a chunk of the wrong shape", payload) from error

    def _refused(self, data: Sent) -> RunError:
        error_response = read_error_response(data)
        if error_response.limit_at is not None and self._sent is not None:
            error_response = unquoted(error_response, RequestText(self._sent))
        if error_response.overflow and error_response.limit:
            self._learn_limit(self._model, error_response.limit)
        return explain(error_response, host=self._host, model=self._model)

    def _plain_text(self, data: Sent, payload: bytes) -> str | None:
        """Return the text of a chunk that has nothing else; None if that is uncertain, which `_chunk` then decides."""
        text = self._bare_text(data)
        if text is not None:
            self._template.learn(payload, text)
        return text if text is not None and self._parser.is_plain(text) else None

    def _chunk(self, data: Sent) -> Chunk | None:
        usage = self._usage(data.get("usage"))
        choices = data.get("choices") or ()
        choice = next((c for c in choices if c.get("index", 0) in (0, None)), None)
        if choice is None:
            return {"choices": [], "usage": usage} if usage else None
        if choice.get("error"):  # OpenRouter's form if the answer is not streamed
            raise self._refused(choice)
        finish = choice.get("finish_reason")
        sent = choice.get("delta") or {}
        if whole := not sent and bool(choice.get("message")):
            sent = self._unsent(choice["message"])
        if self._surrogates.met:
            sent = self._surrogates.join(sent, ends=bool(finish))
        delta = self._delta(self._text(sent), sent, ends=bool(finish))
        self._add_calls(delta, sent, whole=whole, ends=bool(finish))
        if finish:
            self.finished = True
        elif not usage and delta == _NOTHING:
            return None  # most upstreams begin with a chunk that has only the role
        chunk: Chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": str(finish) if finish else None}]}
        return {**chunk, "model": self._model, "usage": usage} if usage or finish else chunk

    def end(self) -> Chunk:
        """Return the chunk that ends a stream whose upstream sends only an end mark."""
        self.finished = True
        sent = self._surrogates.join({}, ends=True)
        delta = self._delta(sent.get("content", ""), sent, ends=True)
        self._add_calls(delta, {}, whole=False, ends=True)
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}

    def _unsent(self, message: Sent) -> Sent:
        """Return a whole message without the text and the reasoning that were already streamed."""
        if self._extra is not None:
            self._extra.add(message, whole=True)
        gone = [
            *(("content", "refusal") if self._parser.has_text else ()),
            *(_REASONING_FIELDS if self._has_reasoning else ()),
        ]
        return {name: value for name, value in message.items() if name not in gone}

    def _delta(self, content: str, sent: Sent, *, ends: bool) -> Delta:
        """Return a delta with the text, and with the reasoning that has its own field or tags."""
        field = sent.get("reasoning_content") or sent.get("reasoning")
        if not (ends or field) and (not content or self._parser.is_plain(content)):
            return {"role": "assistant", "content": content}
        split = self._parser.feed(content) if content else Split()
        if split.reclassified:
            self.begins_with_reasoning = True
        if ends:
            rest = self._parser.end()
            split = Split(split.text + rest.text, split.reasoning + rest.reasoning, split.reclassified)
            self.begins_with_reasoning = self.begins_with_reasoning and not self._parser.has_unclosed_reasoning
        delta: Delta = {"role": "assistant", "content": split.text}
        reasoning = (field if isinstance(field, str) else "") + split.reasoning
        self._has_reasoning = self._has_reasoning or bool(reasoning)
        if reasoning or split.reclassified:
            delta["reasoning_content"] = reasoning
        if split.reclassified:
            delta["reclassified"] = True
        return delta

    @staticmethod
    def _text(sent: Sent) -> str:
        content = sent.get("content")
        if isinstance(content, str) and content:
            return content
        if isinstance(content, list):  # Mistral's reasoning models send parts
            return "".join(_part(part) for part in content)
        if content:
            raise TypeError("content is neither text nor parts")
        # A refusal is shown as text, because LangChain's chunks have no field for it.
        return str(sent.get("refusal") or "")

    def _add_calls(self, delta: Delta, sent: Sent, *, whole: bool, ends: bool) -> None:
        """Add tool calls to a delta in OpenAI's form: ascending indexes, ids and names once. `whole`: they are those of
        a whole message, which may repeat streamed ones. The last delta has the extra fields, too."""
        listed = sent.get("tool_calls") or ()
        if not listed and (legacy := sent.get("function_call")):
            listed = [{"function": legacy}]
        calls = [call for call in ([listed] if isinstance(listed, dict) else listed) if call is not None]
        pieces: list[Piece] = []
        if calls:
            fragments = [Fragment.of(call) for call in calls]
            pieces, owners = self._calls.feed_whole(fragments) if whole else self._calls.feed(fragments)
            for call, owner in zip(calls, owners, strict=True):
                if owner is not None and self._extra is not None:
                    self._extra.add_call(owner, call, whole=whole)
        if self._extra is not None and not whole:
            self._extra.add(sent)
        if ends or self.finished:
            pieces += self._calls.name_all()
            if self._extra is not None and (text := self._extra.to_json(self._calls.ids)):
                delta[EXTRA_FIELDS] = text
        if pieces:
            delta["tool_calls"] = [_tool_call(piece) for piece in pieces]

    @staticmethod
    def _usage(reported: object) -> TokenCounts | None:
        if not isinstance(reported, dict):
            return None
        counts: TokenCounts = {}
        for name in _COUNTS:
            if type(count := reported.get(name)) is int and 0 <= count <= _MAX_TOKENS:
                counts[name] = count
        details = reported.get("prompt_tokens_details")
        if counts and isinstance(details, dict) and type(cached := details.get("cached_tokens")) is int:
            counts["prompt_tokens_details"] = {"cached_tokens": min(max(0, cached), counts.get("prompt_tokens", 0))}
        return counts or None

    def _unusable(self, what: str, payload: bytes) -> UpstreamFailed:
        quote = quoted(payload)
        message = f"{self._host} sent {what} in its stream: {quote}. Check its address, and its log."
        return UpstreamFailed(message, kind="garbage", quote=quote)


def _tool_call(piece: Piece) -> CallDelta:
    function: CallFunction = {"name": piece.name or None, "arguments": piece.arguments}
    return {"index": piece.call, "id": piece.id or None, "type": "function", "function": function}


def _bare_text(data: Sent) -> str | None:
    """Return the text of data that has nothing else, even if the text has reasoning tags; else None."""
    choices: Sequence[Sent] = data.get("choices") or ()
    if len(choices) != 1 or data.get("usage"):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not delta or choice.get("finish_reason") or choice.get("index", 0) != 0:
        return None
    text = delta.get("content")
    if type(text) is not str or not text:
        return None
    return None if len(delta) > 1 and any(delta.get(name) for name in _OTHER_CONTENT) else text


def _lone_text(data: Sent) -> str | None:
    """Return the text as `_bare_text` does; None if there are unknown fields."""
    text = _bare_text(data)
    if text is None:
        return None
    delta = data["choices"][0]["delta"]
    return None if len(delta) > 1 and any(delta[name] for name in delta.keys() - _PLAIN) else text


def split_chunk(chunk: AnyChunk) -> Iterator[AnyChunk]:
    """Yield a chunk with a long text or long reasoning as several with short ones, as if it had been streamed."""
    if not chunk["choices"]:
        yield chunk
        return
    delta = chunk["choices"][0]["delta"]
    text, reasoning = delta["content"], delta.get("reasoning_content") or ""
    if not isinstance(text, str) or len(text) + len(reasoning) <= _PIECE:
        yield chunk
        return
    if reasoning or delta.get("reclassified"):
        yield from _reasoning_chunks(reasoning, reclassified=delta.get("reclassified", False))
    for start in range(0, len(text), _PIECE):
        yield _text_chunk(text[start : start + _PIECE])
    if not isinstance(chunk, TextChunk):
        rest: Delta = {**delta, "content": ""}
        rest.pop("reasoning_content", None)
        rest.pop("reclassified", None)
        yield {**chunk, "choices": [{**chunk["choices"][0], "delta": rest}]}


def _reasoning_chunks(reasoning: str, *, reclassified: bool) -> Iterator[Chunk]:
    for start in range(0, max(1, len(reasoning)), _PIECE):
        piece: Delta = {"role": "assistant", "content": "", "reasoning_content": reasoning[start : start + _PIECE]}
        if reclassified and not start:
            piece["reclassified"] = True
        yield {"choices": [{"index": 0, "delta": piece, "finish_reason": None}]}


def _merge_usage(last: Chunk | None, read: Chunk) -> Generator[Chunk, None, Chunk]:
    """Return the last chunk, merged with the one before it if one has the finish reason and the other the usage; else
    yield the one before. Upstreams send them separately, and a chunk costs as much as ten tokens."""
    if last is None:
        return read
    if not read["choices"] and not last.get("usage"):
        return {**last, "usage": read["usage"]}
    yield last
    return read


def _rest(texts: list[str], last: Chunk | None) -> Iterator[AnyChunk]:
    if last is not None:
        yield last
    if texts:
        yield _text_chunk(texts)


def _text_chunk(content: str | list[str]) -> TextChunk:
    delta: Delta = {"role": "assistant", "content": content}
    return TextChunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])


def _part(part: Sent) -> str:
    """Return a part's text; the reasoning of Mistral's models gets tags, as other models send it."""
    if part.get("type") == "thinking":
        reasoning = part.get("thinking")
        text = reasoning if isinstance(reasoning, str) else "".join(one.get("text", "") for one in reasoning or ())
        return f"<think>{text}</think>"
    return part.get("text", "") if part.get("type") == "text" else ""
