"""Schemathesis over the OpenAPI document, against a real gateway on a real port: no fault, every answer as declared.

A few cases of each operation here; `make fuzz` makes many. FUZZ_EXAMPLES says how many. Then sequences: what one answer
holds, such as the id of a batch or of a policy, goes into the next request.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
import schemathesis.checks
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from auditcore_service.gateway.service import Service
from auditcore_service.principals import DEFAULT_TENANT, SCOPES, Principal
from auditcore_service.settings import Settings
from running_gateway import running_gateway, url_of
from two_tenants import things_of

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))
SEQUENCES, STEPS = max(EXAMPLES // 2, 5), 12
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
EVERYTHING = Principal(DEFAULT_TENANT, "fuzz", frozenset(SCOPES))


class Running:
    """A gateway and what to send to be let in."""

    def __init__(self, server: uvicorn.Server, *, with_key: bool) -> None:
        self.url = url_of(server)
        self.service: Service = server.config.app.state.service  # type: ignore[union-attr]
        self.headers = {}
        if with_key:
            _, secret = self.service.api_keys.create(EVERYTHING, name="fuzz", scopes=EVERYTHING.scopes, expires_at=None)
            self.headers = {"Authorization": f"Bearer {secret}"}
        self.schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", timeout=120)


@pytest.fixture(params=[pytest.param("none", marks=pytest.mark.long), "required"])
def running(make_settings: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[Running]:
    # no worker runs, so nothing waits for one
    options = make_settings(
        authentication=request.param, inspection_wait_s=0.01, failed_authentications_per_minute=None, stalled_s=300
    )
    with running_gateway(options) as server:
        yield Running(server, with_key=request.param == "required")


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


@pytest.mark.long
def test_sequences_of_requests_are_answered_as_declared(running: Running) -> None:
    """The stateful phase: schemathesis infers from the document which answers hold what other operations need."""
    things_of(running.service, EVERYTHING)
    answered: Counter[tuple[str, bool]] = Counter()

    class Machine(running.schema.exclude(path_regex=r"/events$").as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            del case
            return {"headers": running.headers, "timeout": 120}

        def validate_response(self, response: Any, case: schemathesis.Case, **_: Any) -> None:
            answered[case.operation.label, response.status_code < 300] += 1
            case.validate_response(response, checks=CHECKS, headers=running.headers)

    run_state_machine_as_test(Machine, settings=settings(CASES, max_examples=SEQUENCES, stateful_step_count=STEPS))
    # some follow from others, and get to what exists
    assert {label for label, succeeded in answered if succeeded and "{" in label}, answered
