"""Several models in one audit: each as in its own audit except for shared intervals, with the same random orders."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import DeletionCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, InputXGradient, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import Weights
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport, Result
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.errors import InputError, InvalidRequest
from auditcore.report.serialize import report_bytes

PLAN = AuditPlan(
    seed=5,
    explainers=(Gradient(), InputXGradient(), GradCam(), Random()),
    checks=(
        SweepCheck(augmentations=(Brightness(interval=(-0.2, 0.2)),), levels=3, top_k=100),
        DeletionCheck(grid=4, repeats=2),
    ),
)
AUTOMATIC = PLAN.model_copy(
    update={"checks": (SweepCheck(augmentations=(Brightness(), Rotate()), levels=3, top_k=100), *PLAN.checks[1:])}
)
BATCH = ImageBatchReference(digest="sha256:" + "0" * 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write_weights(tmp_path_factory.mktemp("weights"))


def models(weights: Path) -> tuple[NamedModel, ...]:
    trained = digits.reference(weights)
    return (
        NamedModel(name="trained", model=trained),
        NamedModel(name="fresh", model=trained.model_copy(update={"weights": Weights(uri="random:1")})),
        NamedModel(name="other", model=trained.model_copy(update={"weights": Weights(uri="random:2")})),
    )


def run(request: AuditRequest, weights: Path, **options: object) -> AuditReport:
    images = options.pop("images", digits.encoded(4, labeled=True))
    # a size measured on a busy machine may be another the next time, and sizes differ by rounding
    options.setdefault("micro_batch", 64)
    return audit(request, images=images, access=digits.access(weights.parent), audit_id="several", **options)


@pytest.fixture(scope="module")
def report(weights: Path) -> AuditReport:
    return run(AuditRequest(models=models(weights), images=BATCH, plan=PLAN), weights)


def rows(report: AuditReport, model: str | None) -> dict[tuple[str, str | None, str, str | None], Result]:
    return {
        (row.check, row.explainer, row.metric, row.variant): row
        for row in (*report.results, *report.controls)
        if row.model == model
    }


def test_each_model_has_the_same_numbers_as_in_its_own_audit(report: AuditReport, weights: Path) -> None:
    assert report.model is None
    assert [model.name for model in report.models] == ["trained", "fresh", "other"]
    for entry in models(weights):
        alone = run(AuditRequest(model=entry.model, images=BATCH, plan=PLAN), weights)
        assert alone.models == ()
        expected = rows(alone, None)
        found = rows(report, entry.name)
        assert found.keys() == expected.keys()
        for key, row in expected.items():
            assert found[key].per_image == row.per_image
            assert found[key].ci == row.ci


@pytest.mark.parametrize("shard_images", [pytest.param(64, marks=pytest.mark.long), 2])
def test_an_automatic_interval_is_the_narrowest_of_all_models(weights: Path, shard_images: int) -> None:
    alone = {
        entry.name: run(AuditRequest(model=entry.model, images=BATCH, plan=AUTOMATIC), weights).intervals
        for entry in models(weights)
    }
    report = run(AuditRequest(models=models(weights), images=BATCH, plan=AUTOMATIC), weights, shard_images=shard_images)
    narrowest = {}
    for position, augmentation in enumerate(("brightness", "rotate")):
        own = {name: found[position].interval for name, found in alone.items()}
        assert len(set(own.values())) > 1, "these models would share it anyway"
        narrowest[augmentation] = min(own.items(), key=lambda entry: entry[1][1] - entry[1][0])
    assert len(report.intervals) == 3 * 2
    for found in report.intervals:
        setter, interval = narrowest[found.augmentation]
        own = next(one for one in alone[found.model or ""] if one.augmentation == found.augmentation)
        assert (found.interval, found.set_by) == (interval, setter)
        assert (found.own_interval, found.reached) == (own.interval, own.reached)
    # and they compute with it, as in an audit of each with explicit intervals of this width
    augmentations = (Brightness(interval=narrowest["brightness"][1]), Rotate(interval=narrowest["rotate"][1]))
    sweep = AUTOMATIC.checks[0].model_copy(update={"augmentations": augmentations})
    explicit = AUTOMATIC.model_copy(update={"checks": (sweep, *AUTOMATIC.checks[1:])})
    for entry in models(weights):
        expected = rows(run(AuditRequest(model=entry.model, images=BATCH, plan=explicit), weights), None)
        for key, row in rows(report, entry.name).items():
            assert row.per_image == pytest.approx(expected[key].per_image, rel=1e-5, abs=1e-6), key


def test_a_model_without_usable_images_does_not_block_the_interval_of_the_others(weights: Path) -> None:
    """By itself it has nothing to report; with other models it is null everywhere, with the reason."""
    plan = AUTOMATIC.model_copy(update={"only_correct": True})
    images = digits.encoded(20, labeled=True)
    request = AuditRequest(models=models(weights)[:2], images=BATCH, plan=plan)
    whole = run(request, weights, images=images)
    correct = {name: {i.index for i in whole.images.items if name in i.by_model} for name in ("trained", "fresh")}
    only_trained = sorted(correct["trained"] - correct["fresh"])[:3]
    kept = [dataclasses.replace(images[index], index=place) for place, index in enumerate(only_trained)]
    report = run(request, weights, images=kept)
    assert {one.model for one in report.intervals} == {"trained"}
    assert all(one.set_by == "trained" for one in report.intervals)
    assert all(row.n == 3 for row in report.results if row.model == "trained" and row.metric == "probability_score")


def test_differences_are_those_of_the_images(report: AuditReport) -> None:
    first, second = rows(report, "trained"), rows(report, "fresh")
    compared = {
        (c.check, c.explainer, c.metric, c.variant): c
        for c in report.comparisons
        if (c.model, c.against) == ("fresh", "trained")
    }
    assert ("deletion", "gradient", "inter_model_deletion", None) in compared
    for key, comparison in compared.items():
        pairs = [
            (a, b)
            for a, b in zip(first[key].per_image, second[key].per_image, strict=True)
            if a is not None and b is not None
        ]
        assert comparison.n == len(pairs)
        if pairs:
            # the first model is the one that later ones are measured against
            expected = math.fsum(b - a for a, b in pairs) / len(pairs)
            assert comparison.difference == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert len({(c.model, c.against) for c in report.comparisons}) == 3


def test_reliability_compares_the_orders_of_explainers(report: AuditReport) -> None:
    entry = next(r for r in report.reliability if r.metric == "inter_model_deletion")
    assert set(entry.orders) == {"trained", "fresh", "other"}
    for name, order in entry.orders.items():
        means = {
            explainer: rows(report, name)["deletion", explainer, "inter_model_deletion", None].mean
            for explainer in ("gradient", "input_x_gradient", "grad_cam")
        }
        assert list(order) == sorted(order, key=lambda explainer: -means[explainer])
    assert entry.reliable is (len(set(entry.orders.values())) == 1)
    assert entry.kendall_w is not None
    assert 0 <= entry.kendall_w <= 1


def test_random_orders_are_the_same_for_every_model(weights: Path) -> None:
    """The same weights under two names are the same model: every difference is exactly 0."""
    trained = digits.reference(weights)
    twins = (NamedModel(name="a", model=trained), NamedModel(name="b", model=trained))
    report = run(AuditRequest(models=twins, images=BATCH, plan=PLAN), weights)
    assert {c.difference for c in report.comparisons if c.n} == {0.0}
    assert all(r.reliable for r in report.reliability if r.reliable is not None)


def test_an_image_that_one_model_leaves_out_is_null_there_and_nowhere_else(weights: Path) -> None:
    plan = AuditPlan(seed=5, only_correct=True, explainers=(Gradient(),), checks=(DeletionCheck(grid=2, repeats=1),))
    request = AuditRequest(models=models(weights)[:2], images=BATCH, plan=plan)
    report = run(request, weights, images=digits.encoded(20, labeled=True))
    left_out = 0
    for name in ("trained", "fresh"):
        row = next(r for r in report.results if r.model == name and r.metric == "rao_auc")
        for position, item in enumerate(report.images.items):
            if name in item.by_model:
                assert row.per_image[position] is not None
            else:
                left_out += 1
                assert row.per_image[position] is None
                assert "correct" in row.reasons[item.index]
    assert left_out
    assert report.images.used + len(report.images.excluded) == 20


def test_conditions_hold_for_every_model_or_for_one(weights: Path) -> None:
    condition = Condition(check="deletion", explainer="grad_cam", metric="lerf_auc", at_least=0.0)
    one = condition.model_copy(update={"model": "fresh", "id": "one"})
    report = run(AuditRequest(models=models(weights), images=BATCH, plan=PLAN, policy=(condition, one)), weights)
    assert [outcome.model for outcome in report.conditions] == ["trained", "fresh", "other", "fresh"]
    unknown = condition.model_copy(update={"model": "oracle"})
    with pytest.raises(InvalidRequest) as caught:
        run(AuditRequest(models=models(weights), images=BATCH, plan=PLAN, policy=(unknown,)), weights)
    assert caught.value.field == "policy.0.model"
    with pytest.raises(InvalidRequest):
        run(AuditRequest(model=models(weights)[0].model, images=BATCH, plan=PLAN, policy=(one,)), weights)


def test_an_error_names_its_model(weights: Path) -> None:
    missing = digits.reference(weights.with_name("nowhere.safetensors"))
    pair = (models(weights)[0], NamedModel(name="lost", model=missing))
    with pytest.raises(InputError) as caught:
        run(AuditRequest(models=pair, images=BATCH, plan=PLAN), weights)
    assert caught.value.field.startswith("models.1.model.weights")


def test_shards_change_nothing(report: AuditReport, weights: Path) -> None:
    small = run(AuditRequest(models=models(weights), images=BATCH, plan=PLAN), weights, shard_images=1, micro_batch=3)
    for name in ("trained", "fresh", "other"):
        expected = rows(report, name)
        for key, row in rows(small, name).items():
            assert row.per_image == pytest.approx(expected[key].per_image, rel=1e-4, abs=1e-5)


def test_the_same_request_gives_the_same_bytes(report: AuditReport, weights: Path) -> None:
    again = run(AuditRequest(models=models(weights), images=BATCH, plan=PLAN), weights)

    def settled(report: AuditReport) -> bytes:
        cost = report.cost.model_copy(update={"seconds": 0.0, "peak_memory_bytes": 0})
        return report_bytes(report.model_copy(update={"cost": cost}))

    assert settled(again) == settled(report)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": {"kind": "demo"}, "models": [{"name": "a", "model": {"kind": "demo"}}]},
        {"models": [{"name": "a", "model": {"kind": "demo"}}]},
        {"models": [{"name": "a", "model": {"kind": "demo"}}, {"name": "a", "model": {"kind": "demo"}}]},
    ],
)
def test_a_request_names_one_model_or_several_with_their_own_names(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="model"):
        AuditRequest.model_validate(
            {"images": {"kind": "batch", "digest": BATCH.digest}, "plan": {"preset": "quick"}, **fields}
        )
