"""Prices: told before an audit, learned from shards, held against the operator's budget."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select

from auditcore.contracts.capabilities import BLACK_BOX, WHITE_BOX
from auditcore.contracts.checks import AgreementCheck
from auditcore.contracts.explainers import Rise
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import DemoModel, TorchvisionModel, Weights
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.costs.cost_model import (
    ENGINE_EFFICIENCY,
    Estimate,
    model_identity,
    network_identity,
    plan_identity,
    way_identity,
)
from auditcore.costs.estimate import expected_passes, passes_of, weight
from auditcore.costs.image_size import input_shape_of
from auditcore.costs.passes import ModelFacts, map_comparisons
from auditcore.errors import RequestBudgetExceeded
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.database import Database
from auditcore_service.store.records import Shard
from auditcore_service.store.shards import list_shards
from auditcore_service.store.speeds import KEPT, SeenSpeed, remember_speed, speeds_of
from auditcore_service.store.tables import AUDITS, IMAGE_BATCHES
from auditcore_service.use_cases.estimates import check_request_limits
from auditcore_service.use_cases.image_batches import UploadedFile
from small_model import SMALL_MODEL
from worker_in_process import worker_of

QUICK = resolve_plan(PresetPlan(preset="quick"))
WORK = weight(total(expected_passes(QUICK, wave="compute", images=3).values()))
"""Expected passes of three images."""

DEMO = model_identity(DemoModel())
PLAN = {
    "explainers": [{"kind": "gradient"}],
    "checks": [{"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 20}],
}


def photo(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (color, 10, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def body(count: int = 3, **changes: Any) -> dict[str, Any]:
    inline = [{"data": base64.b64encode(photo(color)).decode()} for color in range(count)]
    return {
        "model": {"kind": "demo"},
        "images": {"kind": "inline", "images": inline},
        "plan": {"preset": "quick"},
        **changes,
    }


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def seen(**changes: Any) -> SeenSpeed:
    values = {
        "model": DEMO,
        "device": "cpu",
        "plan": plan_identity(QUICK),
        "wave": "compute",
        "passes": 600.0,
        "seconds": 10.0,
        "updated_at": 5.0,
    }
    return SeenSpeed(**{**values, **changes})


def remember(client: TestClient, *speeds: SeenSpeed) -> None:
    for speed in speeds:
        with service_of(client).database.writing("default") as connection:
            remember_speed(connection, speed)


def test_shards_add_up_and_the_past_fades(database: Database) -> None:
    for passes, seconds in ((100.0, 10.0), (300.0, 10.0)):
        with database.writing("default") as connection:
            remember_speed(connection, seen(passes=passes, seconds=seconds))
    with database.reading("default") as connection:
        (one,) = speeds_of(connection, [DEMO])
        assert speeds_of(connection, ["other"]) == ()
    assert one.passes == pytest.approx(KEPT * 100 + 300)
    assert one.seconds == pytest.approx(KEPT * 10 + 10)


@pytest.mark.usefixtures("database_url")
def test_an_unknown_model_is_assumed_to_run_at_the_operators_speed(client: TestClient) -> None:
    answer = client.post("/v1/audits", json=body())
    estimate = answer.json()["estimate"]
    assert estimate["basis"] == "assumed"
    assert estimate["device"] is None
    assert estimate["passes"] == round(WORK)
    assert estimate["seconds"] == pytest.approx(WORK / 120.0, abs=0.01)
    assert client.get(f"/v1/audits/{answer.json()['id']}").json()["estimate"] == estimate


def raw(forward_per_s: float, gradient_per_s: float, comparison_per_s: float = 1000.0) -> tuple[SeenSpeed, ...]:
    """What calibrating the demo model leaves."""
    way = way_identity(QUICK)
    return (
        seen(plan=way, wave="forward", passes=forward_per_s, seconds=1.0),
        seen(plan=way, wave="gradient", passes=gradient_per_s, seconds=1.0),
        seen(plan=way, wave="comparison", passes=comparison_per_s, seconds=1.0),
    )


def test_a_new_plan_is_priced_by_the_raw_speed_of_its_model(client: TestClient) -> None:
    remember(client, *raw(100.0, 25.0, 50.0))
    estimate = client.post("/v1/estimates", json=body()).json()["estimate"]
    assert (estimate["basis"], estimate["device"]) == ("measured", "cpu")
    # a forward pass takes 10 ms, a backward pass the other 30 of the 40
    by_hand = (estimate["forward_images"] * 0.01 + estimate["backward_images"] * 0.03) / ENGINE_EFFICIENCY
    comparisons = estimate["images"] * map_comparisons(QUICK, ModelFacts())
    assert comparisons > 0
    assert estimate["seconds"] == pytest.approx(by_hand + comparisons / 50, rel=0.02)


def test_the_same_plan_counts_before_the_raw_speed_of_its_model(client: TestClient) -> None:
    remember(client, *raw(1000.0, 500.0), seen())
    own = client.post("/v1/estimates", json=body()).json()["estimate"]
    assert own["seconds"] == pytest.approx(WORK / 60.0, abs=0.01)


def resized(side_px: int) -> TorchvisionModel:
    seen = Preprocessing(resize=side_px, crop=side_px)
    return TorchvisionModel(name="resnet50", weights=Weights(uri="random:0"), preprocessing=seen)


def test_a_new_model_is_assumed_to_be_as_slow_as_its_pixels(client: TestClient) -> None:
    small, large = (
        client.post("/v1/estimates", json=body(model=resized(side).model_dump(mode="json"))).json()["estimate"]
        for side in (224, 896)
    )
    assert large["basis"] == "assumed"
    assert large["seconds"] == pytest.approx(16 * small["seconds"], rel=0.01)


def test_a_speed_measured_at_one_size_prices_another(client: TestClient) -> None:
    network, way = network_identity(resized(224)), way_identity(QUICK)
    rates = {"forward": 100.0, "gradient": 25.0, "comparison": 50.0}
    remember(client, *(seen(model=network, plan=way, wave=of, passes=rate, seconds=1.0) for of, rate in rates.items()))
    small, large = (
        client.post("/v1/estimates", json=body(model=resized(side).model_dump(mode="json"))).json()["estimate"]
        for side in (224, 896)
    )
    assert (large["basis"], large["device"]) == ("measured", "cpu")
    by_hand = (large["forward_images"] * 0.16 + large["backward_images"] * 0.48) / ENGINE_EFFICIENCY
    comparisons = large["images"] * map_comparisons(QUICK, ModelFacts(shape=InputShape(3, 896, 896)))
    assert large["seconds"] == pytest.approx(by_hand + comparisons * 16 / 50, rel=0.02)
    assert large["seconds"] == pytest.approx(16 * small["seconds"], rel=0.02)


def test_another_plan_gives_no_estimate(client: TestClient) -> None:
    remember(client, seen(plan="other"))
    assert client.post("/v1/estimates", json=body()).json()["estimate"]["basis"] == "assumed"


def test_the_device_seen_last_is_the_one_expected(client: TestClient) -> None:
    remember(client, seen(), seen(device="cuda", seconds=1.0, updated_at=6.0))
    estimate = client.post("/v1/estimates", json=body()).json()["estimate"]
    assert estimate["device"] == "cuda"
    assert estimate["seconds"] == pytest.approx(WORK / 600.0, abs=0.01)


def test_one_new_model_of_two_makes_the_estimate_assumed(client: TestClient) -> None:
    remember(client, seen())
    models = [{"name": "old", "model": {"kind": "demo"}}, {"name": "new", "model": SMALL_MODEL}]
    request = {key: value for key, value in body(models=models).items() if key != "model"}
    estimate = client.post("/v1/estimates", json=request).json()["estimate"]
    assert estimate["basis"] == "assumed"
    assert estimate["seconds"] == pytest.approx(WORK * (1 / 60 + 1 / 120), abs=0.01)


def test_asking_stores_nothing(client: TestClient) -> None:
    answer = client.post("/v1/estimates", json=body())
    assert answer.status_code == 200
    assert answer.json()["within_budget"] is True
    with service_of(client).database.reading("default") as connection:
        for table in (AUDITS, IMAGE_BATCHES):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"}}, "#/images/digest"),
        ({"images": {"kind": "uris", "uris": [{"uri": "file:///etc/hostname"}]}}, "#/images/uris/0/uri"),
        ({"images": {"kind": "inline", "images": [{"data": ""}]}}, "#/images/images/0/data"),
        ({"policy": [{"check": "none", "metric": "lerf_auc", "at_least": 0}]}, "#/policy/0/check"),
        ({"model": {**SMALL_MODEL, "name": "os"}, "plan": {"preset": "none"}}, "#/plan"),
    ],
)
def test_a_price_refuses_what_a_submission_refuses(client: TestClient, changes: dict[str, Any], field: str) -> None:
    answer, submitted = (client.post(path, json=body(**changes)) for path in ("/v1/estimates", "/v1/audits"))
    assert answer.status_code == submitted.status_code
    assert answer.is_client_error
    assert answer.json()["errors"][0]["pointer"].startswith(field)
    assert {**answer.json(), "instance": None} == {**submitted.json(), "instance": None}


@pytest.mark.parametrize(
    ("budget", "images_that_fit"),
    [
        ({"budget_passes": 2 * passes_of(QUICK) + 1}, 2),
        ({"budget_s": 1.5 * passes_of(QUICK) / 120.0}, 1),
        ({"budget_passes": 5}, 0),
    ],
)
def test_an_audit_above_the_budget_is_refused_and_leaves_nothing(
    make_settings: Callable[..., Settings], budget: dict[str, float], images_that_fit: int
) -> None:
    with TestClient(create_app(make_settings(**budget))) as client:
        answer = client.post("/v1/audits", json=body(), headers={"Idempotency-Key": "a"})
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["code"] == "budget_exceeded"
        assert problem["errors"][0]["pointer"] == "#/plan"
        assert "above the budget" in problem["detail"]
        assert "deletion" in problem["detail"]
        if images_that_fit:
            assert f"at most {images_that_fit} of the 3 images" in problem["detail"]
        with service_of(client).database.reading("default") as connection:
            for table in (AUDITS, IMAGE_BATCHES):
                assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
        quote = client.post("/v1/estimates", json=body()).json()
        assert quote["within_budget"] is False
        assert quote["advice"] == problem["detail"]
        if images_that_fit:
            # the advice is right, and the key of the refused request is free
            assert client.post("/v1/audits", json=body(images_that_fit), headers={"Idempotency-Key": "a"}).is_success


def test_shards_are_sized_by_the_measured_speed(make_settings: Callable[..., Settings]) -> None:
    with TestClient(create_app(make_settings(shard_target_s=10.0))) as client:
        remember(client, seen(passes=float(passes_of(QUICK)), seconds=4.0))
        audit_id = client.post("/v1/audits", json=body(6)).json()["id"]
        with service_of(client).database.reading("default") as connection:
            shards = list_shards(connection, audit_id)
    # an image takes 4 s, so two take 8 of the 10
    assert [(shard.start, shard.stop) for shard in shards if shard.kind == "compute"] == [(0, 2), (2, 4), (4, 6)]


def test_audits_are_priced_by_what_shards_took(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(micro_batch=None)  # what a worker measures is the price
    service = Service.of(settings)
    service.database.migrate()
    executor = worker_of(service)
    files = [UploadedFile(f"{n}.png", io.BytesIO(photo(50 * n)), f"images.{n}") for n in range(4)]
    digest = service.batches.store(ANONYMOUS, files).digest

    def audit(seed: int) -> tuple[Estimate, dict[str, float], AuditReport]:
        """Its estimate, the seconds of its two shards and its report."""
        request = AuditRequest.model_validate(
            {"model": SMALL_MODEL, "images": {"kind": "batch", "digest": digest}, "plan": {**PLAN, "seed": seed}}
        )
        submitted = service.audits.submit(ANONYMOUS, request)
        while queued := [shard.key for shard in shards(submitted.id) if shard.state == "queued"]:
            for key in queued:
                executor.run(key)
        found = [
            ShardResult.model_validate_json(service.blobs.get(shard.result_digest or ""))
            for shard in shards(submitted.id)
            if shard.kind != "assemble"
        ]
        return (
            Estimate.model_validate_json(submitted.estimate or ""),
            {result.wave: result.cost.seconds - result.preparation_seconds for result in found},
            sum(result.preparation_seconds for result in found),
            AuditReport.model_validate_json(service.audits.report(ANONYMOUS, submitted.id)),
        )

    def shards(audit_id: str) -> tuple[Shard, ...]:
        with service.database.reading("default") as connection:
            return list_shards(connection, audit_id)

    try:
        (first, first_took, prepared, report), (second, second_took, *_), (third, *_) = (
            audit(seed) for seed in range(3)
        )
    finally:
        service.stop()
    assert report.cost.estimated_seconds == first.seconds
    # the speed of the network is stored as if its images had the typical size
    reference = AuditRequest.model_validate(body(model=SMALL_MODEL)).references[0][1]
    with service.database.reading("default") as connection:
        own, at_any_size = (
            {one.wave: one.passes for one in speeds_of(connection, [identity(reference)])}
            for identity in (model_identity, network_identity)
        )
    for of in ("forward", "gradient", "comparison"):
        assert at_any_size[of] == pytest.approx(own[of] * input_shape_of(reference).pixels / 224**2)
    # the model was folded and calibrated on the way, which later audits do not pay
    assert prepared > 0
    assert report.cost.seconds == pytest.approx(sum(first_took.values()) + prepared)
    assert [one.basis for one in (first, second, third)] == ["assumed", "measured", "measured"]
    waves = ((KEPT * first_took[wave] + second_took[wave]) / (KEPT + 1) for wave in ("measure", "compute"))
    assert third.seconds == pytest.approx(sum(waves), abs=0.02)


@pytest.mark.parametrize("spare", [0, -1])
def test_requests_to_a_server_count_those_as_the_reference_of_other_models(spare: int) -> None:
    """In its own shards the prediction, the map and its repetition; those of 1 + 3 copies in both others."""
    images, masks = 2, 4
    needed = images * (1 + 2 * masks) + 2 * images * (1 + 3) * (1 + masks)
    served = {
        "kind": "open_inference",
        "url": "http://model:8000",
        "name": "served",
        "outputs": "logits",
        "preprocessing": {},
        "limits": {"images_per_request": 1, "requests": needed + spare},
    }
    plan = AuditPlan(explainers=(Rise(masks=masks),), checks=(AgreementCheck(reference="served"),))
    request = AuditRequest.model_validate(
        {
            "models": [
                {"name": "first", "model": {"kind": "demo"}},
                {"name": "served", "model": served},
                {"name": "last", "model": {"kind": "demo"}},
            ],
            "images": {"kind": "batch", "digest": f"sha256:{0:064}"},
            "plan": plan,
        }
    )
    expected = (
        contextlib.nullcontext() if spare == 0 else pytest.raises(RequestBudgetExceeded, match=f"about {needed} images")
    )
    with expected:
        check_request_limits(request, plan, images=images, model_capabilities=[WHITE_BOX, BLACK_BOX, WHITE_BOX])
