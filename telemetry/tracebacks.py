"""Frees what handled errors refer to."""

import traceback

__all__ = ["clear_tracebacks"]


def clear_tracebacks(error: BaseException | None) -> None:
    """Clear the variables of all frames that an error, its causes and its contexts passed through, and separate these
    errors from their tracebacks and from each other.

    Call this at the outermost frame that handles an error, after the error was logged. A frame that awaits a future
    refers to the future's error, which refers to the frame by its traceback. Without this call, the variables of all
    these frames stay in memory until the garbage collector runs: the history of a failed run, or the body of a refused
    request.
    """
    left, seen = [error], set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        left += [each.__cause__, each.__context__]
        each.__traceback__ = each.__cause__ = each.__context__ = None
