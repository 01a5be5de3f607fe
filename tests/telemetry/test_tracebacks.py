"""A handled error does not keep the variables of the frames that it passed through."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from telemetry.tracebacks import clear_tracebacks


class Text(str):
    """A text that a weak reference can refer to."""


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def fail(seen: list["weakref.ref[Text]"]) -> None:
    """Raise an error through a frame that it forms a cycle with, and that has a text."""
    text = Text("long")
    seen.append(weakref.ref(text))
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("failed"))
    await future


async def fail_twice(seen: list["weakref.ref[Text]"]) -> None:
    try:
        await fail(seen)
    except ValueError as error:
        raise RuntimeError("failed") from error


async def fail_while_handling(seen: list["weakref.ref[Text]"]) -> None:
    try:
        await fail(seen)
    except ValueError:
        await fail(seen)


@pytest.mark.parametrize("work", [fail, fail_twice, fail_while_handling])
async def test_no_variable_of_a_frame_stays(work: object) -> None:
    seen: list[weakref.ref[Text]] = []
    try:
        await work(seen)  # type: ignore[operator]
    except (ValueError, RuntimeError) as error:
        assert any(reference() is not None for reference in seen), "the frames have no cycle, so this shows nothing"
        clear_tracebacks(error)
    assert [reference() for reference in seen] == [None] * len(seen)


def test_an_error_without_a_traceback_and_a_circle_of_errors_are_accepted() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    clear_tracebacks(first)
    clear_tracebacks(None)
