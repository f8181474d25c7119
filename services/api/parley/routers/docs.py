"""
The API's documentation, with no internet: the fastapi-offline wheel carries both bundles.

FastAPI's own pages load theirs from a CDN.
"""

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS_PATH = "/docs/assets"

# Relative to /docs and /redoc, so that a proxy's prefix needs no setting here.
_OPENAPI = "openapi.json"
_ASSETS = ASSETS_PATH.removeprefix("/")
_FAVICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M1 2h14v9H7l-4 4v-4H1z' fill='%23069'/%3E%3C/svg%3E"
)
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'{scripts}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; {page}"
)


class _Bundles(StaticFiles):
    """Kept by browsers, which ask whether they are still the same."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def bundles() -> StaticFiles:
    return _Bundles(packages=[("fastapi_offline", "static")])


def _page(html: Response, policy: str) -> Callable[[], Awaitable[Response]]:
    body = bytes(html.body)
    inline = re.findall(rb"<script>(.*?)</script>", body, re.DOTALL)
    hashes = [b64encode(sha256(script).digest()).decode() for script in inline]
    scripts = "".join(f" 'sha256-{digest}'" for digest in hashes)
    headers = {
        "Content-Security-Policy": _POLICY.format(scripts=scripts, page=policy),
        "Cross-Origin-Opener-Policy": "same-origin",
    }

    async def get_page() -> Response:
        return HTMLResponse(body, headers=headers)

    return get_page


def create_router(title: str) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    swagger = get_swagger_ui_html(
        openapi_url=_OPENAPI,
        title=title,
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=_FAVICON,
    )
    redoc = get_redoc_html(
        openapi_url=_OPENAPI,
        title=title,
        redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
        redoc_favicon_url=_FAVICON,
        with_google_fonts=False,
    )
    router.get("/docs")(_page(swagger, "style-src 'self'"))
    # Redoc writes its styles into the page, and searches in a worker of its own making.
    router.get("/redoc")(_page(redoc, "style-src 'unsafe-inline'; worker-src blob:"))
    return router
