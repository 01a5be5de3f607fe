"""API paths work without `/v1`; the paths of other routes are unchanged."""

from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from api.app import _ROUTERS, Access, build_app
from api.route_paths import RoutePaths
from api.unversioned_paths import UnversionedPaths

OTHERS = {"/", "/page/{name}", "/metrics"}
PATHS = sorted({route.path for _, router in _ROUTERS for route in router.routes} - OTHERS)  # type: ignore[attr-defined]


async def show(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.scope['path']} {request.scope['raw_path'].decode()}")


@pytest.fixture(scope="module")
def shown() -> TestClient:
    """A server with the API's routes and three others. Each route returns the path that it received."""
    paths = [*PATHS, *OTHERS, "/chat/invoke"]
    app = Starlette(routes=[Route(path, show, methods=["GET", "POST"]) for path in paths])
    app.state.route_paths = RoutePaths(app.routes)
    app.add_middleware(UnversionedPaths)
    return TestClient(app)


@pytest.mark.parametrize("path", PATHS)
def test_every_route_of_the_api_is_found_without_its_prefix(shown: TestClient, path: str) -> None:
    path = path.replace("{model:path}", "a/b")
    assert path.startswith("/v1/")
    assert shown.get(path.removeprefix("/v1")).text.split()[0] == path
    assert shown.get(path).text.split()[0] == path


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/chat/invoke", "/metrics"])
def test_other_paths_stay(shown: TestClient, path: str) -> None:
    assert shown.get(path).text == f"{path} {path}"


@pytest.mark.parametrize("path", ["/v1/v1/threads", "/v2/threads", "/v1threads", "//threads", "/threads/", "/v1"])
def test_unknown_paths_are_unknown(shown: TestClient, path: str) -> None:
    assert shown.get(f"http://testserver{path}").status_code == 404


def test_an_encoded_path_stays_encoded(shown: TestClient) -> None:
    assert shown.get("/models/a%2Fb%20c?x=%20").text == "/v1/models/a/b c /v1/models/a%2Fb%20c"


def test_each_operation_exists_once() -> None:
    app: Any = build_app(lambda: None, access=Access(), version="0")  # type: ignore[arg-type,return-value]
    found = [(route.path, method) for route in app.routes if isinstance(route, APIRoute) for method in route.methods]
    assert len(found) == len(set(found)) > 60
