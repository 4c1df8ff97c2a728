"""Every answer of every route tells browsers what a page may do, also answers to errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from auditcore.report.failure import AuditFailure
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.authenticate import is_public
from auditcore_service.gateway.security_headers import HEADERS
from auditcore_service.settings import Settings
from auditcore_service.use_cases.representations import render_failure

DOCUMENTATION = ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js")


def checked(answer: Any, method: str, path: str) -> None:
    for name, value in HEADERS.items():
        if name == "Content-Security-Policy" and path in DOCUMENTATION:
            assert "unsafe" not in answer.headers[name], path
            assert "frame-ancestors 'none'" in answer.headers[name], path
        else:
            assert answer.headers[name] == value, (method, path, name)
    assert len(answer.headers.get_list("Content-Security-Policy")) == 1
    # what only its tenant may see is in no shared cache
    public = is_public(method, path)
    control = answer.headers.get("Cache-Control", "")
    assert public or "private" in control or "no-store" in control, (method, path, control)


@pytest.mark.parametrize("authentication", ["none", "required"])
def test_every_answer_has_them(make_settings: Callable[..., Settings], authentication: str) -> None:
    settings = make_settings(authentication=authentication, inspection_wait_s=0.05)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        document = client.get("/openapi.json").json()
        walked = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
        assert len(walked) > 40
        walked += [("GET", path) for path in ("/", *DOCUMENTATION, "/openapi.json", "/nowhere", "/v1/%00")]
        walked += [("OPTIONS", "/v1/audits"), ("HEAD", "/v1/audits"), ("PUT", "/v1/audits"), ("INVENTED", "/livez")]
        for method, path in walked:
            for body in ({}, {"content": b"{", "headers": {"Content-Type": "application/json"}}):
                checked(client.request(method, path, follow_redirects=False, **body), method, path)


def test_an_answer_to_a_fault_has_them(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("auditcore_service.use_cases.audits.Audits.get", fail)
    answer = client.get("/v1/audits/x")
    assert answer.status_code == 500
    checked(answer, "GET", "/v1/audits/x")


def test_pages_need_nothing_that_they_forbid() -> None:
    failure = AuditFailure(audit_id="x", state="failed", code="internal_error", message="x", field=None, seconds=1.0)
    page = render_failure(failure, "text/html").decode()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
