"""Writes the page of settings from the fields of `Settings`: names, values, defaults and descriptions.

Invariant: the page has every setting exactly once. A setting in no group stops the generation.
"""

import re
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from docgen.tables import cell, row
from ops.upstream_settings import UpstreamSettings
from server import Settings

__all__ = ["settings_page"]

_HEAD: Final = """\
# Settings

This page is for operators. It lists all settings of a server.

Settings come, in this order of priority, from the options `--host` and `--port`, the environment, `.env`,
`threadhold.toml` in the working directory, and files in `/run/secrets` with the name of a setting, such as
`/run/secrets/API_KEYS` (see [Container](container.md#secrets)).

In `threadhold.toml`, names are in lower case. Unknown settings in
`.env` and `threadhold.toml` are reported when the server starts, and by `threadhold check`. In `.env`, only unknown
names that resemble a setting's are reported, because the file can also contain variables of other programs, such as
OpenTelemetry and LangSmith (see [Traces](observe.md#traces)).

To check the settings, run `.venv/bin/threadhold check`.
"""

_GROUPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "Address and access": (
        "[Operate](operate.md#let-others-use-it) explains how to let others use the server, and "
        "[Security](security.md) describes the threats.",
        ("host", "port", "api_keys", "allowed_hosts", "cors_origins", "metrics_key"),
    ),
    "Models": (
        "[Models](models.md) shows the settings for each engine.",
        (
            *("model_url", "model_api_key", "default_model", "model_aliases", "model_path", "model_context_size"),
            *("model_parallel", "model_threads", "max_reply_tokens", "embeddings_model", "upstreams", "tool_calls"),
            *("prompts", "upstream_timeout_s", "upstream_retries", "upstream_retry_max_s"),
        ),
    ),
    "Runs and actions": (
        "[Operate](operate.md#the-queue) describes the queue, and how owners share it.",
        (
            *("run_expiry_s", "max_tool_rounds", "max_runs", "max_run_memory_bytes", "max_queued_runs"),
            *("max_runs_per_owner", "max_queued_runs_per_owner", "drain_s", "actions_allow_hosts", "action_timeout_s"),
            "action_max_bytes",
        ),
    ),
    "Requests": (
        "[From OpenAI](from-openai.md#unknown-fields) describes `UNKNOWN_FIELDS`, and [Security](security.md#limits) "
        "lists the limits that no setting changes.",
        ("max_connections", "max_body_bytes", "max_file_bytes", "unknown_fields"),
    ),
    "Data": (
        "[Operate](operate.md#back-up-and-restore) describes backups and retention.",
        ("data_dir", "database_url", "retention_days"),
    ),
    "Logs": (
        "[Observe](observe.md) describes logs, metrics and traces.",
        ("log_level", "log_format", "log_content"),
    ),
    "Not built yet": (
        "",
        ("redis_url", "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket_name"),
    ),
}

_UPSTREAMS: Final = """\
Each further upstream has a table `[upstreams.NAME]` in `threadhold.toml`, under a name that you choose. See
[Several engines](models.md#several-engines).
"""


def settings_page() -> str:
    """Return the page. Raises ValueError if the groups do not have every setting exactly once."""
    grouped = [name for _, names in _GROUPS.values() for name in names]
    if sorted(grouped) != sorted(Settings.model_fields):
        raise ValueError(f"not in exactly one group: {sorted({*grouped} ^ {*Settings.model_fields}) or grouped}")
    parts = [_HEAD]
    for title, (text, names) in _GROUPS.items():
        parts.append(f"## {title}\n\n{text}\n" if text else f"## {title}\n")
        parts.append(_table(Settings, names, upper=True))
    parts += ["## Upstreams\n", _UPSTREAMS, _table(UpstreamSettings, tuple(UpstreamSettings.model_fields))]
    return "\n".join(parts)


def _table(model: type[BaseModel], names: tuple[str, ...], *, upper: bool = False) -> str:
    schema = model.model_json_schema()["properties"]
    rows = [row("setting" if upper else "key", "default", "meaning"), row("---", "---", "---")]
    for name in names:
        field = model.model_fields[name]
        meaning = f"{_linked(field.description or '')}{_allowed(schema[name])}"
        rows.append(row(f"`{name.upper() if upper else name}`", _default(field.default), cell(meaning)))
    return "\n".join(rows) + "\n"


def _linked(text: str) -> str:
    """Put the names of settings into code spans."""
    return re.sub(r"(?<![`\w])([A-Z0-9]+_[A-Z0-9_]+|HOST|PORT)(?!\w)", r"`\1`", text)


def _default(value: object) -> str:
    match value:
        case None | "" | () | {}:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _allowed(schema: Mapping[str, object]) -> str:
    """Describe the range of a number or the values of a choice; empty if everything is allowed."""
    options = schema.get("anyOf")
    found = {**schema, **options[0]} if isinstance(options, list) else schema
    if isinstance(values := found.get("enum"), list):
        return f" One of {', '.join(f'`{value}`' for value in values)}."
    minimum, above, maximum = (found.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if minimum is not None and maximum is not None:
        return f" From {minimum:,} to {maximum:,}."
    if minimum is not None:
        return f" At least {minimum:,}."
    return f" More than {above:,}." if above is not None else ""
