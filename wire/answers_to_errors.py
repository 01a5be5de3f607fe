"""Which answer a request gets when it ends in an error of ours."""

from wire.errors import (
    InsufficientStorage,
    InvalidRequest,
    MissingRow,
    NotFound,
    Problem,
    ReserveReached,
    StoreError,
    StoreFull,
    StoreLocked,
    ThreadBusy,
    ThreadholdError,
    Unavailable,
)

__all__ = ["as_problem"]


def as_problem(error: ThreadholdError) -> Problem:
    """Return the answer to a request that ended in this error."""
    match error:
        case Problem():
            return error
        case MissingRow():
            return NotFound(error.message, param="id" if error.kind == "file" else None)
        case ThreadBusy():
            return InvalidRequest(error.message)
        case ReserveReached():
            return InsufficientStorage(error.message)
        case StoreFull():
            return InsufficientStorage(
                "The server's disk is full; nothing was changed. Free some space there, then try again."
            )
        case StoreLocked():
            message = "Another program has locked the server's database; nothing was changed. Try again in a moment."
            return Unavailable(message, headers={"Retry-After": "5"})
        case StoreError():
            message = "The server cannot store anything right now; nothing was changed. Its log says why."
            return Unavailable(message, headers={"Retry-After": "5"})
        case _:
            return InvalidRequest(error.message)
