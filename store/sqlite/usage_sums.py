"""Adds usage to the sums of its day, within the transaction of its change. See `store.ports.usage`."""

import sqlite3
from typing import Final

from store.ports import DAY_S, CountUsage

__all__ = ["count_usage"]

_ADD: Final = """
    INSERT INTO usage (day, owner, model, kind, key_id, requests, input_tokens, cached_tokens, output_tokens)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, owner, model, kind, key_id) DO UPDATE SET
        requests = requests + excluded.requests, input_tokens = input_tokens + excluded.input_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens, output_tokens = output_tokens + excluded.output_tokens
"""


def count_usage(conn: sqlite3.Connection, change: CountUsage) -> None:
    """Add usage to the sum of its day."""
    day = change.at - change.at % DAY_S
    counted = (change.requests, change.input_tokens, change.cached_tokens, change.output_tokens)
    conn.execute(_ADD, (day, change.owner, change.model, change.kind, change.key_id, *counted))
