"""Progress bars, for a person who waits at a terminal: on stderr, and nowhere else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the store takes long to import
    from store.beside import Watch

__all__ = ["progress"]


@contextmanager
def progress(unit: str = "B") -> "Iterator[Watch]":
    """Yield what is told how far things are: `watch(what, done, total)`; a new `what` is a new bar."""
    from tqdm import tqdm

    bar: Any = None
    shown = ""

    def watch(what: str, done: int, total: int) -> None:
        nonlocal bar, shown
        if bar is None or shown != what:
            shown = what
            if bar is not None:
                bar.close()
            # `disable=None` is tqdm's way to say: on a terminal only
            bar = tqdm(
                desc=what,
                total=total,
                unit=unit,
                unit_scale=True,
                unit_divisor=1024 if unit == "B" else 1000,
                file=sys.stderr,
                disable=None,
                leave=False,
            )
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield watch
    finally:
        if bar is not None:
            bar.close()
