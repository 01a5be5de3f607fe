"""Assigns the streamed fragments of tool calls to their calls. Pure.

OpenAI numbers its calls and sends each id and name once. Other servers number every call 0 or not at all, leave ids
out, send one id for two calls, or repeat ids and names in each chunk. Invariant: no call is lost, and none is invented.

A fragment belongs to the call with its id, else to the call with its index, else to the call at its position, else to
the newest call. It starts another call if it has a name and that call cannot continue, because the name is another
function's or the call's arguments are complete. A reply has at most `MAX_CALLS`; hostile or looping models make more.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, Self

import orjson
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from chains.chat_types import Sent
from wire.errors import UpstreamFailed

__all__ = ["MAX_CALLS", "CallFragments", "Fragment", "Piece", "number_calls"]

MAX_CALLS: Final = 128
"""Maximum calls in one reply: OpenAI's limit for functions in one request."""
_MAX_NAME: Final = 1_000
"""Maximum characters of a name that arrives in pieces. The rest is dropped: no function has such a name."""

_MARK: Final = re.compile(r'[{}\[\]"\\]')
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 9  # Mistral accepts ids of exactly nine letters and digits; others accept any


class Fragment(NamedTuple):
    """A fragment as it was sent. Empty strings and None mean that the field was missing."""

    number: int | None = None
    """Its `index`."""
    id: str = ""
    name: str = ""
    arguments: str = ""

    @classmethod
    def of(cls, call: Sent) -> Self:
        """Read an entry of `tool_calls`. Raises TypeError or AttributeError for other shapes."""
        function = call.get("function") or call
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):  # some servers send the object itself
            arguments = orjson.dumps(arguments).decode()
        return cls(
            _index(call.get("index")), str(call.get("id") or ""), str(function.get("name") or ""), arguments or ""
        )


class Piece(NamedTuple):
    """What a fragment adds to a call. The id comes once, the name in pieces that are joined."""

    call: int
    """The call's index in the reply."""
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True, eq=False)
class _Call:
    index: int
    number: int | None
    """The index that the server first sent."""
    id: str = ""
    """The id that the server sent."""
    known_as: str = ""
    """The id that clients see: unique in its reply."""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    delta: int = 0
    """The number of the delta that added to it last."""
    name_repeated: bool = False
    """Whether its name came again after its arguments: if arguments follow, they are another call of the function."""
    _unread: list[str] = field(default_factory=list)
    _depth: int = 0
    _opened: bool = False
    _quoted: bool = False
    _escaped: bool = False

    _digest: tuple[int, bytes | None] = (-1, None)
    """How many characters of the arguments are hashed, and the hash of their value."""

    @property
    def text(self) -> str:
        if len(self.arguments) > 1:
            self.arguments[:] = ["".join(self.arguments)]
        return self.arguments[0] if self.arguments else ""

    @property
    def digest(self) -> bytes | None:
        """A hash of the arguments' value; None if they are not JSON."""
        text = self.text
        if self._digest[0] != len(text):
            self._digest = len(text), _digest(text)
        return self._digest[1]

    def add(self, arguments: str) -> None:
        if arguments:
            self.arguments.append(arguments)
            self._unread.append(arguments)

    def is_whole(self) -> bool:
        """Whether the arguments are a JSON object from its first brace to its last. Reads each character once."""
        text = "".join(self._unread)
        self._unread.clear()
        position = int(self._escaped and bool(text))
        self._escaped = self._escaped and not text
        while (found := _MARK.search(text, position)) is not None:
            position = found.end()
            match found[0]:
                case "\\":
                    position += self._quoted
                    self._escaped = position > len(text)
                case '"':
                    self._quoted = not self._quoted
                case bracket if not self._quoted:
                    self._opened = True
                    self._depth += 1 if bracket in "{[" else -1
        return self._opened and self._depth <= 0 and not self._quoted


class CallFragments:
    """The calls of one reply. `offered` holds the functions' names, to tell a piece of a name from a new name."""

    def __init__(self, offered: Collection[str] = ()) -> None:
        self._offered = frozenset(offered)
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_number: dict[int, _Call] = {}
        self._by_position: dict[int, _Call] = {}
        self._delta = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def ids(self) -> list[str]:
        """The ids of the calls, in the order in which the calls began; empty for a call whose id is unknown."""
        return [call.known_as for call in self._calls]

    def feed(self, fragments: Sequence[Fragment]) -> tuple[list[Piece], list[int | None]]:
        """Add the fragments of one delta; return what they add, and the number of each fragment's call.

        Raises UpstreamFailed for more than `MAX_CALLS` calls.
        """
        self._delta += 1
        pieces: list[Piece] = []
        owners: list[int | None] = []
        for position, sent in enumerate(fragments):
            fragment = sent
            call = self._candidate(fragment, position, alone=len(fragments) == 1)
            if call is None or not self._continues(call, fragment):
                if not any(fragment[1:]):
                    owners.append(None)
                    continue
                pieces += self.name_all()
                if call is not None and not fragment.name:
                    fragment = fragment._replace(name=call.name)
                call = self._begin(fragment)
            piece = self._add(call, fragment)
            if len(fragments) > 1:
                self._by_position[position] = call
            owners.append(call.index)
            if any(piece[1:]):
                pieces.append(piece)
        return pieces, owners

    def feed_whole(self, calls: Sequence[Fragment]) -> tuple[list[Piece], list[int | None]]:
        """Add the calls of a whole message; return what the stream has not brought before, as `feed` does."""
        self._delta += 1
        pieces: list[Piece] = []
        owners: list[int | None] = []
        left = list(self._calls)
        for fragment in calls:
            call = _same(fragment, left)
            if call is None:
                pieces += self.name_all()
                piece = self._add(self._begin(fragment), fragment)
            else:
                left.remove(call)
                streamed = call.text
                rest = fragment.arguments[len(streamed) :] if fragment.arguments.startswith(streamed) else ""
                piece = Piece(call.index, self._take_id(call, fragment.id), fragment.name[len(call.name) :], rest)
                call.name += piece.name
                call.add(rest)
            owners.append(piece.call)
            if any(piece[1:]):
                pieces.append(piece)
        return pieces, owners

    def name_all(self) -> list[Piece]:
        """Return an id for each call that has none yet."""
        pieces = []
        for call in self._calls:
            if not call.known_as:
                call.known_as = _new_id()
                pieces.append(Piece(call.index, call.known_as))
        return pieces

    # --- assigning a fragment -----------------------------------------------------------------------------------------

    def _candidate(self, fragment: Fragment, position: int, *, alone: bool) -> _Call | None:
        """Return the call that a fragment may continue."""
        by_number = self._by_number.get(fragment.number) if fragment.number is not None else None
        if fragment.id and (by_id := self._by_id.get(fragment.id)) is not None:
            return by_number if by_number is not None and by_number.id == fragment.id else by_id
        if by_number is not None:
            return None if fragment.id and by_number.id else by_number
        newest = self._calls[-1] if self._calls else None
        if fragment.id:
            return newest if newest is not None and not newest.id and fragment.number is None else None
        if fragment.number is not None:
            return None if fragment.name else newest
        return newest if alone else self._by_position.get(position) or (None if fragment.name else newest)

    def _continues(self, call: _Call, fragment: Fragment) -> bool:
        """Whether a fragment continues the call, rather than beginning another one."""
        if not fragment.name or not call.name:
            return not (call.name_repeated and fragment.arguments.strip())
        is_same = bool(fragment.id) and fragment.id == call.id
        if call.delta == self._delta and (not is_same or call.is_whole()):
            return False  # two entries of one list are two calls
        if self._rest_of_name(call, fragment.name) is None:
            return False
        elsewhere = None not in (fragment.number, call.number) and self._by_number.get(fragment.number or 0) is not call
        if not call.arguments:
            return not elsewhere
        given = fragment.arguments.strip()
        if not call.is_whole():
            return not (elsewhere and given.startswith("{"))
        return not given or (is_same and not elsewhere and given == call.text.strip())

    def _rest_of_name(self, call: _Call, name: str) -> str | None:
        """Return what a name adds to the call's: empty if it is repeated, None if it is another function's."""
        longer = call.name + name
        may_grow = not call.arguments and any(each.startswith(longer) for each in self._offered)
        if call.name in self._offered:
            return "" if name == call.name else name if may_grow and name not in self._offered else None
        if may_grow:
            return name
        if name.startswith(call.name) and (name == call.name or not call.arguments):
            return name[len(call.name) :]
        return None if call.arguments or name in self._offered else name

    # --- adding a fragment --------------------------------------------------------------------------------------------

    def _begin(self, fragment: Fragment) -> _Call:
        if len(self._calls) == MAX_CALLS:
            raise UpstreamFailed(
                f"The model made more than {MAX_CALLS} function calls in one reply. Ask it for fewer at once, or set "
                "`parallel_tool_calls` to false.",
                kind="garbage",
            )
        call = _Call(len(self._calls), fragment.number)
        self._calls.append(call)
        return call

    def _add(self, call: _Call, fragment: Fragment) -> Piece:
        id, name = self._take_id(call, fragment.id), ""
        if fragment.name:
            name = (self._rest_of_name(call, fragment.name) or "") if call.name else fragment.name
            name = name[: _MAX_NAME - len(call.name)]
            call.name += name
        repeats = bool(fragment.name) and bool(call.arguments) and call.is_whole()
        if fragment.name:
            call.name_repeated = repeats and not (fragment.id and fragment.id == call.id)
        arguments = "" if repeats else fragment.arguments
        call.add(arguments)
        if fragment.number is not None:
            self._by_number[fragment.number] = call
        call.delta = self._delta
        return Piece(call.index, id, name, arguments)

    def _take_id(self, call: _Call, id: str) -> str:
        """Return the id that clients see from now on; empty if the call has one, or none was sent."""
        if not id or call.id:
            return ""
        call.id = id
        self._by_id[id] = call
        if call.known_as:
            return ""
        call.known_as = id if id not in self.ids else _new_id()
        return call.known_as


def number_calls(calls: CallFragments, chunk: AIMessageChunk) -> AIMessageChunk:
    """Return the chunk of a LangChain model with numbered calls: several providers number none of them."""
    if not chunk.tool_call_chunks:
        return chunk
    fragments = [
        Fragment(_index(each.get("index")), each.get("id") or "", each.get("name") or "", each.get("args") or "")
        for each in chunk.tool_call_chunks
    ]
    pieces, _ = calls.feed(fragments)
    numbered = [
        tool_call_chunk(name=piece.name or None, args=piece.arguments, id=piece.id or None, index=piece.call)
        for piece in pieces
    ]
    return chunk.model_copy(update={"tool_call_chunks": numbered})


def _same(whole: Fragment, calls: Iterable[_Call]) -> _Call | None:
    """Return the streamed call that a call of a whole message repeats."""
    among = [call for call in calls if not call.name or whole.name.startswith(call.name)]
    if whole.id and (same := next((call for call in among if call.id == whole.id), None)) is not None:
        return same
    unidentified = [call for call in among if not (whole.id and call.id)]
    digest = _digest(whole.arguments) if unidentified else None
    return next(
        (
            call
            for call in unidentified
            if whole.arguments.startswith(call.text) or (digest is not None and call.digest == digest)
        ),
        None,
    )


def _digest(text: str) -> bytes | None:
    """Return a hash of a JSON text's value; None for other text."""
    try:
        return sha256(orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)).digest()
    except (orjson.JSONDecodeError, TypeError):
        return None


def _new_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


def _index(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value) else None
