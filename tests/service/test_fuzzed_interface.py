"""Schemathesis over the OpenAPI document, against a real gateway on a real port: no fault, every answer as declared.

A few cases of each operation here; `make fuzz` makes many. FUZZ_EXAMPLES says how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import schemathesis
import schemathesis.checks
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from auditcore_service.principals import SCOPES, Principal
from auditcore_service.settings import Settings
from running_gateway import running_gateway, url_of

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CASES = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 10,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ANYBODY = Principal("fuzz", None, frozenset(SCOPES))


class Running:
    """A gateway and what to send to be let in."""

    def __init__(self, server: uvicorn.Server, headers: dict[str, str]) -> None:
        self.url, self.headers = url_of(server), headers
        self.schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", timeout=120)


@pytest.fixture(params=["none", "required"])
def running(make_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[Running]:
    # no worker runs, so nothing waits for one
    options = make_settings(
        authentication=request.param, inspection_wait_s=0.01, failed_authentications_per_minute=None, stalled_s=300
    )
    with running_gateway(options) as server:
        headers = {}
        if request.param == "required":
            service = server.config.app.state.service  # type: ignore[union-attr]
            _, secret = service.api_keys.create(ANYBODY, name="fuzz", scopes=ANYBODY.scopes, expires_at=None)
            headers = {"Authorization": f"Bearer {secret}"}
        yield Running(server, headers)


def test_every_operation_answers_as_declared(running: Running) -> None:
    walked = 0
    for found in running.schema.get_all_operations():
        operation = found.ok()
        # it goes on until an audit ends
        if operation is None or operation.path.endswith("/events"):
            continue
        walked += 1

        @CASES
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=running.headers, checks=CHECKS, timeout=120)

        check()
    assert walked >= 40
