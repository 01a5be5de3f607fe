"""The encoding of events."""

import tracemalloc

from wire.events import encode


def test_an_encoded_event_takes_no_more_memory_than_its_length() -> None:
    tracemalloc.start()
    try:
        kept = [encode({"text": "x" * 100}) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] < 2 * 100 * (len(kept[0]) + 33)
    finally:
        tracemalloc.stop()
