"""From shard results to a report, and from a report to a verdict: orders, sums, gaps and thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import digits
from auditcore.contracts.augmentations import Scale
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import Gradient, Random
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel, Preprocessing
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport, ReportStatistics, Result
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import Cost, CurveSamples, ImageRecord, Measurement, ModelRecord, ShardResult
from auditcore.errors import DigestMismatch
from auditcore.images.encoded import EncodedImage
from auditcore.report.assemble import assemble
from auditcore.report.intervals import calibrated_intervals
from auditcore.report.verdict import evaluate, verdict

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
            index=first + i, digest=EncodedImage(0, None, digits.png(first + i)).digest, target=0, probability=0.5
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
        audit_id="a", request=request, plan=PLAN.model_copy(update={"seed": seed}), results=results, shared={},
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


def test_spread_and_bounds_stand_in_their_places() -> None:
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


def test_shards_of_different_models_do_not_mix() -> None:
    other = MODEL.model_copy(update={"digest": "sha256:" + "b" * 64})
    with pytest.raises(DigestMismatch):
        report(SHARDS[0], shard(2, 0.5, 0.5, model=other))


def test_a_shard_without_usable_images_knows_no_applicability() -> None:
    excluded = ImageRecord(index=0, digest="sha256:" + "c" * 64, code="undecodable_image", reason="bad")
    empty = shard(0, wave="compute", images=(excluded,), measurements=())
    used = shard(1, 0.5, 0.2, not_applicable={"grad_cam": "no layer"})
    found = report(empty, used)
    assert found.not_applicable == {"grad_cam": "no layer"}
    assert found.images.digest != report(shard(1, 0.5, 0.2)).images.digest


@pytest.mark.parametrize(
    ("threshold", "status"),
    [
        ({"at_least": 0.5}, "passed"), ({"at_least": 0.51}, "failed"), ({"at_most": 0.5}, "passed"),
        ({"at_most": 0.49}, "failed"), ({"at_most": 0.49, "severity": "warn"}, "warned"),
    ],
)  # fmt: skip
def test_a_threshold_that_is_met_exactly_is_met(threshold: dict[str, Any], status: str) -> None:
    row = report(shard(0, 0.25, 0.75)).results[0]
    condition = Condition(id="mine", check="deletion", explainer="gradient", metric="srg", **threshold)
    (found,) = evaluate((condition,), (row,))
    assert (found.id, found.status, found.observed, found.ci) == ("mine", status, 0.5, row.ci)
    relation = {("at_least", True): "is at least", ("at_least", False): "is below",
                ("at_most", True): "is at most", ("at_most", False): "is above"}  # fmt: skip
    assert relation[next(iter(threshold)), status == "passed"] in found.message


def test_a_condition_is_judged_by_its_own_row() -> None:
    row = report(shard(0, 0.25, 0.75)).results[0]
    rows = [Result.model_validate(row.model_dump() | change) for change in (
        {"variant": "hue", "mean": 0.1}, {"explainer": "random", "mean": 0.2}, {"check": "other", "mean": 0.3},
        {"metric": "lerf_auc", "mean": 0.4}, {},
    )]  # fmt: skip
    condition = Condition(check="deletion", explainer="gradient", metric="srg", at_least=0.0)
    assert evaluate((condition,), rows)[0].observed == 0.5
    assert evaluate((condition,), rows[:-1])[0].status == "not_applicable"


@pytest.mark.parametrize("reached", [True, False])
def test_automatic_intervals_are_told_in_words(reached: bool) -> None:  # noqa: FBT001
    plan = PLAN.model_copy(update={"checks": (SweepCheck(families=(Scale(),)),)})
    (found,) = calibrated_intervals(plan, {"sweep.scale.interval": (0.9, 1.1, float(reached))})
    assert (found.check, found.family, found.interval, found.reached) == ("sweep", "scale", (0.9, 1.1), reached)
    assert ("never dropped" in found.message) is not reached


@pytest.mark.parametrize(
    ("failed", "not_applicable", "warned", "expected"),
    [(1, 1, 1, "fail"), (0, 1, 1, "inconclusive"), (0, 0, 1, "warn"), (0, 0, 0, "pass"), (1, 0, 0, "fail")],
)
def test_the_worst_outcome_decides(failed: int, not_applicable: int, warned: int, expected: str) -> None:
    statistics = ReportStatistics(
        evaluated=9, passed=9 - failed - not_applicable - warned, warned=warned, failed=failed,
        not_applicable=not_applicable,
    )  # fmt: skip
    assert verdict(statistics) == expected
