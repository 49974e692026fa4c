"""``/docs``: Swagger UI over ``/openapi.json``, served by this process alone, so that it works without the internet.

The assets come out of the package fastapi-offline; the page that loads them is ours, because its policy is:
nothing is loaded from anywhere else, and a key typed into the page goes to this origin only.
"""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from producers.http.refused import RequestRefused
from schemas.errors import invalid_request

ASSETS_DISTRIBUTION: Final = "fastapi-offline"
ASSETS_FOLDER: Final = "fastapi_offline/static"
# `data:` is for the pictures within Swagger UI's own style sheet, `unsafe-inline` for the styles that it sets.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Another version of us has other assets under the same names.
    "cache-control": "no-cache",
}
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
_OWN: Final = "start.js"
_VENDORED: Final = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


def documentation_routes() -> APIRouter:
    """The page and its assets, which are read now, once. They are not part of the API that they document."""
    router = APIRouter(include_in_schema=False)
    own = Path(__file__).parent
    page = own.joinpath("page.html").read_bytes()
    # Found as files: importing the package would run code of which nothing is needed.
    vendored = Path(str(distribution(ASSETS_DISTRIBUTION).locate_file(ASSETS_FOLDER)))
    assets = {
        file.name: (file.read_bytes(), _KINDS[file.suffix])
        for file in (own / _OWN, *(vendored / name for name in _VENDORED))
    }

    @router.get("/docs")
    async def show_page() -> Response:
        return Response(page, media_type="text/html", headers=_HEADERS)

    @router.get("/docs/{name}")
    async def show_asset(name: str) -> Response:
        if name not in assets:
            raise RequestRefused(invalid_request("Unknown request URL.", code="unknown_url", status=404))
        content, media_type = assets[name]
        return Response(content, media_type=media_type, headers=_HEADERS)

    return router
