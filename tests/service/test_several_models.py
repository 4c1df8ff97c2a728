"""Audits of several models over HTTP: a real gateway, engine and Redis, and two small trained networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr
from safetensors.torch import save_file

import digits
from auditcore.auditing import audit
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.images.encoded import EncodedImage
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import list_shards
from auditcore_service.worker.execution import Executor
from worker_in_process import worker_of

PLAN = {
    "seed": 3,
    "explainers": [{"kind": "gradient"}, {"kind": "input_x_gradient"}],
    "checks": [
        {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 50},
        {"kind": "deletion", "grid": 2, "repeats": 1},
    ],
}
EXPLICIT = {
    **PLAN,
    "checks": [
        {"kind": "sweep", "augmentations": [{"kind": "brightness", "interval": [-0.2, 0.2]}], "levels": 3, "top_k": 50},
        {"kind": "deletion", "grid": 2, "repeats": 1},
    ],
}
DEMO = {"name": "a", "model": {"kind": "demo"}}
IMAGES = 4
SHARD_IMAGES = 2
DIGEST = f"sha256:{'0' * 64}"


def new_executor(service: Service) -> Executor:
    """A worker that knows nothing yet."""
    return worker_of(service)


class Workplace:
    """A gateway, and a worker that runs when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self.client = TestClient(create_app(settings), raise_server_exceptions=False)
        self.client.__enter__()
        self.service: Service = self.client.app.state.service  # type: ignore[attr-defined]
        self.executor = new_executor(self.service)

    def upload(self, images: int = IMAGES, **annotations: object) -> dict[str, str]:
        files = [("images", (f"{number}.png", digits.png(number), "image/png")) for number in range(images)]
        data = {name: json.dumps(value) for name, value in annotations.items()}
        answer = self.client.post("/v1/image-batches", files=files, data=data)
        assert answer.status_code == 201, answer.text
        return {"kind": "batch", "digest": answer.json()["digest"]}

    def submit(self, body: dict[str, Any]) -> str:
        answer = self.client.post("/v1/audits", json=body)
        assert answer.status_code == 202, answer.text
        audit_id: str = answer.json()["id"]
        return audit_id

    def shards(self, audit_id: str) -> tuple[Shard, ...]:
        with self.service.database.reading("default") as connection:
            return list_shards(connection, audit_id)

    def work(self, audit_id: str, *, backwards: bool = False) -> dict[str, Any]:
        """Run queued shards until there are none."""
        while queued := [shard.key for shard in self.shards(audit_id) if shard.state == "queued"]:
            for key in reversed(queued) if backwards else queued:
                self.executor.run(key)
        status: dict[str, Any] = self.client.get(f"/v1/audits/{audit_id}").json()
        return status

    def report(self, body: dict[str, Any], *, backwards: bool = False) -> AuditReport:
        audit_id = self.submit(body)
        status = self.work(audit_id, backwards=backwards)
        assert status["state"] == "succeeded", status
        assert status["fraction"] == 1
        return AuditReport.model_validate_json(self.client.get(f"/v1/audits/{audit_id}/report").content)


@pytest.fixture
def make_workplace(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Callable[..., Workplace]]:
    opened: list[Workplace] = []

    def make(**overrides: object) -> Workplace:
        rules = {"factories": ("digits:build",), "file_roots": (tmp_path,), "shard_images": SHARD_IMAGES}
        opened.append(Workplace(make_settings(**{**rules, **overrides})))
        return opened[-1]

    yield make
    for workplace in opened:
        workplace.client.__exit__(None, None, None)


@pytest.fixture
def workplace(make_workplace: Callable[..., Workplace]) -> Workplace:
    return make_workplace()


@pytest.fixture
def models(tmp_path: Path) -> list[dict[str, Any]]:
    """The trained network, and one with other weights that looks at a smaller part of each image."""
    noisy = {
        name: value + 0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        if value.dtype.is_floating_point
        else value
        for name, value in digits.trained().state_dict().items()
    }
    save_file(noisy, tmp_path / "noisy.safetensors")
    trained = digits.reference(digits.write_weights(tmp_path)).model_dump(mode="json")
    changes = {
        "weights": {"uri": (tmp_path / "noisy.safetensors").as_uri()},
        "preprocessing": trained["preprocessing"] | {"crop": 24},
    }
    return [{"name": "trained", "model": trained}, {"name": "noisy", "model": trained | changes}]


def numbers(report: AuditReport, model: str | None) -> list[dict[str, Any]]:
    """Everything a report says about one model, without its name."""
    return [
        result.model_dump(exclude={"model"}) for result in (*report.results, *report.controls) if result.model == model
    ]


def test_two_models_from_submission_to_report(
    make_workplace: Callable[..., Workplace], models: list[dict[str, Any]], database_url: str
) -> None:
    workplace = make_workplace(database_url=SecretStr(database_url))
    body = {"models": models, "images": workplace.upload(), "plan": PLAN}
    audit_id = workplace.submit(body)
    assert [(shard.kind, shard.model, shard.start) for shard in workplace.shards(audit_id)] == [
        *((kind, model, start) for kind in ("measure", "compute") for model in (0, 1) for start in (0, 2)),
        ("assemble", 0, 0),
    ]
    assert workplace.client.get(f"/v1/audits/{audit_id}").json()["progress"]["total"] == 9
    assert workplace.work(audit_id)["state"] == "succeeded"
    path = f"/v1/audits/{audit_id}/report"
    report = AuditReport.model_validate_json(workplace.client.get(path).content)

    assert report.model is None
    assert [model.name for model in report.models] == ["trained", "noisy"]
    assert report.models[0].digest != report.models[1].digest
    assert [model.preprocessing.crop for model in report.models] == [32, 24]
    assert {result.model for result in report.results} == {"trained", "noisy"}
    assert [item.index for item in report.images.items] == list(range(IMAGES))
    assert all(set(item.by_model) == {"trained", "noisy"} for item in report.images.items)
    assert {interval.model for interval in report.intervals} == {"trained", "noisy"}
    assert {(pair.model, pair.against) for pair in report.comparisons} <= {("trained", "noisy"), ("noisy", "trained")}
    assert any(pair.metric == "inter_model_deletion" and pair.n == IMAGES for pair in report.comparisons)
    orders = next(entry.orders for entry in report.reliability if entry.metric == "inter_model_deletion")
    assert set(orders) == {"trained", "noisy"}
    assert all(set(order) == {"gradient", "input_x_gradient"} for order in orders.values())
    assert (report.manifest.shards, report.manifest.attempts) == (8, 8)

    page = workplace.client.get(path, headers={"Accept": "text/html"})
    junit = workplace.client.get(path, headers={"Accept": "application/junit+xml"})
    assert (page.status_code, junit.status_code) == (200, 200)
    assert "noisy" in page.text


def test_the_numbers_are_those_of_each_model_in_its_own_audit_in_any_order(
    workplace: Workplace, models: list[dict[str, Any]]
) -> None:
    images = workplace.upload()
    several = {"models": models, "images": images, "plan": EXPLICIT}
    together = workplace.report(several)
    assert numbers(together, "trained") != numbers(together, "noisy")
    for entry in models:
        alone = workplace.report({"model": entry["model"], "images": images, "plan": EXPLICIT})
        assert numbers(together, entry["name"]) == numbers(alone, None)
    backwards = workplace.report(several, backwards=True)
    assert backwards.results == together.results
    assert backwards.comparisons == together.comparisons
    assert backwards.intervals == together.intervals


def test_all_models_compute_on_the_narrowest_interval_of_theirs(
    workplace: Workplace, models: list[dict[str, Any]]
) -> None:
    images = workplace.upload()
    several = {"models": models, "images": images, "plan": PLAN}
    own = {}
    for entry in models:
        (found,) = workplace.report({"model": entry["model"], "images": images, "plan": PLAN}).intervals
        own[entry["name"]] = found.interval
    assert own["trained"] != own["noisy"], "these models would share it anyway"
    setter = min(own, key=lambda name: own[name][1] - own[name][0])
    reports = [workplace.report(several, backwards=backwards) for backwards in (False, True)]
    for report in reports:
        assert {one.model: one.own_interval for one in report.intervals} == own
        assert {(one.interval, one.set_by) for one in report.intervals} == {(own[setter], setter)}
    assert reports[0].results == reports[1].results
    other = next(entry for entry in models if entry["name"] != setter)
    sweep, deletion = EXPLICIT["checks"]
    explicit = {
        **PLAN,
        "checks": [{**sweep, "augmentations": [{"kind": "brightness", "interval": own[setter]}]}, deletion],
    }
    alone = workplace.report({"model": other["model"], "images": images, "plan": explicit})
    assert numbers(reports[0], other["name"]) == numbers(alone, None)


def test_workers_that_start_in_the_middle_and_go_back_and_forth_find_the_same_interval(
    workplace: Workplace, models: list[dict[str, Any]]
) -> None:
    """Every third shard by a worker of its own, as after a kill; the others by one that two audits keep busy."""
    images = workplace.upload()
    several = {"models": models, "images": images, "plan": PLAN}
    one = {"model": models[1]["model"], "images": images, "plan": PLAN}
    expected = [workplace.report(several), workplace.report(one)]
    assert expected[0].intervals[0].interval != expected[1].intervals[0].interval
    audits = [workplace.submit(several), workplace.submit(one)]
    for turn in range(3 * len(workplace.shards(audits[0]))):
        executor = workplace.executor if turn % 3 else new_executor(workplace.service)
        queued = [shard.key for shard in workplace.shards(audits[turn % 2]) if shard.state == "queued"]
        for key in queued[-1:]:
            executor.run(key)
    for audit_id, alone in zip(audits, expected, strict=True):
        report = AuditReport.model_validate_json(workplace.client.get(f"/v1/audits/{audit_id}/report").content)
        assert report.results == alone.results
        assert report.intervals == alone.intervals


def test_the_numbers_are_those_of_the_library(
    workplace: Workplace, models: list[dict[str, Any]], tmp_path: Path
) -> None:
    body = {"models": models, "images": workplace.upload(), "plan": PLAN}
    report = workplace.report(body)
    images = [EncodedImage(number, f"{number}.png", digits.png(number)) for number in range(IMAGES)]
    local = audit(
        AuditRequest.model_validate(body), images=images, access=digits.access(tmp_path), shard_images=SHARD_IMAGES
    )
    assert report.results == local.results
    assert report.comparisons == local.comparisons
    assert report.reliability == local.reliability
    assert report.intervals == local.intervals


def test_models_are_compared_with_one_of_them_by_any_worker_and_by_the_library(
    make_workplace: Callable[..., Workplace], models: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A worker that keeps one model keeps two while it compares; the reference comes last and is measured first."""
    workplace = make_workplace(cached_models=1)
    sweep = PLAN["checks"][0]
    condition = {"check": "agreement", "explainer": "gradient", "metric": "pearson", "at_least": -1, "min_images": 1}
    body = {
        "models": models,
        "images": workplace.upload(),
        "plan": {**PLAN, "checks": [sweep, {"kind": "agreement", "reference": "noisy"}]},
        "policy": [condition],
    }
    prices = [
        workplace.client.post("/v1/estimates", json=asked).json()["estimate"]
        for asked in (body, {**body, "plan": {**PLAN, "checks": [sweep]}, "policy": []})
    ]
    # the plain pass of the reference there and back, which both explainers share; for the image and three copies of it
    more = IMAGES * (1 + 3)
    assert [prices[0][kind] - prices[1][kind] for kind in ("forward_images", "backward_images")] == [more, more]
    report = workplace.report(body)
    rows = [result for result in report.results if result.check == "agreement"]
    assert {row.model for row in rows} == {"trained"}
    measures = {"ssim", "pearson", "spearman", "top_k"}
    assert {row.metric for row in rows} == measures | {f"self_{one}" for one in measures} | {"prediction_agreement"}
    assert [(one.model, one.check) for one in report.conditions] == [("trained", "agreement")]
    images = [EncodedImage(number, f"{number}.png", digits.png(number)) for number in range(IMAGES)]
    local = audit(
        AuditRequest.model_validate(body), images=images, access=digits.access(tmp_path), shard_images=SHARD_IMAGES
    )
    assert report.results == local.results
    assert workplace.report(body, backwards=True).results == report.results


def test_a_comparison_of_models_in_an_audit_of_one_is_refused(
    workplace: Workplace, models: list[dict[str, Any]]
) -> None:
    checks = [*PLAN["checks"], {"kind": "agreement"}]
    body = {"model": models[0]["model"], "images": workplace.upload(1), "plan": {**PLAN, "checks": checks}}
    answer = workplace.client.post("/v1/audits", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "#/plan/checks/2"
    assert "list two or more under `models`" in error["detail"]


def test_each_model_has_its_own_pictures(workplace: Workplace, models: list[dict[str, Any]]) -> None:
    report = workplace.report({"models": models, "images": workplace.upload(1), "plan": PLAN})
    listed = {(one.model, one.explainers) for one in report.artifacts}
    assert listed == {(model, of) for model in ("trained", "noisy") for of in ((), ("gradient", "input_x_gradient"))}
    assert len(report.artifacts) == len({one.digest for one in report.artifacts}) == 4
    for one in report.artifacts:
        answer = workplace.client.get(f"/v1/audits/{report.audit_id}/artifacts/{one.digest}")
        assert answer.headers["content-type"] == "image/webp"


def test_a_condition_applies_to_one_model_or_to_each(workplace: Workplace, models: list[dict[str, Any]]) -> None:
    condition = {"check": "deletion", "explainer": "gradient", "metric": "lerf_auc", "min_images": 2}
    body = {
        "models": models,
        "images": workplace.upload(2),
        "plan": PLAN,
        "policy": [
            {**condition, "id": "one", "model": "noisy", "at_least": -2},
            {**condition, "id": "each", "at_least": 1, "statistic": "mean", "severity": "warn"},
        ],
    }
    report = workplace.report(body)
    assert sorted((one.model, one.status) for one in report.conditions) == [
        ("noisy", "vacuous"),
        ("noisy", "warned"),
        ("trained", "warned"),
    ]
    assert report.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("change", "pointer", "fix"),
    [
        ({"model": {"kind": "demo"}}, "#", "exactly one"),
        ({"models": []}, "#", "exactly one"),
        ({"models": [DEMO]}, "#", "at least two"),
        ({"models": [DEMO, DEMO]}, "#", "its own name"),
        ({"models": [DEMO, {"name": "b"}]}, "#/models/1/model", "add it"),
        ({"models": [DEMO, {**DEMO, "name": "B!"}]}, "#/models/1/name", "match"),
        ({"models": [{**DEMO, "name": name} for name in "abcdefghijklmnopq"]}, "#/models", "at most 16"),
    ],
)
def test_models_that_make_no_comparison(
    workplace: Workplace, models: list[dict[str, Any]], change: dict[str, Any], pointer: str, fix: str
) -> None:
    answer = workplace.client.post(
        "/v1/audits", json={"models": models, "images": workplace.upload(1), "plan": PLAN, **change}
    )
    problem = answer.json()
    assert answer.status_code == 422, problem
    found = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert fix in found[pointer]


@pytest.mark.parametrize(
    ("change", "pointer", "fix"),
    [
        ({"target": "os:system"}, "#/models/1/model/target", "AUDIT_FACTORIES"),
        ({"weights": {"uri": "file:///etc/passwd"}}, "#/models/1/model/weights/uri", "AUDIT_FILE_ROOTS"),
        ({"weights": {"uri": "http://169.254.169.254/x.pth"}}, "#/models/1/model/weights/uri", "https:"),
        ({"weights": {}}, "#/models/1/model/weights/uri", "add it"),
        ({"preprocessing": {"resize": 8, "crop": 16}}, "#/models/1/model/preprocessing", "at least crop"),
    ],
)
def test_a_model_that_may_not_be_named_is_refused_with_its_place(
    workplace: Workplace, models: list[dict[str, Any]], change: dict[str, Any], pointer: str, fix: str
) -> None:
    models[1]["model"] |= change
    answer = workplace.client.post("/v1/audits", json={"models": models, "images": workplace.upload(1), "plan": PLAN})
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert fix in problem["errors"][0]["detail"]
    assert workplace.client.get("/v1/audits").json()["items"] == []


@pytest.mark.parametrize(
    ("change", "code", "field", "words"),
    [
        ({"kwargs": {"clases": 3}}, "model_not_loadable", "models.1.model.args", "clases"),
        ({"weights": {"uri": "random:1", "sha256": DIGEST}}, "invalid_request", "models.1.model.weights.sha256", ""),
        ({"weights": {"uri": "random:1"}, "kwargs": {"classes": 3}}, "label_out_of_range", "images.labels.0", "noisy"),
    ],
)
def test_a_failure_in_the_worker_names_the_model(
    workplace: Workplace,
    models: list[dict[str, Any]],
    change: dict[str, Any],
    code: str,
    field: str,
    words: str,
) -> None:
    models[1]["model"] |= change
    body = {"models": models, "images": workplace.upload(1, labels=[7]), "plan": PLAN}
    status = workplace.work(workplace.submit(body))
    assert status["state"] == "failed"
    assert (status["error"]["code"], status["error"]["field"]) == (code, field)
    assert words in status["error"]["message"]


def test_images_are_fetched_once_for_all_models(
    workplace: Workplace, models: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "digit.png"
    file.write_bytes(digits.png(0))
    box = {"x0": 2, "y0": 3, "x1": 20, "y1": 30, "label": 0}
    images = {"kind": "uris", "uris": [{"uri": file.as_uri(), "label": [0, 1], "boxes": [box]}]}
    audit_id = workplace.submit({"models": models, "images": images, "plan": PLAN})
    workplace.executor.run(workplace.shards(audit_id)[0].key)
    # gone before the second model looks
    file.unlink()
    assert workplace.work(audit_id)["state"] == "succeeded"
    (item,) = workplace.client.get(f"/v1/audits/{audit_id}/report").json()["images"]["items"]
    assert item["label"] == [0, 1]


def test_boxes_of_an_upload_reach_the_check_that_needs_them(workplace: Workplace, models: list[dict[str, Any]]) -> None:
    """Two different boxes, one image without any: the reason says so, and the numbers follow the box."""
    body = {
        "model": models[0]["model"],
        "plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "localization"}]},
    }
    images = workplace.upload(3, boxes=[[[4, 4, 28, 28]], [[4, 4, 28, 28]], None])
    wide = workplace.report({**body, "images": images})
    images = workplace.upload(3, boxes=[[[4, 4, 28, 28]], [[4, 4, 8, 8]], None])
    narrow = workplace.report({**body, "images": images})
    shares = [
        next(one.per_image for one in report.results if one.metric == "energy_pointing_game")
        for report in (wide, narrow)
    ]
    assert shares[0][0] == shares[1][0] is not None
    assert shares[0][1] is not None
    assert shares[1][1] is not None
    assert shares[0][1] > shares[1][1]
    assert shares[0][2] is None


def test_the_same_key_with_the_same_models_is_one_audit(workplace: Workplace, models: list[dict[str, Any]]) -> None:
    body = {"models": models, "images": workplace.upload(1), "plan": PLAN}
    headers = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    first, second = (workplace.client.post("/v1/audits", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    swapped = workplace.client.post("/v1/audits", json={**body, "models": models[::-1]}, headers=headers)
    assert swapped.json()["code"] == "idempotency_key_reused"
