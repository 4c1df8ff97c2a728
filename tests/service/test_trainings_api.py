"""`/v1/trainings`: what is accepted, what is refused, and what comes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import safetensors.numpy
from fastapi.testclient import TestClient
from pydantic import SecretStr

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.settings import Settings
from auditcore_service.worker.measured_speeds import MeasuredSpeeds
from auditcore_service.worker.training_task import TrainedSteps
from service_trainings import ALLOWED, IMAGES, MODEL, PLAN, body_of, store_digits, submit, undisturbed
from worker_in_process import worker_of

NOWHERE = f"sha256:{0:064d}"
AUDIT = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}


@pytest.fixture
def make_client(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., TestClient]]:
    opened: list[TestClient] = []

    def make(**overrides: object) -> TestClient:
        settings = make_settings(**(ALLOWED | overrides))
        opened.append(TestClient(create_app(settings), raise_server_exceptions=False))
        return opened[-1].__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def work(client: TestClient) -> None:
    """Do everything that waits, as a worker does."""
    worker = worker_of(service_of(client))
    while worker.run_next():
        pass


def refused(client: TestClient, body: dict[str, Any], status: int, code: str, pointer: str, said: str) -> None:
    answer = client.post("/v1/trainings", json=body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code, problem
    (error,) = problem["errors"]
    assert error["pointer"] == pointer
    assert said in error["detail"]
    assert client.get("/v1/trainings").json()["items"] == []


def test_a_training_gives_weights_that_an_audit_names(
    make_client: Callable[..., TestClient], database_url: str
) -> None:
    client = make_client(database_url=SecretStr(database_url))
    images = store_digits(service_of(client))
    answer = client.post("/v1/trainings", json=body_of(images) | {"name": "first", "tags": {"data": "digits"}})
    assert answer.status_code == 202
    training = answer.json()
    assert answer.headers["location"] == training["links"]["self"] == f"/v1/trainings/{training['id']}"
    assert (training["state"], training["images"], training["estimate"]["basis"]) == ("queued", IMAGES, "assumed")
    # 30 images are learned from in 3 epochs, forward and back; 10 are measured after each
    assert training["estimate"]["forward_images"] == 3 * (30 + 10)
    assert training["estimate"]["backward_images"] == 3 * 30
    for path in ("report", "weights"):
        early = client.get(training["links"][path])
        assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    work(client)

    status = client.get(training["links"]["self"]).json()
    assert (status["state"], status["fraction"], status["error"]) == ("succeeded", 1.0, None)
    weights = client.get(training["links"]["weights"])
    assert status["weights"] == sha256(weights.content)
    # the same as without a service, byte for byte
    assert weights.content == undisturbed()
    report = TrainingReport.model_validate_json(client.get(training["links"]["report"]).content)
    assert (report.training_id, report.attempts, report.stopped) == (training["id"], 1, "completed")
    assert len(report.epochs) == 3
    assert report.data.training_images == 30
    reference = report.trained.reference.model_dump(mode="json")
    assert reference["weights"]["uri"] == f"blob:{status['weights']}"

    audit = client.post("/v1/audits", json={"model": reference, "images": images, "plan": AUDIT}).json()
    work(client)
    assert client.get(audit["links"]["self"]).json()["state"] == "succeeded"
    found = client.get(audit["links"]["report"]).json()["model"]
    assert found["digest"] == report.trained.record.digest
    assert found["digest"] != report.start.digest


def test_a_price_stores_nothing_and_is_what_submitting_answers(
    make_client: Callable[..., TestClient], database_url: str
) -> None:
    client = make_client(database_url=SecretStr(database_url), running_audits=1)
    body = body_of(store_digits(service_of(client)))
    quote = client.post("/v1/trainings/estimate", json=body)
    assert quote.status_code == 200, quote.text
    assert (quote.json()["within_budget"], quote.json()["advice"]) == (True, None)
    assert client.get("/v1/trainings").json()["items"] == []
    usage = client.get("/v1/usage").json()
    assert (usage["running_audits"]["used"], usage["passes_per_day"]["used"]) == (0, 0)
    entries = [entry["kind"] for entry in client.get("/v1/log").json()["items"]]
    assert entries == []
    submitted = client.post("/v1/trainings", json=body).json()
    assert submitted["estimate"] == quote.json()["estimate"]
    # a price may be asked for also where nothing more may be submitted
    assert client.post("/v1/trainings", json=body).status_code == 429
    assert client.post("/v1/trainings/estimate", json=body).json() == quote.json()


def test_a_price_above_a_limit_is_an_answer(make_client: Callable[..., TestClient]) -> None:
    client = make_client(budget_passes=300)
    images = store_digits(service_of(client))
    quote = client.post("/v1/trainings/estimate", json=body_of(images, epochs=5)).json()
    assert quote["within_budget"] is False
    assert "above the budget of 300" in quote["advice"]
    for_today = make_client(passes_per_day=300)
    images = store_digits(service_of(for_today))
    assert for_today.post("/v1/trainings", json=body_of(images)).status_code == 202
    quote = for_today.post("/v1/trainings/estimate", json=body_of(images)).json()
    assert quote["within_budget"] is False
    assert quote["advice"].startswith("the training is estimated at 237 forward passes")


def test_what_submitting_refuses_has_no_price(client: TestClient) -> None:
    body = body_of(inline([0, None, 1]))
    refusals = [client.post(path, json=body) for path in ("/v1/trainings", "/v1/trainings/estimate")]
    assert [one.status_code for one in refusals] == [422, 422]
    assert refusals[0].json()["errors"] == refusals[1].json()["errors"]


def test_a_training_is_priced_by_how_fast_such_a_model_has_trained(
    make_client: Callable[..., TestClient], database_url: str
) -> None:
    client = make_client(database_url=SecretStr(database_url))
    images = store_digits(service_of(client))
    audit = {"model": MODEL, "images": images, "plan": AUDIT}

    def price(path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = client.post(path, json=body).json()["estimate"]
        return found

    training = client.post("/v1/trainings", json=body_of(images)).json()
    work(client)
    cost = client.get(training["links"]["report"]).json()["cost"]
    passes = cost["forward_images"] + 1.3 * cost["backward_images"]
    # a training with other weights to start from, of other length, and by another method
    other_weights = {"model": MODEL | {"weights": {"uri": "random:7"}}}
    for changes in (other_weights, {"plan": PLAN | {"epochs": 9}}, {"plan": PLAN | {"method": {"kind": "mixup"}}}):
        found = price("/v1/trainings/estimate", body_of(images) | changes)
        assert (found["basis"], found["device"]) == ("measured", "cpu"), changes
        assert found["passes_per_s"] == pytest.approx(passes / cost["seconds"], rel=0.01)
        assert found["seconds"] == pytest.approx(found["passes"] / found["passes_per_s"], abs=0.01)
    wider = MODEL | {"kwargs": {"width": 8}}
    assert price("/v1/trainings/estimate", body_of(images) | {"model": wider})["basis"] == "assumed"
    # an audit learns nothing from a training, nor a training from an audit
    assert price("/v1/estimates", audit)["basis"] == "assumed"
    client.post("/v1/audits", json=audit | {"model": wider})
    work(client)
    assert price("/v1/estimates", audit | {"model": wider})["basis"] == "measured"
    assert price("/v1/trainings/estimate", body_of(images) | {"model": wider})["basis"] == "assumed"


def test_the_speed_of_the_same_plan_counts_before_that_of_others(client: TestClient) -> None:
    service = service_of(client)
    images = store_digits(service)
    plans = [PLAN, PLAN | {"batch_size": 4}]
    requests = [TrainingRequest.model_validate(body_of(images) | {"plan": plan}) for plan in plans]
    speeds = MeasuredSpeeds(service.database, clock=lambda: 1.0)
    for request, passes in zip(requests, (1000.0, 10.0), strict=True):
        done = TrainedSteps(b"", stop=1, ended=False, passes=passes, seconds=2.0, device="cuda:0")
        speeds.remember_training(request, done)
    found = [service.trainings.estimate(ANONYMOUS, request).estimate for request in requests]
    assert [(one.passes_per_s, one.device) for one in found] == [(500.0, "cuda:0"), (5.0, "cuda:0")]
    third = requests[0].model_copy(update={"plan": requests[0].plan.model_copy(update={"batch_size": 5})})
    assert service.trainings.estimate(ANONYMOUS, third).estimate.passes_per_s == pytest.approx(1010 / 4)
    # what took no time says nothing
    speeds.remember_training(third, TrainedSteps(b"", stop=1, ended=True, passes=0.0, seconds=0.0, device="cpu"))
    assert service.trainings.estimate(ANONYMOUS, third).estimate.device == "cuda:0"


def test_events_end_with_the_training(client: TestClient) -> None:
    training_id = submit(service_of(client))
    work(client)
    lines = client.get(f"/v1/trainings/{training_id}/events").text.splitlines()
    states = [json.loads(line.removeprefix("data: "))["state"] for line in lines if line.startswith("data: ")]
    assert states[0] == "queued"
    assert states[-1] == "succeeded"
    last = [line for line in lines if line.startswith("id: ")][-1].removeprefix("id: ")
    assert client.get(f"/v1/trainings/{training_id}/events", headers={"Last-Event-ID": last}).text == ""


def test_audits_and_trainings_do_not_show_among_each_other(client: TestClient) -> None:
    service = service_of(client)
    training_id = submit(service)
    batch = store_digits(service)
    audit = client.post("/v1/audits", json={"model": MODEL, "images": batch, "plan": AUDIT}).json()["id"]
    assert [one["id"] for one in client.get("/v1/trainings").json()["items"]] == [training_id]
    assert [one["id"] for one in client.get("/v1/audits").json()["items"]] == [audit]
    for path in ("", "/report", "/events", "/evidence", "/sign-offs"):
        answer = client.get(f"/v1/audits/{training_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for path in ("", "/report", "/events", "/weights"):
        answer = client.get(f"/v1/trainings/{audit}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert client.post(f"/v1/audits/{training_id}/cancel").status_code == 404
    assert client.post(f"/v1/trainings/{audit}/cancel").status_code == 404
    assert client.delete(f"/v1/audits/{training_id}").status_code == 404
    baseline = {"model": MODEL, "images": batch, "plan": AUDIT, "baseline": {"audit": training_id}}
    assert client.post("/v1/audits", json=baseline).json()["errors"][0]["pointer"] == "#/baseline/audit"
    metrics = client.get("/metrics").text
    assert 'auditcore_trainings{state="queued"} 1.0' in metrics
    assert 'auditcore_audits{state="queued"} 1.0' in metrics


def test_a_page_has_the_trainings_that_are_asked_for(client: TestClient) -> None:
    images = store_digits(service_of(client))
    ids = [
        client.post("/v1/trainings", json=body_of(images) | {"name": name, "tags": {"run": name}}).json()["id"]
        for name in ("a", "b", "b")
    ]
    page = client.get("/v1/trainings", params={"limit": 2}).json()
    assert [one["id"] for one in page["items"]] == [ids[2], ids[1]]
    rest = client.get("/v1/trainings", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == ([ids[0]], None)
    assert len(client.get("/v1/trainings", params={"name": "b"}).json()["items"]) == 2
    assert len(client.get("/v1/trainings", params={"tag": "run:a"}).json()["items"]) == 1
    assert client.get("/v1/trainings", params={"state": "failed"}).json()["items"] == []


def test_the_same_key_gives_the_same_training(client: TestClient) -> None:
    body = body_of(store_digits(service_of(client)))
    first, again = (
        client.post("/v1/trainings", json=body, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2)
    )
    assert first == again
    other = client.post("/v1/trainings", json=body | {"name": "x"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(client.get("/v1/trainings").json()["items"]) == 1


def test_a_training_that_waits_is_cancelled_at_once_and_then_deleted(client: TestClient) -> None:
    training_id = submit(service_of(client))
    path = f"/v1/trainings/{training_id}"
    early = client.delete(path)
    assert (early.status_code, early.json()["code"]) == (409, "audit_under_way")
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    answer = client.get(f"{path}/weights")
    assert (answer.status_code, "submit it again" in answer.json()["detail"]) == (404, True)
    assert client.delete(path).status_code == 204
    assert (client.get(path).status_code, client.get(path).json()["code"]) == (410, "deleted")
    # what was deleted is no audit either
    assert client.get(f"/v1/audits/{training_id}").status_code == 404


@pytest.mark.parametrize(
    ("model", "code", "pointer"),
    [
        (
            {"kind": "onnx", "uri": "file:///a.onnx", "preprocessing": MODEL["preprocessing"]},
            "model_not_trainable",
            "#/model/kind",
        ),
        (MODEL | {"target": "digits:other"}, "unsafe_reference", "#/model/target"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused(
    client: TestClient, model: dict[str, Any], code: str, pointer: str
) -> None:
    body = body_of(store_digits(service_of(client))) | {"model": model}
    answer = client.post("/v1/trainings", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def inline(labels: list[Any]) -> dict[str, Any]:
    return {
        "kind": "inline",
        "images": [
            {"data": base64.b64encode(digits.png(number)).decode(), "label": label}
            for number, label in enumerate(labels)
        ],
    }


@pytest.mark.parametrize(
    ("images", "pointer", "said"),
    [
        (inline([0, None, 1]), "#/images", "image 1 ('inline-1') has no label"),
        (inline([2, 2, 2]), "#/images", "all training images have the same label (2)"),
        (inline([0, (0, 1), 1]), "#/images", "has 2 labels, and the model has one class per image"),
        (inline([0, 1]), "#/validation", "no class has two images"),
        ({"kind": "batch", "digest": NOWHERE}, "#/images/digest", "is stored; upload it"),
        ({"kind": "uris", "uris": [{"uri": "file:///etc/passwd", "label": 1}]}, "#/images/uris/0/uri", "not below"),
    ],
)
def test_images_that_nothing_can_be_learned_from_are_refused(
    client: TestClient, images: dict[str, Any], pointer: str, said: str
) -> None:
    answer = client.post("/v1/trainings", json=body_of(images))
    assert answer.status_code == 422, answer.text
    error = answer.json()["errors"][0]
    assert error["pointer"] == pointer
    assert said in error["detail"] or pointer.endswith("uri")


def test_a_label_that_the_model_does_not_have_is_refused(client: TestClient) -> None:
    model = {"kind": "torchvision", "name": "resnet18", "classes": 3, "weights": {"uri": "random:1"}}
    body = body_of(inline([0, 1, 7])) | {"model": model | {"preprocessing": {"resize": 32, "crop": 32}}}
    refused(client, body, 422, "label_out_of_range", "#/images/labels/2", "7")


def test_faults_of_validation_images_name_them(client: TestClient) -> None:
    body = body_of(store_digits(service_of(client))) | {"validation": inline([0, None])}
    refused(client, body, 422, "invalid_request", "#/validation", "has no label")


def test_a_plan_that_cannot_be_carried_out_is_refused(client: TestClient) -> None:
    images = store_digits(service_of(client))
    mine = {"explainers": [{"kind": "precomputed", "maps": NOWHERE}], "checks": AUDIT["checks"]}
    answer = client.post("/v1/trainings", json=body_of(images, epoch_audit={"plan": mine}))
    assert answer.status_code == 422
    assert "not of the model in training" in answer.text
    mine["explainers"] = [{"kind": "callable", "target": "os:system"}]
    answer = client.post("/v1/trainings", json=body_of(images, epoch_audit={"plan": mine}))
    assert answer.json()["errors"][0]["pointer"] == "#/plan/epoch_audit/plan/explainers/0/target"


def test_budgets_and_limits_hold_for_trainings(make_client: Callable[..., TestClient]) -> None:
    client = make_client(budget_passes=300, running_audits=1)
    images = store_digits(service_of(client))
    refused(client, body_of(images, epochs=5), 422, "budget_exceeded", "#/plan", "above the budget of 300")
    assert client.post("/v1/trainings", json=body_of(images)).status_code == 202
    second = client.post("/v1/trainings", json=body_of(images))
    assert (second.status_code, second.json()["code"]) == (429, "quota_exceeded")
    usage = client.get("/v1/usage").json()
    assert usage["running_audits"] == {"limit": 1, "used": 1, "resets_at": None}
    assert usage["passes_per_day"]["used"] == round(3 * (30 + 10) + 1.3 * 3 * 30)


def test_inline_images_and_tensors_become_batches(client: TestClient) -> None:
    pixels, labels = digits.digit_pixels()
    blob = service_of(client).blobs.put(safetensors.numpy.save({"images": pixels[:6].numpy()}))
    body = body_of({"kind": "tensors", "uri": f"blob:{blob}", "labels": labels[:6].tolist()}) | {
        "validation": inline(labels[6:9].tolist())
    }
    answer = client.post("/v1/trainings", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["images"] == 9
    work(client)
    report = client.get(f"/v1/trainings/{answer.json()['id']}/report").json()
    assert {report["request"][name]["kind"] for name in ("images", "validation")} == {"batch"}
    assert (report["data"]["training_images"], report["data"]["validation_images"]) == (6, 3)


def test_another_tenants_weights_and_trainings_do_not_exist(make_client: Callable[..., TestClient]) -> None:
    client = make_client(authentication="required")
    service = service_of(client)
    ours, theirs = (Principal(name, "p", ANONYMOUS.scopes) for name in ("ours", "theirs"))
    training_id = submit(service, owner=ours)
    worker = worker_of(service)
    while worker.run_next():
        pass
    digest = service.trainings.weights_digest(ours, training_id)
    token = service.api_keys.create(theirs, name="k", scopes=theirs.scopes, expires_at=None)[1]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get(f"/v1/trainings/{training_id}/weights", headers=headers).status_code == 404
    assert client.get("/v1/trainings", headers=headers).json()["items"] == []
    model = MODEL | {"weights": {"uri": f"blob:{digest}"}}
    batch = store_digits(service, owner=theirs)
    audit = client.post("/v1/audits", json={"model": model, "images": batch, "plan": AUDIT}, headers=headers).json()
    while worker.run_next():
        pass
    assert client.get(audit["links"]["self"], headers=headers).json()["state"] == "failed"


def test_the_step_count_that_is_stored_is_the_one_that_runs(client: TestClient) -> None:
    service = service_of(client)
    for share, validation in ((1.0, {"kind": "held_out"}), (0.3, {"kind": "held_out", "share": 0.35})):
        body = body_of(store_digits(service, 57), share=share, batch_size=7) | {"validation": validation}
        training = client.post("/v1/trainings", json=body).json()
        work(client)
        report = TrainingReport.model_validate_json(client.get(training["links"]["report"]).content)
        estimate = training["estimate"]
        assert report.data.training_images * PLAN["epochs"] == estimate["backward_images"]
        assert report.cost.backward_images == estimate["backward_images"]
        assert report.cost.forward_images >= estimate["forward_images"]
