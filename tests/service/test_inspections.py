"""What will run on a model, asked before an audit: known at once, or found out by a real worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi.testclient import TestClient

from auditcore.contracts.inspection import InspectionRequest
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.inspections import (
    KEPT_S,
    answer_inspection,
    ask_for_inspection,
    find_inspection,
    forget_inspections,
)
from auditcore_service.store.records import Failure
from auditcore_service.store.tables import INSPECTIONS
from auditcore_service.use_cases.inspections import Inspections
from queues import ONLY_REDIS
from small_model import SMALL_MODEL
from worker_in_process import worker_of

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedService]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("inspect"), redis_url=None, port=0, threads=1, device="cpu")
    with EmbeddedService(settings) as running:
        yield running


def ask(service: EmbeddedService, model: dict[str, Any], **more: Any) -> httpx.Response:
    """Ask until a worker has looked."""
    with httpx.Client(base_url=service.base_url, timeout=60) as client:
        for _ in range(20):
            answer = client.post("/v1/models:inspect", json={"model": model, **more})
            if answer.status_code != 202:
                return answer
    raise AssertionError(answer.text)


def test_a_worker_loads_the_model_and_tests_every_explainer_and_check(service: EmbeddedService) -> None:
    found = ask(service, SMALL_MODEL).json()
    assert found["complete"]
    assert found["capabilities"]["gradients"]
    assert found["found"]["classes"] == 5
    explainers = {one["name"]: one for one in found["explainers"]}
    assert explainers["gradient"] == {"name": "gradient", "runs": True, "reason": None, "layer": None}
    assert explainers["occlusion"]["runs"]
    assert {one["runs"] for one in found["checks"]} == {True}
    assert len(found["checks"]) == 13


def test_of_a_plan_its_own_explainers_are_looked_at_under_their_names(service: EmbeddedService) -> None:
    plan = {
        "explainers": [{"kind": "gradient", "name": "mine"}, {"kind": "grad_cam", "layer": "nowhere"}],
        "checks": [{"kind": "deletion", "name": "cells"}],
    }
    found = ask(service, SMALL_MODEL, plan=plan).json()
    assert [(one["name"], one["runs"]) for one in found["explainers"]] == [("mine", True), ("grad_cam", False)]
    assert "nowhere" in found["explainers"][1]["reason"]
    assert found["checks"] == [{"name": "cells", "runs": True, "reason": None, "layer": None}]


def test_a_model_that_no_worker_can_load_is_a_problem_at_every_request(service: EmbeddedService) -> None:
    wrong = {**SMALL_MODEL, "name": "mobilenet_v3_smal"}
    for _ in range(2):
        answer = ask(service, wrong)
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_request"
        assert answer.json()["errors"][0]["pointer"] == "#/model/name"
        assert "mobilenet_v3_small" in answer.json()["detail"]


def test_a_forbidden_reference_is_refused_before_it_is_read(client: TestClient) -> None:
    answer = client.post(
        "/v1/models:inspect", json={"model": {**SMALL_MODEL, "weights": {"uri": "file:///etc/passwd"}}}
    )
    assert answer.status_code == 422
    assert answer.json()["code"] == "unsafe_reference"


def test_without_a_worker_the_answer_is_what_is_known(make_settings: Callable[..., Settings]) -> None:
    with TestClient(create_app(make_settings(inspection_wait_s=0.3))) as client:
        answer = client.post("/v1/models:inspect", json={"model": SMALL_MODEL})
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "2"
    found = answer.json()
    assert not found["complete"]
    explainers = {one["name"]: one["runs"] for one in found["explainers"]}
    assert explainers["random"] is True
    assert explainers["grad_cam"] is None


@pytest.mark.parametrize("queue_kind", ONLY_REDIS)  # without it, workers look into the database themselves
def test_a_lost_message_is_sent_again_by_the_next_request(
    make_settings: Callable[..., Settings], queue_kind: str
) -> None:
    settings = make_settings(queue=queue_kind, inspection_wait_s=0.2, requeue_after_s=5.0)
    parts = Service.of(settings)
    parts.database.migrate()
    request = InspectionRequest.model_validate({"model": SMALL_MODEL, "plan": {"preset": "quick"}})
    now = 1000.0
    inspections = Inspections(settings, database=parts.database, queue=parts.queue, clock=lambda: now)
    try:
        assert not anyio.run(inspections.inspect, ANONYMOUS, request).complete
        assert parts.queue.depth("gpu") == 1
        now += 4.9
        assert not anyio.run(inspections.inspect, ANONYMOUS, request).complete
        assert parts.queue.depth("gpu") == 1
        now += 0.2
        assert not anyio.run(inspections.inspect, ANONYMOUS, request).complete
        assert parts.queue.depth("gpu") == 2
    finally:
        parts.queue.close()
        parts.database.close()


def test_a_request_that_waits_gets_the_answer_as_soon_as_it_is_there(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(inspection_wait_s=30.0)
    parts = Service.of(settings)
    parts.database.migrate()
    executor = worker_of(parts)

    def work() -> None:
        while True:
            time.sleep(0.1)
            with parts.database.reading("default") as connection:
                digest = connection.execute(INSPECTIONS.select()).scalars().first()
            if digest is not None:
                executor.inspect(digest)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        started = time.monotonic()
        found = anyio.run(
            parts.inspections.inspect, ANONYMOUS, InspectionRequest.model_validate({"model": SMALL_MODEL})
        )
        assert found.complete
        assert time.monotonic() - started < 29
    finally:
        thread.join()
        parts.queue.close()
        parts.database.close()


def test_an_inspection_is_kept_answered_and_forgotten(database: Database) -> None:
    with database.writing("default") as connection:
        ask_for_inspection(connection, DIGEST, request="{}", reference="{}", now=10.0)
        ask_for_inspection(connection, DIGEST, request="{}", reference="{}", now=20.0)
        stored = find_inspection(connection, DIGEST)
        assert stored is not None
        assert (stored.queued_at, stored.answer, stored.failure) == (20.0, None, None)
        answer_inspection(connection, DIGEST, answer=None, failure=Failure("code", "why", "model"))
        stored = find_inspection(connection, DIGEST)
        assert stored is not None
        assert stored.failure == Failure("code", "why", "model")
        assert forget_inspections(connection, now=20.0 + KEPT_S) == 0
        assert forget_inspections(connection, now=20.1 + KEPT_S) == 1
        assert find_inspection(connection, DIGEST) is None
