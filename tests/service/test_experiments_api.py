"""`/v1/experiments`: what is accepted, what is refused, and what comes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import safetensors.torch
from fastapi.testclient import TestClient
from pydantic import SecretStr

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.remedies.report import RemedyReport
from auditcore.contracts.studies.report import StudyReport
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS, Principal
from auditcore_service.settings import Settings
from service_experiments import (
    AUDIT,
    FAILING,
    TESTED,
    TRAINING,
    failed_audit,
    remedy_of,
    request_of,
    store_digits,
    study_body,
    study_of,
    submit_study,
)
from service_trainings import ALLOWED, MODEL, PLAN
from worker_in_process import worker_of

NOWHERE = f"sha256:{0:064d}"
PATH = "/v1/experiments"


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


def failed(client: TestClient, **changes: Any) -> str:
    return failed_audit(service_of(client), lambda: work(client), **changes)


def refused(client: TestClient, body: dict[str, Any], status: int, code: str, pointer: str, said: str) -> None:
    """Both routes refuse it, and nothing is stored."""
    for path in (PATH, f"{PATH}/estimate"):
        answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["code"] == code, problem
        error = problem["errors"][0]
        assert error["pointer"] == pointer, problem
        assert said in error["detail"], problem
    assert client.get(PATH).json()["items"] == []


def test_a_study_gives_a_report_and_files_that_an_audit_names(
    make_client: Callable[..., TestClient], database_url: str
) -> None:
    client = make_client(database_url=SecretStr(database_url))
    body = study_body(service_of(client)) | {"name": "first", "tags": {"data": "digits"}}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 202, answer.text
    study = answer.json()
    path = study["links"]["self"]
    assert answer.headers["location"] == path == f"{PATH}/{study['id']}"
    assert (study["state"], study["plan"], study["images"]) == ("queued", "study", TRAINING + TESTED)
    assert study["progress"] == {"done": 0, "total": 4, "failed": 0}
    assert study["estimate"]["backward_images"] > 2 * 2 * 30
    early = client.get(study["links"]["report"])
    assert (early.status_code, early.json()["code"]) == (404, "report_not_ready")
    assert client.get(study["links"]["files"]).json() == {"items": []}
    work(client)

    status = client.get(path).json()
    assert (status["state"], status["fraction"], status["error"]) == ("succeeded", 1.0, None)
    assert status["progress"] == {"done": 4, "total": 4, "failed": 0}
    found = client.get(study["links"]["report"])
    report = StudyReport.model_validate_json(found.content)
    assert {one.method for one in report.models} == {"plain", "mixup"}
    assert found.headers["etag"] == f'"{sha256(found.content).removeprefix("sha256:")}"'

    items = {one["name"]: one for one in client.get(study["links"]["files"]).json()["items"]}
    assert sorted(items) == list(items)
    assert items["report.json"]["digest"] == sha256(found.content)
    assert items["report.json"]["stage"] == "report"
    assert not any(name.startswith("checkpoints/") for name in items)
    for one in items.values():
        kept = client.get(one["href"])
        assert (kept.status_code, sha256(kept.content), len(kept.content)) == (200, one["digest"], one["size_bytes"])
        again = client.get(one["href"], headers={"If-None-Match": kept.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert "immutable" in kept.headers["cache-control"]
    weights = items["weights/mixup-3.safetensors"]
    assert weights["stage"] == "mixup-3"
    assert safetensors.torch.load(client.get(weights["href"]).content)
    assert client.get(items["tables.md"]["href"]).headers["content-type"] == "text/markdown; charset=utf-8"
    missing = client.get(f"{path}/files/weights/other.safetensors")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")

    audited = MODEL | {"weights": {"uri": f"blob:{weights['digest']}"}}
    audit = client.post("/v1/audits", json={"model": audited, "images": body["test"], "plan": AUDIT}).json()
    work(client)
    assert client.get(audit["links"]["self"]).json()["state"] == "succeeded"


def test_a_remedy_works_on_the_audit_of_the_service(make_client: Callable[..., TestClient], database_url: str) -> None:
    client = make_client(database_url=SecretStr(database_url))
    audit = failed(client)
    assert client.get(f"/v1/audits/{audit}").json()["verdict"] == "fail"
    digest = client.get(f"/v1/audits/{audit}/report").headers["etag"].strip('"')
    images = store_digits(service_of(client), 0, TRAINING)
    answer = client.post(PATH, json=remedy_of(audit, images))
    assert answer.status_code == 202, answer.text
    remedy = answer.json()
    assert (remedy["plan"], remedy["images"], remedy["weights"]) == ("remedy", TRAINING + TESTED, None)
    # the remedy has what it needs of the audit, whose report it names
    assert client.delete(f"/v1/audits/{audit}").status_code == 204
    work(client)
    status = client.get(remedy["links"]["self"]).json()
    assert (status["state"], status["error"]) == ("succeeded", None)
    report = RemedyReport.model_validate_json(client.get(remedy["links"]["report"]).content)
    assert (report.failed_report, report.request.report) == (f"sha256:{digest}", f"sha256:{digest}")
    assert report.verdict_after == "fail"
    weights = client.get(f"{remedy['links']['files']}/model.safetensors")
    assert status["weights"] == sha256(weights.content)
    assert safetensors.torch.load(weights.content)


def test_an_estimate_says_the_price_and_stores_nothing(make_client: Callable[..., TestClient]) -> None:
    client = make_client(budget_passes=2000)
    body = study_body(service_of(client))
    answer = client.post(f"{PATH}/estimate", json=body)
    assert answer.status_code == 200, answer.text
    quote = answer.json()
    assert (quote["within_budget"], quote["advice"]) == (True, None)
    assert client.get(PATH).json()["items"] == []
    assert quote["estimate"] == client.post(PATH, json=body).json()["estimate"]
    much = study_body(service_of(client), epochs=100)
    dear = client.post(f"{PATH}/estimate", json=much).json()
    assert dear["within_budget"] is False
    assert "the experiment is estimated at" in dear["advice"]
    # two methods learn from 30 images for 98 epochs more; the audits cost the same
    more = dear["estimate"]["backward_images"] - quote["estimate"]["backward_images"]
    assert more == 2 * 98 * 30
    answer = client.post(PATH, json=much)
    assert (answer.status_code, answer.json()["code"]) == (422, "budget_exceeded")
    assert len(client.get(PATH).json()["items"]) == 1


def test_limits_of_tenants_hold_for_experiments(make_client: Callable[..., TestClient]) -> None:
    client = make_client(running_audits=1)
    body = study_body(service_of(client))
    first = client.post(PATH, json=body)
    assert first.status_code == 202
    second = client.post(PATH, json=body)
    assert (second.status_code, second.json()["code"]) == (429, "quota_exceeded")
    usage = client.get("/v1/usage").json()
    assert usage["running_audits"]["used"] == 1
    assert usage["passes_per_day"]["used"] == first.json()["estimate"]["passes"]


def test_an_estimate_says_what_its_tenant_may_not_submit_today(make_client: Callable[..., TestClient]) -> None:
    unlimited = make_client()
    body = study_body(service_of(unlimited))
    passes = unlimited.post(f"{PATH}/estimate", json=body).json()["estimate"]["passes"]
    client = make_client(passes_per_day=passes - 1)
    quote = client.post(f"{PATH}/estimate", json=study_body(service_of(client))).json()
    assert quote["within_budget"] is False
    assert f"may submit {passes - 1} in a day" in quote["advice"]


def test_events_end_with_the_experiment(client: TestClient) -> None:
    experiment_id = submit_study(service_of(client), epochs=1)
    work(client)
    lines = client.get(f"{PATH}/{experiment_id}/events").text.splitlines()
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    states = list(dict.fromkeys(one["state"] for one in told))
    # the last stage makes the report
    assert states == ["queued", "running", "finalizing", "succeeded"]
    assert max(one["progress"]["done"] for one in told) == 4


def test_other_jobs_and_experiments_do_not_show_among_each_other(client: TestClient) -> None:
    service = service_of(client)
    experiment_id = submit_study(service)
    batch = store_digits(service, 0, 2)
    audit = client.post("/v1/audits", json={"model": MODEL, "images": batch, "plan": AUDIT}).json()["id"]
    assert [one["id"] for one in client.get(PATH).json()["items"]] == [experiment_id]
    assert [one["id"] for one in client.get("/v1/audits").json()["items"]] == [audit]
    assert client.get("/v1/trainings").json()["items"] == []
    for path in (f"/v1/audits/{experiment_id}", f"/v1/trainings/{experiment_id}", f"{PATH}/{audit}"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for end in ("/report", "/events", "/files", "/files/report.json"):
        assert client.get(f"{PATH}/{audit}{end}").status_code == 404, end
    assert client.post(f"{PATH}/{audit}/cancel").status_code == 404
    assert client.delete(f"{PATH}/{audit}").status_code == 404
    assert client.post(f"/v1/trainings/{experiment_id}/cancel").status_code == 404
    assert 'auditcore_experiments{state="queued"} 1.0' in client.get("/metrics").text


def test_a_page_has_the_experiments_that_are_asked_for(client: TestClient) -> None:
    body = study_body(service_of(client))
    ids = [
        client.post(PATH, json=body | {"name": name, "tags": {"run": name}}).json()["id"] for name in ("a", "b", "b")
    ]
    page = client.get(PATH, params={"limit": 2}).json()
    assert [one["id"] for one in page["items"]] == [ids[2], ids[1]]
    rest = client.get(PATH, params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == ([ids[0]], None)
    assert len(client.get(PATH, params={"name": "b"}).json()["items"]) == 2
    assert len(client.get(PATH, params={"tag": "run:a"}).json()["items"]) == 1
    assert client.get(PATH, params={"state": "failed"}).json()["items"] == []


def test_the_same_key_gives_the_same_experiment(client: TestClient) -> None:
    body = study_body(service_of(client))
    first, again = (client.post(PATH, json=body, headers={"Idempotency-Key": "k"}).json()["id"] for _ in range(2))
    assert first == again
    other = client.post(PATH, json=body | {"name": "x"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(client.get(PATH).json()["items"]) == 1


def test_what_an_experiment_needs_cannot_be_deleted(client: TestClient) -> None:
    body = study_body(service_of(client))
    experiment = client.post(PATH, json=body).json()
    for field in ("images", "test"):
        answer = client.delete(f"/v1/image-batches/{body[field]['digest']}")
        assert (answer.status_code, answer.json()["code"]) == (409, "used_by_audit"), answer.text
    client.post(f"{PATH}/{experiment['id']}/cancel")
    assert client.delete(f"/v1/image-batches/{body['test']['digest']}").status_code == 204


def test_a_repeated_request_is_answered_though_its_tenant_may_submit_no_more(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(running_audits=1)
    body, headers = study_body(service_of(client)), {"Idempotency-Key": "once"}
    first, again = (client.post(PATH, json=body, headers=headers) for _ in range(2))
    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])


def test_an_experiment_that_waits_is_cancelled_at_once_and_then_deleted(client: TestClient) -> None:
    path = f"{PATH}/{submit_study(service_of(client))}"
    early = client.delete(path)
    assert (early.status_code, early.json()["code"]) == (409, "audit_under_way")
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    answer = client.get(f"{path}/report")
    assert (answer.status_code, "submit it again" in answer.json()["detail"]) == (404, True)
    assert client.delete(path).status_code == 204
    for end in ("", "/report", "/files", "/files/report.json", "/events"):
        gone = client.get(f"{path}{end}")
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted"), end


def inline(*labels: Any) -> dict[str, Any]:
    return {
        "kind": "inline",
        "images": [
            {"data": base64.b64encode(digits.png(number)).decode(), "label": label}
            for number, label in enumerate(labels)
        ],
    }


@pytest.mark.parametrize(
    ("changes", "pointer", "said"),
    [
        ({"plan": {"kind": "sweep"}}, "#/plan/kind", "study, remedy, roar, f_fidelity, idsds"),
        ({"plan": {}}, "#/plan/kind", "is missing or unknown"),
        ({"images": inline(0, None, 1)}, "#/images", "image 1 ('inline-1') has no label"),
        ({"images": inline(2, 2, 2)}, "#/images", "all training images have the same label (2)"),
        ({"images": inline(0, 1)}, "#/validation", "no class has two images"),
        ({"images": {"kind": "batch", "digest": NOWHERE}}, "#/images/digest", "is stored; upload it"),
        ({"validation": inline(0, None)}, "#/validation", "has no label"),
        ({"validation": {"kind": "batch", "digest": NOWHERE}}, "#/validation/digest", "is stored; upload it"),
        ({"test": inline(1, None)}, "#/test", "image 1 ('inline-1') has no label"),
        ({"test": {"kind": "batch", "digest": NOWHERE}}, "#/test/digest", "is stored; upload it"),
    ],
)
def test_a_study_that_cannot_be_carried_out_is_refused(
    client: TestClient, changes: dict[str, Any], pointer: str, said: str
) -> None:
    refused(client, study_body(service_of(client)) | changes, 422, "invalid_request", pointer, said)


def test_a_mistake_within_a_plan_is_named_by_its_place(client: TestClient) -> None:
    body = study_body(service_of(client))
    body["plan"]["methods"][1]["plan"] = PLAN | {"epochs": 0}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/plan/methods/1/plan/epochs"


def test_images_that_are_trained_on_are_no_test(client: TestClient) -> None:
    images = store_digits(service_of(client), 0, TRAINING)
    body = study_of(images, store_digits(service_of(client), TRAINING - 1, 2))
    refused(client, body, 422, "invalid_request", "#/test", "1 test images are images of the training")


def onnx() -> dict[str, Any]:
    return {"kind": "onnx", "uri": "file:///a.onnx", "preprocessing": MODEL["preprocessing"]}


def test_models_that_cannot_be_trained_are_refused(client: TestClient) -> None:
    body = study_body(service_of(client))
    refused(client, body | {"model": onnx()}, 422, "model_not_trainable", "#/model/kind", "cannot be trained here")
    elsewhere = MODEL | {"target": "digits:other"}
    refused(client, body | {"model": elsewhere}, 422, "unsafe_reference", "#/model/target", "digits:other")
    body["plan"]["methods"][1]["model"] = onnx()
    pointer = "#/plan/methods/1/model/kind"
    refused(client, body, 422, "model_not_trainable", pointer, "cannot be trained here")


@pytest.mark.parametrize("kind", ["study", "roar"])
def test_functions_that_the_operator_does_not_allow_are_refused(client: TestClient, kind: str) -> None:
    body = study_body(service_of(client))
    unknown = {"kind": "callable", "target": "os:system"}
    if kind == "study":
        body["plan"]["audit"] = AUDIT | {"explainers": [{"kind": "gradient"}, unknown]}
        pointer = "#/plan/audit/explainers/1/target"
    else:
        body.pop("test")
        body["plan"] = {"kind": "roar", "explainers": [unknown], "training": PLAN, "repeats": 2}
        pointer = "#/plan/explainers/0/target"
    refused(client, body, 422, "unsafe_reference", pointer, "is not allowed")


def test_uploaded_maps_are_not_of_the_models_of_a_study(client: TestClient) -> None:
    body = study_body(service_of(client))
    body["plan"]["audit"] = AUDIT | {"explainers": [{"kind": "precomputed", "maps": NOWHERE}]}
    refused(client, body, 422, "invalid_request", "#/plan/audit/explainers/0", "not of the models that a study trains")


def test_only_a_failed_audit_can_be_remedied(client: TestClient) -> None:
    service = service_of(client)
    images = store_digits(service, 0, TRAINING)
    for audit in ("x", "0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11"):
        refused(client, remedy_of(audit, images), 422, "invalid_request", "#/audit", "there is no audit")
    body = remedy_of("x", images)
    body.pop("audit")
    refused(client, body, 422, "invalid_request", "#/audit", "say which audit")
    batch = store_digits(service, TRAINING, TESTED)
    waiting = client.post("/v1/audits", json={"model": MODEL, "images": batch, "plan": AUDIT}).json()["id"]
    refused(client, remedy_of(waiting, images), 422, "invalid_request", "#/audit", "is queued and has no report")
    met = failed(client, policy=[FAILING[0] | {"at_least": -1.0}])
    # a map at random meets this too, so that it is no pass; but nothing was missed
    assert client.get(f"/v1/audits/{met}").json()["verdict"] == "inconclusive"
    refused(client, remedy_of(met, images), 422, "invalid_request", "#/plan/condition", "nothing to remedy")


def test_a_remedy_names_what_it_cannot_use(client: TestClient) -> None:
    service = service_of(client)
    audit = failed(client)
    images = store_digits(service, 0, TRAINING)
    unknown = remedy_of(audit, images, condition="c9")
    refused(client, unknown, 422, "invalid_request", "#/plan/condition", "has no condition 'c9'")
    other = remedy_of(audit, images) | {"report": NOWHERE}
    refused(client, other, 422, "invalid_request", "#/report", "leave `report` out")
    seen = remedy_of(audit, store_digits(service, 0, TRAINING + 1))
    refused(client, seen, 422, "invalid_request", "#/images", "1 training images are images of the audit")
    seen = remedy_of(audit, images) | {"validation": store_digits(service, TRAINING, 2)}
    refused(client, seen, 422, "invalid_request", "#/validation", "2 validation images are images of the audit")
    batch = store_digits(service, TRAINING, TESTED)["digest"]
    assert client.delete(f"/v1/image-batches/{batch}").status_code == 204
    refused(client, remedy_of(audit, images), 422, "invalid_request", "#/audit", "are gone")


def test_another_tenants_experiments_audits_and_files_do_not_exist(make_client: Callable[..., TestClient]) -> None:
    client = make_client(authentication="required")
    service = service_of(client)
    ours, theirs = (Principal(name, "p", ANONYMOUS.scopes) for name in ("ours", "theirs"))
    experiment_id = submit_study(service, owner=ours, epochs=1)
    audit = failed(client, owner=ours)
    work(client)
    (weights, *_) = (
        file for file in service.experiments.files(ours, experiment_id) if file.name.endswith(".safetensors")
    )
    token = service.api_keys.create(theirs, name="k", scopes=theirs.scopes, expires_at=None)[1]
    headers = {"Authorization": f"Bearer {token}"}
    for end in ("", "/report", "/files", f"/files/{weights.name}", "/events"):
        assert client.get(f"{PATH}/{experiment_id}{end}", headers=headers).status_code == 404, end
    assert client.get(PATH, headers=headers).json()["items"] == []
    remedy = remedy_of(audit, store_digits(service, 0, TRAINING, owner=theirs))
    answer = client.post(PATH, json=remedy, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/audit")
    assert "there is no audit" in answer.json()["detail"]
    model = MODEL | {"weights": {"uri": f"blob:{weights.digest}"}}
    batch = store_digits(service, 0, 2, owner=theirs)
    stolen = client.post("/v1/audits", json={"model": model, "images": batch, "plan": AUDIT}, headers=headers).json()
    work(client)
    assert client.get(stolen["links"]["self"], headers=headers).json()["state"] == "failed"


def test_inline_images_become_batches(client: TestClient) -> None:
    service = service_of(client)
    body = study_of(store_digits(service, 10, TRAINING), inline(0, 1, 2))
    body["validation"] = inline(3, 4) | {"images": inline(0, 1, 2, 3, 4)["images"][3:]}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["images"] == TRAINING + 2 + 3
    stored = service.experiments.get(ANONYMOUS, answer.json()["id"])
    request = json.loads(stored.request)
    assert {request[name]["kind"] for name in ("images", "validation", "test")} == {"batch"}


def test_the_last_stage_of_every_kind_of_experiment_is_alone_in_its_wave() -> None:
    # the service ends an experiment with its last wave, whose result is the report
    measured = {"explainers": [{"kind": "gradient"}]}
    batch = {"kind": "batch", "digest": NOWHERE}
    bodies = [
        study_of(batch, batch),
        remedy_of("x", batch),
        {"model": MODEL, "images": batch, "plan": measured | {"kind": "roar", "training": PLAN}},
        {"model": MODEL, "images": batch, "plan": measured | {"kind": "f_fidelity"}},
        {"model": MODEL, "images": batch, "plan": measured | {"kind": "idsds", "grid": 2}},
    ]
    for body in bodies:
        *others, last = stages_of(request_of(body))
        assert last.wave > max(stage.wave for stage in others)
        assert sorted({stage.wave for stage in others} | {last.wave}) == list(range(last.wave + 1))
