"""Creating and changing assistants: name, instructions, model, tools; errors of a tool are shown while typing."""

import json
from typing import Any

import pytest

from tests.process import ServerProcess
from tests.web.page import Page

_OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "T", "version": "1"},
    "servers": [{"url": "https://example.test"}],
    "paths": {"/x": {"get": {"operationId": "getX", "responses": {"200": {"description": "OK"}}}}},
}


def _findings(page: Page, number: int = 0) -> str:
    return str(page.js("return document.querySelectorAll('#mTools [role=status]')[arguments[0]].textContent", number))


def _only(server: ServerProcess) -> dict[str, Any]:
    (found,) = [a for a in server.request("GET", "/assistants")["data"] if "threadhold" not in a["metadata"]]
    return dict(found)


def test_an_assistant_with_a_function_and_an_api_is_created(page: Page, server: ServerProcess) -> None:
    page.click("create")
    page.type("mName", "Clerk")
    page.type("mModel", "clerk-model")
    page.type("mText", "File everything.")
    page.click("addFunction")
    page.fill(page.all("#mTools textarea")[0], json.dumps({"name": "file_it", "parameters": {"type": "object"}}))
    page.click("addAction")
    page.fill(page.all("#mTools textarea")[1], json.dumps(_OPENAPI))
    page.all("#mTools input[type=checkbox]")[0].click()
    assert [_findings(page, 0), _findings(page, 1)] == ["Looks right.", "Looks right."]
    page.click("mSave")
    page.until("return !document.getElementById('maker').open", "it is saved")
    made = _only(server)
    assert (made["name"], made["model"], made["instructions"]) == ("Clerk", "clerk-model", "File everything.")
    function, action = made["tools"]
    assert function["function"]["name"] == "file_it"
    assert action["type"] == "action"
    assert action["data"]["is_consequential"] is True
    assert page.js("return document.getElementById('assistant').selectedOptions[0].text") == "Clerk"
    page.send("Hello")
    page.shows("Echo: Hello")
    page.idle()
    assert page.runs()[0]["assistant_id"] == made["id"]


def test_editing_an_assistant_keeps_unchanged_fields(page: Page, server: ServerProcess) -> None:
    tools = [
        {"type": "code_interpreter"},
        {"type": "action", "data": {"openapi_spec": json.dumps(_OPENAPI), "headers": {"X-Key": "secret-value"}}},
    ]
    about = {"model": "old-model", "name": "Old", "instructions": "Old ways.", "metadata": {"team": "blue"}}
    made = server.request("POST", "/assistants", {**about, "tools": tools})
    page.reload()
    page.choose("assistant", made["id"])
    page.click("edit")
    assert page.wait_id("mText").get_attribute("value") == "Old ways."
    page.type("mName", "New")
    page.click("mSave")
    page.until("return !document.getElementById('maker').open", "it is saved")
    now = _only(server)
    assert (now["id"], now["name"], now["model"]) == (made["id"], "New", "old-model")
    assert now["metadata"] == {"team": "blue"}
    assert now["tools"] == made["tools"]
    page.eventually(
        lambda: page.js("return document.getElementById('assistant').selectedOptions[0].text") == "New",
        "the list has the new name",
    )


@pytest.mark.soak
def test_a_function_is_extracted_from_a_pasted_tool(page: Page, server: ServerProcess) -> None:
    function = {"name": "file_it", "parameters": {"type": "object", "properties": {}}}
    page.click("create")
    page.click("addFunction")
    page.fill(page.all("#mTools textarea")[0], json.dumps({"type": "function", "function": function}))
    assert _findings(page) == "Looks right."
    page.click("mSave")
    page.until("return !document.getElementById('maker').open", "it is saved")
    (tool,) = _only(server)["tools"]
    assert tool["function"]["name"] == "file_it"
    assert tool["function"]["parameters"] == function["parameters"]


_INVALID = {
    "addFunction": [
        ('{"name": ', "Invalid JSON"),
        ('{"name": "two words"}', '"name"'),
        ("{}", '"name"'),
        ("", '"name"'),
        ('{"name": 5}', '"name"'),
        ('{"type": "function", "function": {}}', '"name"'),
        ('{"name": "x", "parameters": []}', '"parameters"'),
    ],
    "addAction": [
        ("openapi: 2.0\npaths: {}", '"openapi'),
        ("openapi: 3.0.3\n", '"paths"'),
        ('{"openapi": "3.0.3", ', "Invalid JSON"),
    ],
}
"""The button that adds a tool → invalid texts, each with a part of the problem that the page shows."""


@pytest.mark.parametrize("button", _INVALID)
def test_a_tool_is_checked_while_typing_and_not_sent_if_invalid(page: Page, server: ServerProcess, button: str) -> None:
    page.click("create")
    page.click(button)
    assert _findings(page) == "Looks right."
    box = page.all("#mTools textarea")[0]
    for text, problem in _INVALID[button]:
        page.fill(box, text)
        assert problem in _findings(page)
        assert box.get_attribute("aria-invalid") == "true"
        page.click("mSave")
        assert page.js("return document.activeElement === arguments[0]", box)
    assert server.request("GET", "/assistants")["data"] == []


@pytest.mark.soak
def test_errors_from_the_server_are_shown_in_the_dialog(page: Page, server: ServerProcess) -> None:
    page.click("create")
    page.type("mName", "Bad")
    page.click("addAction")
    page.fill(page.all("#mTools textarea")[0], json.dumps({**_OPENAPI, "info": {}}))
    page.click("mSave")
    page.until("return document.querySelector('#mProblem [role=alert]')", "the error is shown")
    result = page.by_id("mProblem").text
    assert "→ " in result
    assert "req_" in result
    assert server.request("GET", "/assistants")["data"] == []
    page.press("Remove this tool")
    page.click("mSave")
    page.until("return !document.getElementById('maker').open", "it is saved")
    assert _only(server)["name"] == "Bad"
