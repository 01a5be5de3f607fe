"""What an action sends besides the model's arguments: `data.headers` and `data.auth`. The model never sees them.

`hide` removes the exact values from a text before the model reads it, since echo endpoints and error pages repeat them.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, quote_plus

from wire.errors import InvalidRequest
from wire.json import Json, JsonObject
from wire.validation import truncated

__all__ = ["Credentials", "read_credentials"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_FORBIDDEN = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade"})
# Headers whose values are not secret: hiding `application/json` would garble valid answers.
_OPEN_HEADERS = frozenset(
    {"accept", "accept-language", "content-type", "user-agent", "cache-control", "prefer", "origin"}
)
_MIN_SECRET = 4  # characters; replacing shorter ones would make the text unreadable
_MAX_HEADERS = 32
_MAX_VALUE_CHARS = 8_192
_MAX_HEADER_CHARS = 32_768  # of all names and values together
_FIELDS = {
    "bearer": ("token",),
    "basic": ("username", "password"),
    "api_key": ("in", "name", "value"),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Headers, query parameters and cookies, which are sent only to the document's own server."""

    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    cookies: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    _encoded_secrets: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    """The secrets as they appear in URLs, JSON and Basic authorization, longest first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_encoded_secrets", _encodings(self.secrets))

    def provide(self, location: str, name: str) -> bool:
        """Return whether these credentials set the parameter `name` in `location`."""
        if location == "header":
            return name.lower() in {each.lower() for each, _ in self.headers}
        return name in {each for each, _ in {"query": self.query, "cookie": self.cookies}.get(location, ())}

    def longest(self) -> int:
        """Return the length of the longest secret, in bytes in its longest spelling."""
        return max((len(each.encode()) for each in self._encoded_secrets), default=0)

    def hide(self, text: str) -> str:
        """Return `text` with each secret, also encoded for URLs and JSON, replaced by `[hidden]`."""
        for encoded in self._encoded_secrets:
            text = text.replace(encoded, "[hidden]")
        return text


def _encodings(secrets: tuple[str, ...]) -> tuple[str, ...]:
    found: set[str] = set()
    for secret in secrets:
        found |= {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
        found |= {base64.b64encode(secret.encode()).decode()}
    return tuple(sorted((each for each in found if len(each) >= _MIN_SECRET), key=len, reverse=True))


def read_credentials(data: JsonObject, *, param: str) -> Credentials:
    """Read `data.headers` and `data.auth` of a tool; `param` is the path of `data` in the request.

    Raises:
        InvalidRequest: a field is missing, of the wrong type, or not allowed in its header.
    """
    headers = _read_headers(data.get("headers"), f"{param}.headers")
    secrets = [value for name, value in headers if name.lower() not in _OPEN_HEADERS]
    # `Authorization: Bearer abc`: the part after the scheme is the actual secret.
    secrets += [value.split(" ", 1)[1] for value in secrets if " " in value]
    auth = data.get("auth")
    if auth is None:
        return Credentials(headers=tuple(headers), secrets=tuple(secrets))
    kind, values = _read_auth(auth, f"{param}.auth")
    match kind:
        case "bearer":
            headers.append(("Authorization", f"Bearer {values['token']}"))
            secrets.append(values["token"])
        case "basic":
            pair = base64.b64encode(f"{values['username']}:{values['password']}".encode()).decode()
            headers.append(("Authorization", f"Basic {pair}"))
            secrets += [values["password"], pair]
        case _:
            secrets.append(values["value"])
            pairs = ((values["name"], values["value"]),)
            if values["in"] == "header":
                headers += pairs
            elif values["in"] == "query":
                return Credentials(headers=tuple(headers), query=pairs, secrets=tuple(secrets))
            else:
                return Credentials(headers=tuple(headers), cookies=pairs, secrets=tuple(secrets))
    return Credentials(headers=tuple(headers), secrets=tuple(secrets))


def _read_headers(headers: Json, param: str) -> list[tuple[str, str]]:
    if headers is None:
        return []
    if not isinstance(headers, dict):
        raise InvalidRequest(f"Invalid type for '{param}': expected an object.", param=param, code="invalid_type")
    if len(headers) > _MAX_HEADERS:
        raise InvalidRequest(
            f"'{param}' has {len(headers)} headers; at most {_MAX_HEADERS} are allowed.",
            param=param,
            code="object_above_max_properties",
        )
    found: list[tuple[str, str]] = []
    for name, value in headers.items():
        _check_header(name, value, f"{param}.{str(name)[:64]}")
        found.append((name, value.strip()))
    if (size := sum(len(name) + len(value) for name, value in found)) > _MAX_HEADER_CHARS:
        raise InvalidRequest(
            f"'{param}' has {size} characters; at most {_MAX_HEADER_CHARS} are allowed.",
            param=param,
            code="string_above_max_length",
        )
    return found


def _check_header(name: str, value: Json, param: str) -> None:
    if not _TOKEN.fullmatch(name) or name.lower() in _FORBIDDEN:
        raise InvalidRequest(
            f"Invalid value for '{param}': this header cannot be set.", param=param, code="invalid_value"
        )
    _check_text(value, param)


def _check_text(value: Json, param: str) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"Invalid type for '{param}': expected a string.", param=param, code="invalid_type")
    if len(value) > _MAX_VALUE_CHARS:
        raise InvalidRequest(
            f"'{param}' has {len(value)} characters; at most {_MAX_VALUE_CHARS} are allowed. Use a shorter value.",
            param=param,
            code="string_above_max_length",
        )
    if not _VALUE.fullmatch(value):
        raise InvalidRequest(
            f"Invalid value for '{param}': line breaks and control characters are refused.",
            param=param,
            code="invalid_value",
        )


def _read_auth(auth: Json, param: str) -> tuple[Literal["bearer", "basic", "api_key"], dict[str, str]]:
    if not isinstance(auth, dict):
        raise InvalidRequest(f"Invalid type for '{param}': expected an object.", param=param, code="invalid_type")
    kind = auth.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        message = f"Invalid value: '{truncated(kind)}'. Supported values are: 'bearer', 'basic', and 'api_key'."
        raise InvalidRequest(message, param=f"{param}.type", code="invalid_value")
    for key in auth.keys() - {"type", *_FIELDS[kind]}:
        raise InvalidRequest(
            f"Unknown parameter: '{param}.{truncated(key)}'.",
            param=f"{param}.{truncated(key)}",
            code="unknown_parameter",
        )
    for key in _FIELDS[kind]:
        if key not in auth:
            message = f"Missing required parameter: '{param}.{key}'."
            raise InvalidRequest(message, param=f"{param}.{key}", code="missing_required_parameter")
        _check_text(auth[key], f"{param}.{key}")
    if kind == "api_key":
        _check_api_key(auth, param)
    return kind, auth  # type: ignore[return-value]


def _check_api_key(auth: dict[str, str], param: str) -> None:
    if auth["in"] not in ("header", "query", "cookie"):
        message = f"Invalid value: '{truncated(auth['in'])}'. Supported values are: 'header', 'query', and 'cookie'."
        raise InvalidRequest(message, param=f"{param}.in", code="invalid_value")
    if auth["in"] == "header":
        _check_header(auth["name"], auth["value"], f"{param}.name")
    elif auth["in"] == "cookie" and not (
        _TOKEN.fullmatch(auth["name"]) and re.fullmatch(r"[^\s;,\"\\]*", auth["value"])
    ):
        message = f"Invalid value for '{param}': not a cookie's name and value."
        raise InvalidRequest(message, param=param, code="invalid_value")
