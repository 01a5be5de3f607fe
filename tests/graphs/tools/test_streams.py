"""APIs that send many bytes around little content: their calls end, and do not block the event loop meanwhile."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from graphs.tools.action_caller import ActionCaller
from tests.cpu_time import slowness
from tests.graphs.tools.apis import simple

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"


@contextlib.contextmanager
def endless(first: bytes, again: bytes) -> Iterator[str]:
    """Serve an answer that starts with `first` and repeats `again` forever."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=200)

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(first)
            while again:
                connection.sendall(again)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, id="interim answers"),
        pytest.param(LENGTH, b"a: b\r\n" * 1000, id="headers"),
        pytest.param(LENGTH + b"a: b\r\n" * 10_000 + b"\r\nok", b"", id="a long head that ends"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" + LENGTH, b"a: b\r\n" * 1000, id="headers after hints"),
        pytest.param(CHUNKED, (b"1;" + b"x" * 8000 + b"\r\na\r\n") * 10, id="chunk extensions"),
        pytest.param(CHUNKED + b"0\r\n", b"a: b\r\n" * 1000, id="trailers"),
    ],
)
async def test_framing_bytes_of_an_answer_are_limited(first: bytes, again: bytes) -> None:
    actions = ActionCaller(allow_hosts=("127.0.0.1",), timeout_s=20, max_bytes=10_000)
    with endless(first, again) as url:
        text = await actions.call(simple(url), "{}", call_id="call_1")
    await actions.close()
    assert text == "`get_x` failed: the server's answer is not proper HTTP."


async def test_content_in_chunks_of_one_byte_arrives() -> None:
    actions = ActionCaller(allow_hosts=("127.0.0.1",), timeout_s=20, max_bytes=10_000)
    with endless(CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n", b"") as url:
        assert await actions.call(simple(url), "{}", call_id="call_1") == "a" * 10_000
    await actions.close()


@pytest.mark.soak
async def test_many_streams_of_small_chunks_do_not_block_the_loop() -> None:
    """More streams would block the loop for longer."""
    actions = ActionCaller(allow_hosts=("127.0.0.1",), timeout_s=90, max_bytes=20_000)
    worst, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not done.is_set():
            since = time.thread_time()  # without the time that other programs take
            await asyncio.sleep(0.001)
            worst = max(worst, time.thread_time() - since)

    with endless(CHUNKED, b"1\r\na\r\n" * 20_000) as url:
        watching = asyncio.create_task(watch())
        calls = (actions.call(simple(url), "{}", call_id=f"call_{n}") for n in range(24))
        texts = await asyncio.gather(*calls)
        done.set()
        await watching
    await actions.close()
    assert all("cut here" in text for text in texts)
    assert worst < 0.3 * slowness()
