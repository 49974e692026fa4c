"""The isolation matrix is of the routes that there are."""

from collections.abc import Iterator
from typing import Any

from tests.support.isolation_rows import ROWS, Kind
from tests.unit.ingest.edge_world import INGEST, SSE, _build, answer_hello

IGNORED_METHODS = {"HEAD", "OPTIONS"}


def routes_of(router: Any) -> Iterator[tuple[str, str]]:
    """Every method and path, those of included routers too, also what the OpenAPI document does not show."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes_of(included)
        else:
            yield from ((method, route.path) for method in route.methods - IGNORED_METHODS)


async def application() -> Any:
    _, exchanges = _build(answer_hello, SSE, INGEST, None)
    app: Any = exchanges
    while not hasattr(app, "openapi"):
        app = app._app
    return app


async def test_every_route_has_a_row_and_every_row_a_route() -> None:
    routes = set(routes_of(await application()))
    assert len(routes) > 20, "the routes were not found"
    assert routes == set(ROWS)


async def test_what_is_public_says_so_and_nothing_else_does() -> None:
    document = (await application()).openapi()
    described = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    public = {name for name, operation in described.items() if not operation["security"]}
    assert public == {name for name, row in ROWS.items() if row.kind is Kind.PUBLIC and name in described}


async def test_the_path_of_an_object_names_it() -> None:
    assert [path for (_, path), row in ROWS.items() if row.kind is Kind.OBJECT and "{" not in path] == []
