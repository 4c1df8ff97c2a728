"""A stop rule on a small trained classifier: what it saves, and that it answers what all images would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import digits
from auditcore.auditing import audit
from auditcore.contracts.checks import Game
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.models import Weights
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest, NamedModel
from auditcore.report.headlines import check_kinds
from auditcore.report.stopping import image_order

IMAGES = 80
PLAN: dict[str, Any] = {
    "seed": 1,
    "explainers": [{"kind": "input_x_gradient"}, {"kind": "gradient"}],
    "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
}
CLEAR = (
    {"check": "deletion", "explainer": "input_x_gradient", "metric": "srg", "at_least": 0.0},
    {"check": "edda", "explainer": "gradient", "metric": "drop_percent", "variant": "top_15", "at_most": 5},
    {"check": "deletion", "explainer": "gradient", "metric": "morf_auc", "at_most": 0.99, "severity": "warn"},
)
Run = Callable[..., AuditReport]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def run(weights: Path) -> Run:
    def run(count: int = IMAGES, *, models: int = 1, labeled: bool = False, **changes: Any) -> AuditReport:
        body = {"plan": PLAN, "policy": CLEAR, "stop": "conclusive"} | changes
        options = body.pop("options", {})
        trained = digits.reference(weights)
        other = trained.model_copy(update={"weights": Weights(uri="random:1")})
        several = (NamedModel(name="trained", model=trained), NamedModel(name="fresh", model=other))
        request = AuditRequest.model_validate(
            {
                "model": trained if models == 1 else None,
                "models": several if models > 1 else (),
                "images": ImageBatchReference(digest="sha256:" + "0" * 64),
                **body,
            }
        )
        images = digits.encoded(count, labeled=labeled)
        options = {"micro_batch": 8} | options
        return audit(request, images=images, access=digits.access(weights.parent), audit_id="test", **options)

    return run


@pytest.fixture(scope="module")
def stopped(run: Run) -> AuditReport:
    return run()


@pytest.fixture(scope="module")
def whole(run: Run) -> AuditReport:
    return run(stop=None)


def test_a_clear_case_saves_more_than_half_and_ends_as_all_images_would(
    stopped: AuditReport, whole: AuditReport
) -> None:
    assert stopped.stopping is not None
    assert stopped.stopping.stopped_early
    assert stopped.stopping.images_used < IMAGES / 2
    assert stopped.images.not_examined == IMAGES - stopped.stopping.images_used
    assert stopped.cost.forward_images < whole.cost.forward_images / 2
    # a random order meets the last one too
    assert [one.status for one in stopped.conditions] == ["passed", "failed", "vacuous"]
    assert [one.status for one in whole.conditions] == [one.status for one in stopped.conditions]
    assert stopped.verdict == whole.verdict == "fail"
    for decision, outcome in zip(stopped.stopping.decisions, whole.conditions, strict=True):
        low, high = decision.interval
        assert outcome.observed is not None
        assert low is not None
        assert high is not None
        assert low <= outcome.observed <= high


def test_the_images_are_the_first_of_the_order_and_their_values_are_the_same(
    stopped: AuditReport, whole: AuditReport
) -> None:
    assert stopped.stopping is not None
    used = sorted(image_order(1, IMAGES)[: stopped.stopping.images_used])
    assert [item.index for item in stopped.images.items] == used
    everything = {(r.check, r.explainer, r.metric, r.variant): r.per_image for r in whole.results}
    for result in stopped.results:
        values = everything[result.check, result.explainer, result.metric, result.variant]
        assert result.per_image == pytest.approx([values[index] for index in used], rel=1e-3, abs=1e-4)


def test_where_it_ends_does_not_depend_on_shards(run: Run, stopped: AuditReport) -> None:
    small = run(options={"shard_images": 3, "micro_batch": 2})
    assert small.stopping is not None
    assert stopped.stopping is not None
    assert small.stopping.images_used == stopped.stopping.images_used
    assert [one.decided_at for one in small.stopping.decisions] == [
        one.decided_at for one in stopped.stopping.decisions
    ]


def test_what_belongs_to_the_whole_audit_is_measured_on_all_images(run: Run) -> None:
    sweep = {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 100}
    plan = PLAN | {"explainers": PLAN["explainers"][:1], "checks": [sweep, PLAN["checks"][0]]}
    stopped, whole = (run(40, plan=plan, policy=CLEAR[:1], stop=stop) for stop in ("conclusive", None))
    assert stopped.stopping is not None
    assert stopped.stopping.stopped_early
    assert stopped.intervals == whole.intervals
    assert stopped.cost.checks["measure"].forward_images == whole.cost.checks["measure"].forward_images


def test_several_models_are_looked_at_together(run: Run) -> None:
    shares: list[float] = []
    found = run(40, models=2, policy=CLEAR[1:2], options={"progress": shares.append})
    assert found.stopping is not None
    assert [one.model for one in found.stopping.decisions] == ["trained", "fresh"]
    used = {len(result.per_image) for result in found.results}
    assert used == {found.stopping.images_used}
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_pictures_show_images_that_were_audited(run: Run) -> None:
    pictures: dict[str, bytes] = {}
    found = run(policy=CLEAR[:1], options={"pictures": pictures, "picture_images": 2})
    assert {artifact.image for artifact in found.artifacts} == set(image_order(1, IMAGES)[:2])
    assert found.images.pictured == 2


def test_images_that_are_left_out_are_not_those_never_examined(run: Run) -> None:
    plan = PLAN | {"target": "label", "only_correct": True}
    found = run(60, labeled=True, plan=plan, policy=CLEAR[:1], stop={"first_look": 24})
    assert found.stopping is not None
    assert found.images.used + len(found.images.excluded) == found.stopping.images_used
    assert found.images.count == 60
    assert found.images.not_examined == 60 - found.stopping.images_used > 0
    assert all(excluded.reason for excluded in found.images.excluded)


@pytest.mark.long
def test_values_are_in_the_ranges_that_decisions_use(run: Run) -> None:
    checks = [
        {"kind": "sweep", "augmentations": [{"kind": "rotate", "interval": [-40, 40]}], "levels": 3, "top_k": 100},
        {"kind": "sweep", "name": "code", "augmentations": [{"kind": "brightness", "interval": [-0.4, 0.4]}],
         "levels": 3, "top_k": 100, "anchor": "max"},
        {"kind": "deletion", "grid": 4, "repeats": 1},
        {"kind": "edda", "keep": [0.15, 0.5], "thresholds": [0.5]},
        {"kind": "pixel_flipping", "pixels_per_step": 64},
        {"kind": "insertion_deletion", "pixels_per_step": 256, "games": get_args(Game)},
        {"kind": "road", "shares": [0.1, 0.5]},
        {"kind": "sensitivity", "draws": 2},
        {"kind": "infidelity", "draws": 2},
        {"kind": "randomization", "stages": 2, "similarity": "pearson"},
        {"kind": "complexity"},
    ]  # fmt: skip
    explainers = [{"kind": kind} for kind in ("gradient", "grad_cam", "random")]
    explainers.append({"kind": "smoothgrad"})
    found = run(12, plan=PLAN | {"explainers": explainers, "checks": checks}, policy=(), stop=None)
    kinds, seen = check_kinds(found), set()
    for result in (*found.results, *found.controls):
        metric = METRICS[kinds[result.check]][result.metric]
        values = [value for value in result.per_image if value is not None]
        seen.add((kinds[result.check], result.metric))
        if metric.lowest is not None:
            assert min(values, default=metric.lowest) >= metric.lowest - 1e-6, result.metric
        if metric.highest is not None:
            assert max(values, default=metric.highest) <= metric.highest + 1e-6, result.metric
    known = {(kind, metric) for kind in {check["kind"] for check in checks} for metric in METRICS[str(kind)]}
    assert known <= seen
