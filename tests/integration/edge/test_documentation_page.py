"""The page at ``/docs`` needs this server and nothing else."""

import re

import httpx2

from tests.unit.ingest.edge_world import running_edge

REFERENCE = re.compile(r'(?:href|src)="([^"#]+)"')


async def test_the_page_and_everything_that_it_loads_come_from_the_edge() -> None:
    async with running_edge() as edge, httpx2.AsyncClient(base_url=edge.url) as client:
        page = await client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        names = REFERENCE.findall(page.text)
        assert len(names) == 5
        for name in names:
            assert "//" not in name
            loaded = await client.get(f"/{name}")
            assert loaded.status_code == 200
            assert loaded.headers.get("x-content-type-options", "nosniff") == "nosniff"


async def test_only_assets_of_the_page_are_served() -> None:
    async with running_edge() as edge, httpx2.AsyncClient(base_url=edge.url) as client:
        for name in ("redoc.standalone.js", "..%2froutes.py", "page.html"):
            refused = await client.get(f"/docs/{name}")
            assert refused.status_code == 404
            assert refused.json()["error"]["code"] == "unknown_url"
        assert not any(path.startswith("/docs") for path in (await client.get("/openapi.json")).json()["paths"])
