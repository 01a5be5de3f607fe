"""The log lines of runs: one each time a run ends or pauses.

Invariant: texts of people and models, and what an upstream quotes of them, are not logged. The only exceptions
are enabled by LOG_CONTENT: the logger `threadhold.content`, and the full message of an error.
"""

import json
import logging
from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from graphs.machine.spec import WireRun
from graphs.machine.stream_parts import Call
from telemetry.lines import fields
from wire.errors import RunError, ThreadholdError

__all__ = ["log_prompt", "log_reply", "log_run"]

logger = logging.getLogger("threadhold.runs")
content = logging.getLogger("threadhold.content")


def log_run(run: WireRun, *, owner: str, took_s: float, first_s: float | None, error: BaseException | None) -> None:
    """Log in one line how a run ended or paused, without its texts."""
    level = logging.WARNING if run["status"] == "failed" else logging.INFO
    if not logger.isEnabledFor(level):
        return
    usage = run["usage"] or {}
    logged: dict[str, object] = {
        "run_id": run["id"],
        "thread_id": run["thread_id"],
        "assistant_id": run["assistant_id"],
        "owner": owner,
        "model": run["model"],
        "status": run["status"],
        "took_ms": round(took_s * 1000),
        "first_token_ms": None if first_s is None else round(first_s * 1000),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
    }
    words = f"run %s {_word(run)} after %.2f s"
    if first_s is not None:
        words += f" (first token after {first_s:.2f} s)"
    why = ""
    if error is not None:
        logged["error"] = error.kind if isinstance(error, RunError) else type(error).__name__
        logged["error_code"] = (run["last_error"] or {}).get("code")
        why = f": {_reason(error)}"
    logger.log(level, words + "%s", run["id"], took_s, why, extra=fields(**logged))


def _reason(error: BaseException) -> str:
    if not isinstance(error, ThreadholdError):
        return type(error).__name__
    return error.message if content.isEnabledFor(logging.DEBUG) else error.plain


def _word(run: WireRun) -> str:
    if run["status"] == "requires_action":
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        return f"waits for {len(calls)} outputs"
    if run["status"] == "incomplete":
        return f"incomplete ({run['incomplete_details']['reason']})"
    status: str = run["status"]
    return status


def log_prompt(run_id: str, messages: Sequence[BaseMessage]) -> None:
    """Log the prompt of a model call, if content is logged."""
    if content.isEnabledFor(logging.DEBUG):
        prompt = [{"role": message.type, "content": message.content} for message in messages]
        content.debug("run %s asks: %s", run_id, json.dumps(prompt, ensure_ascii=False, default=str))


def log_reply(run_id: str, text: str, calls: Sequence[Call]) -> None:
    """Log the reply of a model call, if content is logged."""
    if content.isEnabledFor(logging.DEBUG):
        content.debug("run %s is answered: %s", run_id, json.dumps([text, *calls], ensure_ascii=False, default=str))
