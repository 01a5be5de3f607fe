"""Parses OpenAPI documents in a child process, and transfers their operations as JSON."""

from dataclasses import asdict
from typing import Final

from graphs.tools.bodies import Body, FieldOf
from graphs.tools.document import ErrorFactory, read_document
from graphs.tools.operations import Field, Operation, build_parameters, read_operations
from wire.errors import BudgetExceeded, InvalidRequest
from wire.json import JsonObject, JsonView
from wire.nesting import nesting

_MAX_LEVELS: Final = 200
"""Maximum levels of nesting in the schema of an operation's arguments, with `$ref`s expanded. JSON encoders fail beyond
254."""

__all__ = ["operations_from_json", "parse_to_json", "refused"]


def parse_to_json(source: str | JsonObject, base_url: str | None) -> JsonObject:
    """Return `{"operations": [...]}`, or `{"refused": message}` if the document is invalid. Runs in a child process."""

    def refuse(message: str) -> InvalidRequest:
        return InvalidRequest(message)

    try:
        operations = read_operations(read_document(source, refuse), base_url=base_url, refuse=refuse)
        for each in operations:
            if nesting(each.parameters, _MAX_LEVELS) > _MAX_LEVELS:
                raise refuse(f"the arguments of `{each.name[:64]}` nest deeper than {_MAX_LEVELS} levels")
        return {"operations": [_pack(each) for each in operations]}
    except InvalidRequest as error:
        return {"refused": error.message}
    except RecursionError:
        return {"refused": "it nests too deeply"}
    except MemoryError:
        raise
    except Exception as error:  # the libraries raise more than they document, and the document is the only input
        return {"refused": f"it cannot be read ({type(error).__name__})"}


def operations_from_json(packed: JsonView, refuse: ErrorFactory) -> tuple[Operation, ...]:
    """Return the operations that `parse_to_json` has packed. Raises the error that `refuse` creates."""
    if "refused" in packed:
        raise refuse(packed["refused"])
    servers: dict[str, str] = {}  # most operations have the same one
    return tuple(
        _operation({**each, "server": servers.setdefault(each["server"], each["server"])})
        for each in packed["operations"]
    )


def refused(error: BudgetExceeded, refuse: ErrorFactory) -> InvalidRequest:
    """Return the error for a document that exceeded its budget."""
    return refuse(
        f"the document could not be read: {error.clause}. Use fewer operations, or schemas with fewer repeated parts"
    )


def _pack(operation: Operation) -> JsonObject:
    # `parameters` repeat the schemas of the fields; credentials are bound later and never leave the server.
    names = ("name", "description", "is_consequential", "method", "server", "path")
    packed: JsonObject = {name: getattr(operation, name) for name in names}
    packed["fields"] = [asdict(each) for each in operation.fields]
    packed["body"] = None if operation.body is None else asdict(operation.body)
    return packed


def _operation(packed: JsonObject) -> Operation:
    fields = tuple(Field(**each) for each in packed["fields"])
    body = None if packed["body"] is None else _body(packed["body"])
    return Operation(
        **{**packed, "fields": fields, "body": body, "parameters": build_parameters(fields, body)}
    ).counted()


def _body(packed: JsonObject) -> Body:
    return Body(**{**packed, "fields": tuple(FieldOf(**each) for each in packed["fields"])})
