"""The write-ahead log stays short while reads overlap, and grows only during a long read."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from store.sqlite.log_limit import LogLimit

MAX_BYTES = 400_000
ROW_BYTES = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.fixture
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE data (value BLOB)")
        yield connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read in progress."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT COUNT(*) FROM data").fetchone()
        yield connection


@contextmanager
def overlapping_reads(path: Path, lasting_s: float) -> Iterator[None]:
    """Run two threads whose reads overlap, so that a read is always in progress."""
    ended = threading.Event()

    def read(offset_s: float) -> None:
        ended.wait(offset_s)
        while not ended.is_set():
            with reading(path):
                ended.wait(lasting_s)

    threads = [threading.Thread(target=read, args=(offset_s,)) for offset_s in (0, lasting_s / 2)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(lasting_s)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def log_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


def write(connection: sqlite3.Connection, after_each: Callable[[], None] = lambda: None, count: int = 100) -> None:
    for _ in range(count):
        connection.execute("INSERT INTO data VALUES (?)", (bytes(ROW_BYTES),))
        after_each()


def test_the_log_is_emptied_while_reads_overlap(path: Path, writing: sqlite3.Connection) -> None:
    limit = LogLimit(writing, MAX_BYTES)
    deadline = time.monotonic() + 60
    with overlapping_reads(path, lasting_s=0.03):
        write(writing)
        without_limit = log_bytes(path)
        while log_bytes(path) >= without_limit and time.monotonic() < deadline:
            write(writing, limit.enforce, 1)
            time.sleep(0.01)
        assert without_limit > 2 * MAX_BYTES
        assert log_bytes(path) < MAX_BYTES
    (count,) = writing.execute("SELECT COUNT(*) FROM data").fetchone()
    assert count > 100


def test_a_read_that_lasts_is_reported_and_keeps_its_snapshot(
    path: Path, writing: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "threadhold.store")
    limit = LogLimit(writing, MAX_BYTES)
    with reading(path) as reader:
        started = time.monotonic()
        write(writing, limit.enforce)
        assert log_bytes(path) > MAX_BYTES
        assert time.monotonic() - started < 30
        assert reader.execute("SELECT COUNT(*) FROM data").fetchone() == (0,)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "reads in progress" in caplog.text
    time.sleep(1.1)
    deadline = time.monotonic() + 20
    while log_bytes(path) > MAX_BYTES and time.monotonic() < deadline:
        write(writing, limit.enforce, 1)
        time.sleep(0.05)
    assert log_bytes(path) <= MAX_BYTES
    assert "was emptied" in caplog.text


def test_the_busy_timeout_stays_as_it_was(path: Path, writing: sqlite3.Connection) -> None:
    writing.execute("PRAGMA busy_timeout = 1234")
    write(writing, count=30)
    LogLimit(writing, MAX_BYTES).enforce()
    assert log_bytes(path) == 0
    assert writing.execute("PRAGMA busy_timeout").fetchone() == (1234,)
