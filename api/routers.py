"""Creates the API's routers: every path starts with `/v1`, and every route is built once."""

from fastapi import APIRouter
from fastapi.routing import APIRoute

from api.unversioned_paths import VERSION_PREFIX

__all__ = ["api_router", "operation_id"]


def operation_id(route: APIRoute) -> str:
    """Return the operation id of a route in the OpenAPI document: short and stable, as in OpenAI's own document."""
    return route.name


def api_router(tag: str, route_class: type[APIRoute] = APIRoute) -> APIRouter:
    """Return a router for paths of the API; `tag` groups its operations in the OpenAPI document.

    Its routes are complete, and the app adds them unchanged (`api.app.build_app`). `include_router` would build each of
    them a second time, which takes 4 ms of processor time per route at every start.
    """
    return APIRouter(
        prefix=VERSION_PREFIX, tags=[tag], route_class=route_class, generate_unique_id_function=operation_id
    )
