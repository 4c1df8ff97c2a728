"""A client of the command line and a gateway in one process."""

from __future__ import annotations

import httpx
from fastapi.testclient import TestClient


class InProcess(httpx.BaseTransport):
    """From a client of httpx to a gateway in this process, without a socket."""

    def __init__(self, gateway: TestClient) -> None:
        self.gateway = gateway

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = dict(request.headers)
        answer = self.gateway.request(request.method, str(request.url), content=request.read(), headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)
