"""One child process: a kill applies only to the task that is assigned when it is called."""

import time
from collections.abc import Iterator

import pytest

from tests.workers.test_pool import FIND, PLACE, SHORT, WRONG, slow
from wire.errors import BudgetExceeded
from workers.budgets import CHECK, MEMORY_BYTES, Budget
from workers.process import ChildProcess

LONG = Budget(cpu_s=60, wall_s=60)


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess(MEMORY_BYTES)
    yield made
    made.end()


def ended_at_once(child: ChildProcess) -> bool:
    """Return whether a long task fails sooner than the child could run it."""
    before = time.monotonic()
    with pytest.raises(BudgetExceeded):
        child.ask(FIND, slow(), {}, LONG)
    return time.monotonic() - before < LONG.cpu_s / 4


def test_a_kill_before_the_task_is_sent_ends_the_task(child: ChildProcess) -> None:
    assert child.ask(FIND, (PLACE, {}), {}, CHECK) == WRONG
    child.assign()
    child.kill()  # the task is cancelled while its request is still being written
    assert ended_at_once(child)


def test_a_kill_before_the_process_exists_ends_the_task(child: ChildProcess) -> None:
    child.assign()
    child.kill()
    assert ended_at_once(child)
    assert child.pid is None


def test_a_kill_does_not_affect_the_next_task(child: ChildProcess) -> None:
    child.assign()
    child.kill()
    with pytest.raises(BudgetExceeded):
        child.ask(FIND, (PLACE, {}), {}, SHORT)
    child.assign()
    assert child.ask(FIND, (PLACE, {}), {}, CHECK) == WRONG
