"""Writes the page of routes from the server's OpenAPI document.

Invariant: the page has every operation of the document, with its parameters, the fields of its body and its errors.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from docgen.tables import cell, row
from server import Settings, create_app

__all__ = ["api_page"]

Document: TypeAlias = Mapping[str, Any]
"""An OpenAPI document, or an object in it; FastAPI types it like this."""

_METHODS: Final = ("get", "post", "delete")

_HEAD: Final = """\
# API

This page is for developers of clients. It lists every route, and is generated from `/openapi.json`, which has the types
of all fields. `http://127.0.0.1:3000/docs` is an interactive version that also works offline.

Each route exists with and without `/v1`; the paths below have no `/v1`. [From OpenAI](from-openai.md) explains
[Azure's paths](from-openai.md#from-azure-openai), [extensions](from-openai.md#extensions),
[unknown fields](from-openai.md#unknown-fields) and
[paths that are passed through](from-openai.md#passed-through-paths).

- Keys are sent as `Authorization: Bearer` or, by Azure's clients, as `api-key`. A server that requires
  no keys accepts any key, or none.
- The header `OpenAI-Beta` can be `assistants=v2`, `assistants=v1` or missing.
- Lists accept `limit` (1 to 100, default 20), `order`, `after` and `before`. `/files` accepts a `limit` of up to
  10,000, which is its default, and no `before`.
- In the tables, required fields are **bold**.

## Errors

Every error has OpenAI's body, `{"error": {"message", "type", "param", "code"}}`, and OpenAI's wording.
[From OpenAI](from-openai.md#errors) lists the codes.
"""

_COMMON: Final = """\
Every route except the health checks can return {}. The last column of the tables lists further statuses.
"""

_HEALTH: Final = frozenset({"/health", "/ready"})

_OTHERS: Final = """\
## Other routes

These routes are not in the OpenAPI document, and exist only without `/v1`.

| route | |
| --- | --- |
| GET `/` | the [page](page.md) |
| GET `/openapi.json` | the OpenAPI document: bodies, statuses, and links between routes that use the same id |
| GET `/docs` | the interactive page |
| GET `/metrics` | metrics for Prometheus; see [Observe](observe.md#metrics) |
| `/chat/…`, `/assistant/…` | [LangServe](langserve.md) |
"""


def api_page() -> str:
    """Return the page. The document does not depend on the environment: only on the fixed settings here."""
    document = create_app(Settings.model_construct(**_fixed())).openapi()
    operations = list(_operations(document))
    common = _common(operations)
    parts = [_HEAD, _statuses(operations), _COMMON.format(", ".join(sorted(common)))]
    for tag in dict.fromkeys(operation["tags"][0] for _, _, operation in operations):
        rows = [row("route", "what it does", "query, headers", "body", "other statuses"), row(*["---"] * 5)]
        rows += [_line(document, common, *one) for one in operations if one[2]["tags"][0] == tag]
        parts.append(f"## {tag[0].upper()}{tag[1:]}\n\n" + "\n".join(rows) + "\n")
    return "\n".join([*parts, _OTHERS])


def _fixed() -> dict[str, Any]:
    """Return the defaults of all settings, with an address of a model, so that nothing is looked up on the disk."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return {**defaults, "model_url": "http://127.0.0.1:9/v1"}


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield method.upper(), path.removeprefix("/v1"), methods[method]


def _statuses(operations: list[tuple[str, str, Document]]) -> str:
    meanings: dict[str, str] = {}
    for _, path, operation in operations:
        for status, answer in operation["responses"].items():
            if status != "200" and path not in _HEALTH:
                meanings.setdefault(status, answer["description"])
    rows = [row("status", "meaning"), row("---", "---")]
    rows += [row(_status(status), cell(meanings[status])) for status in sorted(meanings)]
    return "\n".join(rows) + "\n"


def _common(operations: list[tuple[str, str, Document]]) -> set[str]:
    """Return the statuses of errors that every route has, except for the health checks."""
    return set.intersection(*({*one["responses"]} - {"200"} for _, path, one in operations if path not in _HEALTH))


def _status(status: str) -> str:
    return "other" if status == "default" else status


def _line(document: Document, common: set[str], method: str, path: str, operation: Document) -> str:
    parameters = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
    errors = sorted(status for status in operation["responses"] if status not in {*common, "200"})
    return row(
        f"{method} `{path}`",
        cell(operation["description"]),
        ", ".join(_name(one["name"], required=one.get("required", False)) for one in parameters),
        _body(document, operation),
        ", ".join(map(_status, errors)),
    )


def _name(name: str, *, required: bool) -> str:
    return f"**`{name}`**" if required else f"`{name}`"


def _body(document: Document, operation: Document) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    for kind, described in content.items():
        schema = described["schema"]
        while "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        required = schema.get("required", ())
        names = ", ".join(_name(name, required=name in required) for name in schema.get("properties", ()))
        form = "form" if kind.startswith("multipart") else "JSON"
        return f"{form}: {names}" if names else f"{form}, passed through"
    return ""
