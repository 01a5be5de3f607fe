"""When the row of a step with many calls is written: search results immediately, everything else in linear bytes."""

from graphs.open_calls import OpenCalls


def opened(calls: int, chars: int) -> OpenCalls:
    """Return a step of function calls and file searches, each with arguments of this many characters."""
    functions = [
        {"id": f"f{n}", "type": "function", "function": {"name": "f", "arguments": "x" * chars, "output": None}}
        for n in range(calls)
    ]
    searches = [{"id": f"s{n}", "type": "file_search", "file_search": {}} for n in range(calls)]
    return OpenCalls({"type": "tool_calls", "tool_calls": [*functions, *searches]})


def test_search_results_are_written_immediately_into_a_large_step() -> None:
    calls = opened(40, 800)
    calls.answer({"f0": "done"})
    assert calls.is_behind
    assert not calls.is_far_behind
    calls.show_details("s0", {"results": [{"file_id": "file-a", "score": 1.0}]}, [[]])
    assert calls.is_far_behind
    calls.note_written()
    assert not calls.is_behind
    calls.answer({"f1": "done"})
    assert not calls.is_far_behind


def test_many_searches_do_not_rewrite_a_large_step_each_time() -> None:
    calls = opened(100, 20_000)
    written = 0
    for number in range(100):
        calls.show_details(f"s{number}", {"results": [{"file_id": "file-a", "score": 1.0}]}, [[]])
        if calls.is_far_behind:
            written += 1
            calls.note_written()
    assert 1 <= written <= 10
