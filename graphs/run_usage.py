"""The tokens of a run, as they are counted for its owner and for the key that started it."""

import time

from graphs.record import Recorder
from store.ports import CountUsage

__all__ = ["run_usage"]


def run_usage(recorder: Recorder, owner: str, key_id: str) -> CountUsage:
    """Return the change that counts a run's usage, for the day on which the run ends. It belongs to the commit of the
    end."""
    return CountUsage(
        owner,
        int(time.time()),
        recorder.run["model"],
        "run",
        recorder.model_calls,
        recorder.usage["prompt_tokens"],
        recorder.usage["completion_tokens"],
        min(recorder.cached_tokens, recorder.usage["prompt_tokens"]),
        key_id,
    )
