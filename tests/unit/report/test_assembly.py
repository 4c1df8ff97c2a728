"""From shard results to a report, and from a report to a verdict: orders, sums, gaps and thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import digits
import made_up_audits
from auditcore.contracts.augmentations import Scale
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import Gradient, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, validate_policy
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import (
    CheckCost,
    Cost,
    CurveSamples,
    ExplainedClass,
    ImageRecord,
    Measurement,
    ModelRecord,
    ShardResult,
)
from auditcore.contracts.significance import rounded
from auditcore.errors import DigestMismatch, InvalidRequest, NoUsableImages
from auditcore.images.encoded import EncodedImage
from auditcore.metrics.statistics import INTERVAL_RULE
from auditcore.report.assemble import assemble
from auditcore.report.bootstrap import PRINTED_POINTS, mean_curve
from auditcore.report.intervals import calibrated_intervals

PLAN = AuditPlan(seed=3, explainers=(Gradient(), Random()), checks=(DeletionCheck(), EddaCheck(keep=(0.15,))))
MODEL = ModelRecord(digest="sha256:" + "a" * 64, classes=10, parameters=5, trained=True, preprocessing=Preprocessing())


def measured(explainer: str, values: tuple[float | None, ...], first: int, **changes: Any) -> Measurement:
    gaps = {first + i: f"why {first + i}" for i, value in enumerate(values) if value is None}
    points = tuple(None if value is None else (1.0, value) for value in values)
    fields = {"check": "deletion", "explainer": explainer, "metric": "srg", "unit": "probability",
              "higher_is_better": True, "values": values, "reasons": gaps,
              "curve": CurveSamples(x=(0, 1), values=points)}  # fmt: skip
    return Measurement.model_validate(fields | changes)


def shard(first: int, *values: float | None, **changes: Any) -> ShardResult:
    images = tuple(
        ImageRecord(
            index=first + i,
            digest=EncodedImage(0, None, digits.png(first + i)).digest,
            targets=(ExplainedClass(target=0, probability=0.5),),
        )
        for i in range(len(values))
    )
    random = tuple(None if value is None else -value for value in values)
    rows = (measured("gradient", values, first), measured("random", random, first))
    cost = Cost(forward_images=7, backward_images=2, seconds=1.5, peak_memory_bytes=100 + first)
    fields = {"wave": "compute", "images": images, "measurements": rows, "model": MODEL, "cost": cost}
    return ShardResult.model_validate(fields | changes)


def report(*results: ShardResult, seed: int = 3, **policy: Any) -> AuditReport:
    request = AuditRequest(
        model=DemoModel(),
        images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=PLAN,
        policy=(Condition(check="deletion", metric="srg", **policy),) if policy else (),
    )
    return assemble(
        audit_id="a", request=request, plan=PLAN.model_copy(update={"seed": seed}), results=results, shared={None: {}},
        attempts=9, started_at=None, finished_at=None,
    )  # fmt: skip


SHARDS = (shard(0, 0.1, None), shard(2, 0.4, 0.9), shard(4, None, 0.3))
MEASURED = shard(0, 0.0, 0.0, wave="measure", measurements=())


def test_shards_may_come_in_any_order() -> None:
    found = report(SHARDS[2], MEASURED, SHARDS[0], SHARDS[1])
    assert [item.index for item in found.images.items] == [0, 1, 2, 3, 4, 5]
    row = found.results[0]
    assert row.per_image == (0.1, None, 0.4, 0.9, None, 0.3)
    assert row.reasons == {1: "why 1", 4: "why 4"}
    assert (row.n, row.n_not_applicable) == (4, 2)
    assert found.results == report(*SHARDS, MEASURED).results


def test_spread_and_bounds_are_in_their_places() -> None:
    row = report(*SHARDS).results[0]
    values = np.array([0.1, 0.4, 0.9, 0.3])
    assert row.mean == pytest.approx(values.mean(), rel=1e-6)
    assert row.std == pytest.approx(values.std(ddof=1), rel=1e-6)
    assert row.sem == pytest.approx(values.std(ddof=1) / 2, rel=1e-6)
    assert row.ci is not None
    assert row.ci[0] < values.mean() < row.ci[1]
    assert row.curve is not None
    # an image without a curve plays no role in the mean
    assert row.curve.mean == pytest.approx((1.0, values.mean()))
    low, high = row.curve.lo[1], row.curve.hi[1]
    assert low is not None
    assert high is not None
    assert low < values.mean() < high


def test_resamples_follow_the_seed() -> None:
    many = shard(0, 0.1, 0.23, 0.31, 0.57, 0.64, 0.82, 0.91)
    assert report(many).results[0].ci != report(many, seed=4).results[0].ci
    assert report(many).results[0].ci == report(many, seed=3).results[0].ci


def test_cost_is_that_of_all_waves() -> None:
    found = report(*SHARDS, MEASURED)
    assert (found.cost.forward_images, found.cost.backward_images, found.cost.seconds) == (28, 8, 6.0)
    assert found.cost.peak_memory_bytes == 104
    assert (found.manifest.shards, found.manifest.attempts) == (4, 9)


@pytest.mark.parametrize("wave", ["measure", "compute"])
def test_shards_of_different_models_do_not_mix(wave: str) -> None:
    other = MODEL.model_copy(update={"digest": "sha256:" + "b" * 64})
    with pytest.raises(DigestMismatch):
        report(SHARDS[0], shard(2, 0.5, 0.5, model=other, wave=wave))


def test_a_shard_without_usable_images_has_no_applicability() -> None:
    excluded = ImageRecord(index=0, digest="sha256:" + "c" * 64, code="undecodable_image", reason="bad")
    empty = shard(0, wave="compute", images=(excluded,), measurements=())
    used = shard(1, 0.5, 0.2, not_applicable={"grad_cam": "no layer"})
    found = report(empty, used)
    assert found.not_applicable == {"grad_cam": "no layer"}
    assert found.images.digest != report(shard(1, 0.5, 0.2)).images.digest


@pytest.mark.parametrize("reached", [True, False])
def test_automatic_intervals_are_described_in_words(reached: bool) -> None:  # noqa: FBT001
    plan = PLAN.model_copy(update={"checks": (SweepCheck(augmentations=(Scale(),)),)})
    (found,) = calibrated_intervals(plan, {None: {"sweep.scale.interval": (0.9, 1.1, float(reached))}})
    assert (found.check, found.augmentation, found.interval, found.reached) == ("sweep", "scale", (0.9, 1.1), reached)
    assert ("never dropped" in found.message) is not reached
    assert "model" not in found.message
    assert {"own_interval", "set_by"}.isdisjoint(found.model_dump())


# --- several models -------------------------------------------------------------------------------

SEVERAL = (
    made_up_audits.shard("one", {0: [3], 1: "no label"}, made_up_audits.row("gradient", [0.5])),
    made_up_audits.shard("one", {2: [4], 3: [5]}, made_up_audits.row("gradient", [0.25, 0.75])),
    made_up_audits.shard("two", {0: "wrong", 1: "wrong"}, not_applicable={}),
    made_up_audits.shard(
        "two",
        {2: [6, 4], 3: "wrong"},
        made_up_audits.row("gradient", [None], reasons={2: "constant"}, per_target=((None, None),)),
        not_applicable={"grad_cam": "no layer"},
    ),
)


def test_rows_of_several_models_follow_the_same_images() -> None:
    found = made_up_audits.report(*SEVERAL)
    # image 1 is excluded by both models, image 3 only by the first
    assert [item.index for item in found.images.items] == [0, 2, 3]
    assert [(one.index, one.reason) for one in found.images.excluded] == [(1, "no label")]
    assert (found.images.count, found.images.used) == (4, 3)
    one, two = found.results
    assert (one.model, one.per_image, one.n, one.n_not_applicable) == ("one", (0.5, 0.25, 0.75), 3, 0)
    assert (two.model, two.per_image, two.n, two.n_not_applicable) == ("two", (None, None, None), 0, 3)
    assert two.reasons == {0: "wrong", 2: "constant", 3: "wrong"}
    assert (found.model, [model.name for model in found.models]) == (None, ["one", "two"])
    assert found.not_applicable == {"two/grad_cam": "no layer"}


def test_an_image_lists_what_each_model_explained() -> None:
    middle = made_up_audits.report(*SEVERAL).images.items[1]
    assert (middle.target, middle.further_targets) == (4, ())
    classes = {model: [one.target for one in own] for model, own in middle.by_model.items()}
    assert classes == {"one": [4], "two": [6, 4]}
    reverse = made_up_audits.report(made_up_audits.shard("one", {2: "wrong"}), *SEVERAL[3:]).images.items[0]
    assert (reverse.target, [one.target for one in reverse.further_targets]) == (6, [4])


def test_an_audit_of_one_model_names_none() -> None:
    found = report(*SHARDS)
    assert (found.models, found.images.items[0].by_model, found.results[0].model) == ((), {}, None)
    assert found.model is not None
    assert found.model.name is None
    assert (found.comparisons, found.reliability) == ((), ())


def test_shards_of_models_may_come_in_any_order() -> None:
    assert made_up_audits.report(*reversed(SEVERAL)) == made_up_audits.report(*SEVERAL)


def test_each_model_keeps_its_own_weights() -> None:
    other = SEVERAL[0].model.model_copy(update={"digest": "sha256:" + "f" * 64})
    with pytest.raises(DigestMismatch) as caught:
        made_up_audits.report(*SEVERAL[:3], SEVERAL[3].model_copy(update={"model": other}))
    assert caught.value.field == "models.1.model.weights"


def test_a_row_that_a_shard_lacks_is_a_gap_not_a_shift() -> None:
    lacking = made_up_audits.shard(None, {0: [3], 1: [3]}, made_up_audits.row("grad_cam", [0.5, 0.5]))
    whole = made_up_audits.shard(
        None, {2: [4]}, made_up_audits.row("gradient", [0.25]), made_up_audits.row("grad_cam", [0.5])
    )
    grad_cam, gradient = made_up_audits.report(lacking, whole).results
    # rows are in the order of the shard with the first image that has them
    assert made_up_audits.report(whole, lacking) == made_up_audits.report(lacking, whole)
    assert (grad_cam.per_image, gradient.per_image) == ((0.5, 0.5, 0.5), (None, None, 0.25))
    assert set(gradient.reasons) == {0, 1}


def test_adding_an_explainer_changes_no_interval() -> None:
    values = np.random.default_rng(0).lognormal(size=(7, 2)).tolist()
    first = [value for value, _ in values]
    images = {index: [3] for index in range(7)}
    alone = made_up_audits.report(made_up_audits.shard(None, images, made_up_audits.row("gradient", first)))
    joined = made_up_audits.report(
        made_up_audits.shard(
            None,
            images,
            made_up_audits.row("grad_cam", [None, *(value for _, value in values[1:])]),
            made_up_audits.row("gradient", first),
        )
    )
    assert alone.results[0] == joined.results[1]


def test_small_samples_are_marked() -> None:
    rows = [
        made_up_audits.report(
            made_up_audits.shard(
                None, {i: [0] for i in range(30)}, made_up_audits.row("gradient", [*range(1, 30), last])
            )
        ).results[0]
        for last in (None, 0.5)
    ]
    assert [(row.n, row.small_sample) for row in rows] == [(29, True), (30, False)]


def test_copies_of_a_photo_are_one_image() -> None:
    images = {index: [1] for index in range(40)}
    photo = dict.fromkeys(range(10, 40), 9)
    values = [0.1 * index for index in range(9)] + [0.05] * 31
    row = made_up_audits.row("gradient", values, curve=CurveSamples(x=(0, 1), values=tuple((1, v) for v in values)))
    found = made_up_audits.report(made_up_audits.shard(None, images, row, copies=photo)).results[0]
    once = row.model_copy(
        update={
            "values": row.values[:10],
            "curve": CurveSamples(x=(0, 1), values=tuple((1, value) for value in values[:10])),
        }
    )
    alone = made_up_audits.report(made_up_audits.shard(None, {i: [1] for i in range(10)}, once)).results[0]
    assert (found.n, found.n_not_applicable, len(found.per_image)) == (10, 0, 40)
    assert found.model_copy(update={"per_image": alone.per_image}) == alone


def test_copies_without_a_value_are_one_image_without_a_value() -> None:
    images = {index: [1] for index in range(6)}
    row = made_up_audits.row("gradient", [0.1, 0.4, None, None, None, 0.3], reasons={2: "a", 3: "a", 4: "b"})
    found = made_up_audits.report(made_up_audits.shard(None, images, row, copies={3: 2, 5: 0})).results[0]
    assert (found.n, found.n_not_applicable, found.mean) == (2, 2, pytest.approx((0.2 + 0.4) / 2))


def test_values_that_are_all_equal_have_an_interval_within_the_range_or_a_reason() -> None:
    images = {index: [1] for index in range(8)}
    bounded, unbounded = made_up_audits.report(
        made_up_audits.shard(
            None,
            images,
            made_up_audits.row("gradient", [1.0] * 8, metric="lerf_auc"),
            made_up_audits.row("gradient", [1.0] * 8, check="sweep", metric="s_pearson", variant="rotate"),
        )
    ).results
    assert bounded.ci == pytest.approx((0.025 ** (1 / 8), 1), rel=1e-6)
    assert "ci_reason" not in bounded.model_dump()
    assert unbounded.ci is None
    assert (unbounded.ci_reason or "").startswith("all 8 values are equal")


def test_the_manifest_describes_how_intervals_were_computed() -> None:
    assert report(*SHARDS).manifest.interval == INTERVAL_RULE


def test_costs_of_checks_are_added_by_name_and_shared_over_all_passes() -> None:
    def cost(forward: int, backward: int, **checks: tuple[int, int]) -> Cost:
        return Cost(
            forward_images=forward, backward_images=backward,
            checks={name: CheckCost(forward_images=f, backward_images=b) for name, (f, b) in checks.items()},
        )  # fmt: skip

    found = report(
        shard(0, 0.5, cost=cost(10, 0, deletion=(10, 0))),
        shard(1, 0.5, cost=cost(20, 10, deletion=(5, 0), edda=(15, 10))),
        shard(0, 0.5, wave="measure", measurements=(), cost=cost(7, 0, measure=(7, 0))),
    ).cost
    total = 37 + 1.3 * 10
    assert found.checks == {
        "deletion": CheckCost(forward_images=15, backward_images=0, share=rounded(15 / total)),
        "edda": CheckCost(forward_images=15, backward_images=10, share=rounded(28 / total)),
        "measure": CheckCost(forward_images=7, backward_images=0, share=rounded(7 / total)),
    }
    assert sum(check.share for check in found.checks.values()) == pytest.approx(1)


def test_all_models_share_the_narrowest_interval_and_the_report_names_its_model() -> None:
    plan = made_up_audits.PLAN.model_copy(update={"checks": (SweepCheck(augmentations=(Scale(),)),)})
    ends = {"one": (0.8, 1.2, 0.0), "two": (0.9, 1.1, 1.0)}
    shared = {**{name: {"sweep.scale.interval": own} for name, own in ends.items()}, "three": {}}
    shards = [made_up_audits.shard(name, {0: [1]}) for name in ends]
    # it could use no image, so nothing was measured on it
    shards.append(made_up_audits.shard("three", {0: "not correct"}))
    first, second = made_up_audits.report(*shards, plan=plan, shared=shared).intervals
    assert (first.model, first.interval, first.own_interval, first.set_by) == ("one", (0.9, 1.1), (0.8, 1.2), "two")
    assert (second.model, second.interval, second.own_interval, second.set_by) == ("two", (0.9, 1.1), (0.9, 1.1), "two")
    assert (first.reached, second.reached) == (False, True)
    assert first.message.startswith("narrowest: model two; ")
    assert first.message.endswith("this model never dropped by 10 % on the whole bound [0.8, 1.2]")
    assert second.message == "narrowest of all models: the mean target probability has dropped by 10 % at one end"


def test_an_audit_without_any_usable_image_has_a_reason() -> None:
    shards = [made_up_audits.shard(name, {0: f"{name} is wrong", 1: "also"}) for name in ("one", "two")]
    with pytest.raises(NoUsableImages, match="none of the 2 images can be used; the first one: one is wrong"):
        made_up_audits.report(*shards)


@pytest.mark.parametrize(("model", "models"), [("three", ("one", "two")), ("one", ())])
def test_a_condition_on_an_unknown_model_is_refused(model: str, models: tuple[str, ...]) -> None:
    condition = Condition(model=model, check="deletion", explainer="gradient", metric="srg", at_least=0.5)
    with pytest.raises(InvalidRequest, match=", ".join(("null", *models))) as caught:
        validate_policy((condition,), made_up_audits.PLAN, models)
    assert caught.value.field == "policy.0.model"
    validate_policy((condition.model_copy(update={"model": None}),), made_up_audits.PLAN, models)
    validate_policy((condition,), made_up_audits.PLAN, (*models, model))


@pytest.mark.parametrize("steps", [2, PRINTED_POINTS, PRINTED_POINTS + 1, 225])
def test_long_curves_keep_both_ends_and_the_positions_of_their_points(steps: int) -> None:
    x = tuple(step / (steps - 1) for step in range(steps))
    samples = CurveSamples(x=x, values=(x, None, tuple(1 + value for value in x)))
    curve = mean_curve(samples, images=("a", "b", "c"), seed=0)
    assert len(curve.x) == min(steps, PRINTED_POINTS)
    assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert len(set(curve.x)) == len(curve.x)
    assert curve.mean == pytest.approx([0.5 + value for value in curve.x], abs=1e-4)
