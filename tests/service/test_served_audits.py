"""Audits of served models through the service: pinned at submit, and what becomes of them when the server fails."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

import digits
from auditcore.contracts.report import AuditReport
from auditcore.sources.servers.client import BRIEF_ATTEMPTS
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from auditcore_service.worker.execution import Executor
from scripted_server import Asked, Reply, Scripted, scripted
from worker_in_process import worker_of

PLAN = {
    "explainers": [{"kind": "ablation", "grid": 4}, {"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
}
IMAGES = 4


class Server:
    """The digits network behind JSON of the Open Inference Protocol v2, with a switch for every kind of trouble.

    Attributes:
        network: What answers.
        version: What it says it serves.
        failing: How many of the next requests for scores fail; they are counted down.
        down: Whether all of them do.
        classes: Columns that are answered, of ten.
        datatype: Of the input, as the metadata says.
    """

    def __init__(self) -> None:
        self.network: torch.nn.Module = digits.trained()
        self.version = "1"
        self.failing = 0
        self.down = False
        self.classes = 10
        self.datatype = "FP32"

    def __call__(self, asked: Asked) -> Reply:
        if asked.path.startswith("/v2/models/") and asked.path.split("/")[3] != "digits":
            return Reply(404, b'{"error": "unknown model"}')
        if asked.path == "/v2":
            return self._said({"name": "scripted", "version": "1", "extensions": []})
        if asked.method == "GET":
            return self._said(
                {
                    "name": "digits",
                    "versions": [self.version],
                    "platform": "onnx",
                    "inputs": [{"name": "x", "datatype": self.datatype, "shape": [-1, 3, digits.SIDE, digits.SIDE]}],
                    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}],
                }
            )
        if self.down or self.failing > 0:
            self.failing -= 1
            return Reply(503, b"out of memory")
        given = json.loads(asked.body)["inputs"][0]
        with torch.no_grad():
            scores = self.network(torch.tensor(given["data"], dtype=torch.float32).reshape(given["shape"]))
        scores = scores[:, : self.classes]
        output = {"name": "y", "datatype": "FP32", "shape": list(scores.shape), "data": scores.flatten().tolist()}
        return self._said({"model_name": "digits", "model_version": self.version, "outputs": [output]})

    @staticmethod
    def _said(content: dict[str, Any]) -> Reply:
        return Reply(content=json.dumps(content).encode(), headers={"Content-Type": "application/json"})


class Workplace:
    """A gateway, and a worker that runs when it is told to."""

    def __init__(self, settings: Settings, server: Server, running: Scripted) -> None:
        self.server, self.running = server, running
        self.client = TestClient(create_app(settings), raise_server_exceptions=False)
        self.client.__enter__()
        self.service: Service = self.client.app.state.service  # type: ignore[attr-defined]
        self.settings = settings
        self.executor = self.worker()

    def worker(self) -> Executor:
        """One that has loaded nothing yet."""
        return worker_of(self.service)

    def body(self, **model: Any) -> dict[str, Any]:
        files = [("images", (f"{n}.png", io.BytesIO(digits.png(n)))) for n in range(IMAGES)]
        batch = self.client.post("/v1/image-batches", files=files).json()
        reference = {
            "kind": "open_inference",
            "url": self.running.url,
            "name": "digits",
            "outputs": "logits",
            "preprocessing": digits.PREPROCESSING.model_dump(mode="json"),
            "limits": {"attempts": 2},
            **model,
        }
        return {"model": reference, "images": {"kind": "batch", "digest": batch["digest"]}, "plan": PLAN}

    def submit(self, **model: Any) -> str:
        answer = self.client.post("/v1/audits", json=self.body(**model))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def queued(self, audit_id: str) -> list[Any]:
        with self.service.database.reading("default") as connection:
            return [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]

    def step(self, audit_id: str, worker: Executor | None = None) -> None:
        """Run the first queued shard, if it does not have to wait."""
        if not (worker or self.executor).run(self.queued(audit_id)[0]):
            time.sleep(0.02)

    def work(self, audit_id: str) -> dict[str, Any]:
        while self.queued(audit_id):
            self.step(audit_id)
        return dict(self.client.get(f"/v1/audits/{audit_id}").json())

    def report(self, audit_id: str) -> AuditReport:
        return AuditReport.model_validate_json(self.client.get(f"/v1/audits/{audit_id}/report").content)


@pytest.fixture
def place(make_settings: Callable[..., Settings]) -> Iterator[Workplace]:
    server = Server()
    with scripted(server) as running:
        settings = make_settings(
            server_prefixes=(f"{running.url}/", "http://127.0.0.1:9/"),
            heartbeat_s=0.05,
            shard_images=2,
            environment_wait_s=0.1,
            patience_s=1,
        )
        workplace = Workplace(settings, server, running)
        yield workplace
        workplace.client.__exit__(None, None, None)


def test_an_audit_is_pinned_at_submit_and_keeps_its_request(place: Workplace) -> None:
    audit_id = place.submit()
    assert place.work(audit_id)["state"] == "succeeded"
    report = place.report(audit_id)
    assert report.model is not None
    reference = report.model.reference
    assert (reference.version, reference.sha256 is not None) == ("1", True)  # type: ignore[union-attr]
    assert report.model.parameters is None
    gradient = [row for row in report.results if row.explainer == "gradient"]
    assert gradient
    assert all(row.mean is None and row.reasons for row in gradient)
    assert any(row.mean is not None for row in report.results if row.explainer == "ablation")


def test_a_server_that_restarts_costs_time_and_no_number(place: Workplace) -> None:
    undisturbed = place.submit()
    assert place.work(undisturbed)["state"] == "succeeded"
    disturbed = place.submit()
    place.step(disturbed)
    # both tries of the next shard
    place.server.failing = 2
    status = place.work(disturbed)
    assert status["state"] == "succeeded"
    one, other = place.report(undisturbed), place.report(disturbed)
    assert other.results == one.results
    assert other.manifest.attempts == one.manifest.attempts + 1


def test_a_server_that_stays_away_ends_in_a_failed_audit_with_the_reason(place: Workplace) -> None:
    audit_id = place.submit()
    place.step(audit_id)
    place.server.down = True
    before, started = len(place.running.asked), time.monotonic()
    status = place.work(audit_id)
    assert status["state"] == "failed"
    assert (status["error"]["code"], status["error"]["field"]) == ("server_failing", "model.url")
    assert "503" in status["error"]["message"]
    assert "out of memory" in status["error"]["message"]
    # attempts with growing waits for a second, with two tries each, and the requests at the start of each attempt
    assert len(place.running.asked) - before < 60
    assert time.monotonic() - started < 60
    assert place.client.get(f"/v1/audits/{audit_id}/report").status_code == 404


@pytest.mark.parametrize("change", ["version", "weights"])
def test_another_model_in_mid_audit_fails_it_at_once(place: Workplace, change: str) -> None:
    audit_id = place.submit()
    place.step(audit_id)
    if change == "version":
        place.server.version = "2"
    else:
        place.server.network = digits.DigitNet().eval()
    status = place.work(audit_id)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "model_changed"
    assert "Traceback" not in status["error"]["message"]


def test_another_model_that_only_another_worker_saw_fails_the_audit(place: Workplace) -> None:
    audit_id = place.submit()
    place.step(audit_id)
    place.server.network = digits.DigitNet().eval()
    while place.queued(audit_id):
        place.step(audit_id, place.worker())
    status = place.client.get(f"/v1/audits/{audit_id}").json()
    assert status["state"] == "failed"
    assert (status["error"]["code"], status["error"]["field"]) == ("model_changed", "model.version")
    assert "parts of the audit" in status["error"]["message"]


def test_the_next_audit_is_of_the_model_that_is_there_then(place: Workplace) -> None:
    """Also if the server does not report the change, and no matter which worker has seen the first model."""
    first = place.submit()
    assert place.work(first)["state"] == "succeeded"
    place.server.network = digits.DigitNet().eval()
    second = place.submit()
    assert place.work(second)["state"] == "succeeded"
    before, after = (
        [(row.explainer, row.metric, row.mean) for row in place.report(one).results] for one in (first, second)
    )
    assert before != after


def test_fewer_classes_than_announced_fail_the_audit(place: Workplace) -> None:
    audit_id = place.submit()
    place.server.classes = 7
    status = place.work(audit_id)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "model_output_invalid"
    assert "10" in status["error"]["message"]
    assert "7" in status["error"]["message"]


@pytest.mark.parametrize(
    ("model", "datatype", "code", "pointer"),
    [
        ({"name": "digitz"}, "FP32", "invalid_request", "#/model/name"),
        ({"url": "http://127.0.0.1:9"}, "FP32", "unreachable_resource", "#/model/url"),
        ({"url": "http://127.0.0.1:8"}, "FP32", "unsafe_reference", "#/model/url"),
        ({}, "BYTES", "model_output_invalid", "#/model/input"),
        ({"limits": {"attempts": 1, "requests": 3}}, "FP32", "request_budget_exceeded", "#/model/limits/requests"),
    ],
    ids=["wrong name", "no server", "not allowed", "wrong dtype", "more requests than the budget"],
)
def test_what_cannot_be_is_refused_with_and_without_submitting_and_nothing_is_stored(
    place: Workplace, model: dict[str, Any], datatype: str, code: str, pointer: str
) -> None:
    place.server.datatype = datatype
    for path in ("/v1/audits", "/v1/estimates"):
        refused = place.client.post(path, json=place.body(**model))
        assert refused.status_code == 422, refused.text
        problem = refused.json()
        assert refused.headers["content-type"] == "application/problem+json"
        assert (problem["code"], [error["pointer"] for error in problem["errors"]]) == (code, [pointer])
    assert place.client.get("/v1/audits").json()["items"] == []


def test_a_server_that_does_not_answer_keeps_no_thread_of_the_gateway_for_long(place: Workplace) -> None:
    place.running.script = lambda _: Reply(503, b"starting")
    started = time.monotonic()
    refused = place.client.post("/v1/audits", json=place.body(limits={"attempts": 20}))
    assert (refused.status_code, refused.json()["code"]) == (422, "server_failing")
    assert len(place.running.asked) == BRIEF_ATTEMPTS
    assert time.monotonic() - started < 10
