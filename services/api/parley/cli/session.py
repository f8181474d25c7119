"""Who is logged in, on every request of a client."""

from collections.abc import Generator
from http import HTTPStatus
from typing import Any

import httpx2


class Session(httpx2.Auth):
    """
    An access token that has run out is renewed on the way.

    Where it cannot be renewed, the answer to that is the answer to what was asked.
    """

    def __init__(self, renewal_url: str, tokens: dict[str, Any]) -> None:
        self._renewal_url = renewal_url
        self._tokens = tokens

    @property
    def proof(self) -> dict[str, str]:
        return {"refresh_token": self._tokens["refresh_token"]}

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        answer = yield self._signed(request)
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            return
        renewed = yield httpx2.Request("POST", self._renewal_url, json=self.proof)
        if renewed.is_success:
            renewed.read()
            self._tokens = renewed.json()
            yield self._signed(request)

    def _signed(self, request: httpx2.Request) -> httpx2.Request:
        request.headers["Authorization"] = f"Bearer {self._tokens['access_token']}"
        return request
