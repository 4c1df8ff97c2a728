from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import t as student

import auditcore
import deciding_patch as world
import reference_retraining
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import GradCam, Iba, InputXGradient, Precomputed, Random
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.retraining.roar import RoarPlan, RoarReport, RoarRequest, RoarResult
from auditcore.contracts.training.optimizers import Sgd
from auditcore.contracts.training.plan import EpochAudit
from auditcore.contracts.training.request import TrainingRequest
from auditcore.errors import AuditCancelled, BudgetTooSmall, InvalidRequest, TrainingDiverged
from auditcore.models.loading import load_classifier
from auditcore.retraining.roar_weights import with_random_weights
from auditcore.training import labeled_images
from auditcore.training.local_training import training_sets
from auditcore.training.training_run import TrainingRun

TRAINING, VALIDATION = world.images(96, 1), world.images(64, 2)
CHANCE = 0.75
"""No more than this is right by chance: 4 standard deviations above one half, with 64 images."""


def roar(plan: RoarPlan, **how: Any) -> RoarReport:
    model = how.pop("model", world.model())
    budget = how.pop("budget_seconds", None)
    request = RoarRequest(model=model, images=world.STORED, plan=plan, budget_seconds=budget)
    named = {"images": TRAINING, "validation": VALIDATION, "access": world.ACCESS} | how
    return auditcore.roar(request, **named)


def plan(**fields: Any) -> RoarPlan:
    return RoarPlan.model_validate(
        {"explainers": (world.ORACLE,), "training": world.training(), "shares": (0.0, world.SHARE), "repeats": 1}
        | fields
    )


@functools.cache
def truth() -> RoarReport:
    return roar(
        plan(
            explainers=(world.ORACLE, world.INVERTED, InputXGradient()),
            measures=("roar", "kar"),
            shares=(0.0, world.SHARE, 1.0),
            repeats=2,
        )
    )


def result(report: RoarReport, explainer: str, measure: str = "roar") -> RoarResult:
    (found,) = [one for one in report.results if (one.explainer, one.measure) == (explainer, measure)]
    return found


def scores(report: RoarReport, explainer: str, measure: str = "roar") -> list[float]:
    found = [point.score.mean for point in result(report, explainer, measure).curve]
    assert None not in found
    return found  # type: ignore[return-value]


def test_without_the_deciding_patch_nothing_can_be_learned() -> None:
    untouched_score, without_patch, nothing = scores(truth(), "oracle")
    assert untouched_score == 1
    assert without_patch < CHANCE
    # an explainer that knows the patch gets there too, one that knows nothing and one that is wrong do not
    assert scores(truth(), "input_x_gradient")[1] < CHANCE
    assert scores(truth(), "random")[:2] == [1, 1]
    assert scores(truth(), "inverted")[:2] == [1, 1]
    # an image without pixels is the same for all
    assert {scores(truth(), one)[2] for one in ("oracle", "random", "inverted")} == {nothing}
    assert nothing < CHANCE


def test_keep_and_retrain_turns_the_order_around() -> None:
    nothing, patch, everything = scores(truth(), "oracle", "kar")
    assert (patch, everything) == (1, 1)
    assert nothing < CHANCE
    inverted = scores(truth(), "inverted", "kar")
    assert max(inverted[:2]) < CHANCE
    assert inverted[2] == 1
    gains = {(one.explainer, one.measure): one.gain for one in truth().results}
    for measure in ("roar", "kar"):
        gain = gains["oracle", measure]
        assert gain is not None
        assert gain.mean is not None
        assert gain.mean > 0
        assert gains["random", measure] is None
    kept = gains["inverted", "kar"]
    assert kept is not None
    assert kept.mean is not None
    assert kept.mean < 0


def test_areas_gains_and_intervals_are_those_of_the_replica() -> None:
    report = truth()
    shares = report.request.plan.shares
    by_chance = result(report, "random").area.values
    for one in report.results:
        rows = list(zip(*(point.score.values for point in one.curve), strict=True))
        expected = [reference_retraining.area(shares, row) for row in rows]  # type: ignore[arg-type]
        assert one.area.values == pytest.approx(expected, abs=1e-5)
        assert one.higher_is_better == (one.measure == "kar")
    oracle = result(report, "oracle")
    assert oracle.gain is not None
    expected_gain = [chance - own for own, chance in zip(oracle.area.values, by_chance, strict=True)]  # type: ignore[operator]
    assert oracle.gain.values == pytest.approx(expected_gain, abs=1e-5)
    # two repeats: Student's t on the paired differences
    mean, half = np.mean(expected_gain), student.ppf(0.975, 1) * np.std(expected_gain, ddof=1) / np.sqrt(2)
    if np.std(expected_gain) > 0:
        assert oracle.gain.ci == pytest.approx((max(-1, mean - half), min(1, mean + half)), abs=1e-3)


def test_a_point_is_what_training_on_such_images_by_hand_gives() -> None:
    first = load_classifier(world.model(), access=world.ACCESS)
    asked = TrainingRequest(model=world.model(), images=world.STORED, plan=world.training())
    sets = training_sets(asked, first, TRAINING, VALIDATION, world.ACCESS.limits)
    changed = []
    for images in (sets.training, sets.validation):
        assert images.decoded is not None
        pixels = images.decoded.clone()
        pixels[:, :, world.PATCH[0], world.PATCH[1]] = 0.5
        changed.append(replace(images, decoded=pixels))
    run = TrainingRun(asked, first, *changed)
    run.advance()
    assert result(truth(), "oracle").curve[1].score.values[0] == pytest.approx(
        run.history.epochs[-1].validation_score, abs=1e-5
    )


def test_counted_passes_are_those_of_the_formula() -> None:
    report = truth()
    assert report.cost.trainings == report.estimate.trainings == 2 * (2 + 4 * 2)
    assert report.cost.forward_images == report.estimate.forward_images
    assert report.cost.backward_images == report.estimate.backward_images


def test_explainers_and_repeats_do_not_touch_each_other() -> None:
    alone = roar(plan(training=world.training(seed=1)), model=world.model("random:1"))
    second = result(truth(), "oracle").curve
    # the second repeat is the first one of the next seed, whatever else the plan asks for
    assert [point.score.values[0] for point in result(alone, "oracle").curve] == [
        point.score.values[1] for point in second[:2]
    ]


def test_the_given_model_explains_as_the_trained_one_if_it_is_the_same(tmp_path: Path) -> None:
    first = load_classifier(world.model(), access=world.ACCESS)
    asked = TrainingRequest(model=world.model(), images=world.STORED, plan=world.training())
    run = TrainingRun(asked, first, *training_sets(asked, first, TRAINING, VALIDATION, world.ACCESS.limits)[:2])
    run.advance()
    path = tmp_path / "trained.safetensors"
    path.write_bytes(run.weights())
    access = world.ACCESS.model_copy(update={"file_roots": (tmp_path,)})
    fields = {"explainers": (InputXGradient(),), "shares": (0.0, 0.03)}
    given = roar(plan(**fields, explained_model="given"), model=world.model(path.as_uri()), access=access)
    trained = roar(plan(**fields))
    assert given.results == trained.results
    assert given.explained is not None
    assert given.explained.trained
    assert trained.explained is None


def test_maps_without_an_order_have_no_accuracy_and_methods_that_cannot_run_are_listed() -> None:
    report = roar(plan(explainers=(world.FLAT, GradCam(), Random())))
    flat = result(report, "flat")
    assert flat.curve[0].score.values == (1,)
    assert flat.curve[1].score.values == (None,)
    assert "gives no order" in flat.curve[1].score.reasons[0]
    assert flat.area.mean is None
    assert flat.area.reasons[0]
    assert flat.constant_maps == 1
    assert set(report.not_applicable) == {"grad_cam"}
    # the control is the one of the plan, and is trained once
    assert [one.explainer for one in report.results] == ["flat", "random"]
    assert report.cost.trainings == 2
    single = result(report, "random").area
    assert single.ci is None
    assert single.ci_reason is not None
    assert "repeats" in single.ci_reason


def test_a_single_share_has_no_area() -> None:
    oracle = result(roar(plan(shares=(world.SHARE,))), "oracle")
    assert oracle.curve[0].score.mean is not None
    assert oracle.area.mean is None
    assert "two or more" in oracle.area.reasons[0]


def ticking(step: float = 1.0) -> Any:
    time = iter(range(10**9))
    return lambda: next(time) * step


def test_a_measure_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BudgetTooSmall, match=r"about .* s here: 3 trainings, \d+ images forward") as caught:
        roar(plan(), budget_seconds=50, clock=ticking(), out=tmp_path)
    assert caught.value.field == "budget_seconds"
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]

    def cancel(share: float) -> None:
        if share > 0.5:
            raise AuditCancelled

    # and what is left is weighed too
    with pytest.raises(AuditCancelled):
        roar(plan(), clock=ticking(), out=tmp_path, progress=cancel)
    with pytest.raises(BudgetTooSmall, match="are done"):
        roar(plan(), budget_seconds=50, clock=ticking(), out=tmp_path)
    assert roar(plan(), budget_seconds=1e9, clock=ticking(), out=tmp_path).results


def test_what_the_measure_is_not_defined_for_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="softmax") as several:
        roar(plan(), model=world.model(scores="sigmoid"))
    assert several.value.field == "model.scores"
    with pytest.raises(InvalidRequest, match="random weights"):
        roar(plan(explained_model="given"))
    wild = world.training().model_copy(update={"optimizer": Sgd(learning_rate=100, weight_decay=10)})
    with pytest.raises(TrainingDiverged) as diverged:
        roar(plan(training=wild.model_copy(update={"epochs": 30})))
    assert diverged.value.field == "plan.training.optimizer.learning_rate"


def test_images_that_do_not_stay_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeled_images, "KEPT_BYTES", len(VALIDATION) * 3 * world.SIDE**2 * 4)
    with pytest.raises(InvalidRequest, match="96 decoded images are too large") as caught:
        roar(plan(), images=VALIDATION, validation=TRAINING)
    assert caught.value.field == "validation"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shares": (0.5, 0.1)}, "ascend"),
        ({"shares": (0.0, 1.5)}, "less than or equal to 1"),
        ({"measures": ("roar", "roar")}, "once"),
        ({"repeats": 0}, "greater than or equal to 1"),
        ({"explainers": (Precomputed(maps="sha256:" + "0" * 64),)}, "not of the model that is trained"),
        ({"explainers": (Iba(),)}, "measures all images"),
        ({"explainers": (InputXGradient(), InputXGradient())}, "give one of them a `name`"),
        ({"explainers": (InputXGradient(name="random"),)}, "only an explainer of kind random"),
        ({"rank_by": "magnitude", "reduce": "mean"}, "leave reduce out"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan(**fields)


def test_audits_after_epochs_are_refused() -> None:
    audited = EpochAudit(plan=AuditPlan(explainers=(InputXGradient(),), checks=(auditcore.EddaCheck(),)), images=1)
    with pytest.raises(ValidationError, match="epoch_audit"):
        plan(training=world.training().model_copy(update={"epoch_audit": audited}))


def test_every_repeat_begins_with_other_weights_of_the_same_architecture() -> None:
    assert [with_random_weights(world.model("random:3"), 7, repeat).weights.uri for repeat in (0, 2)] == [
        "random:3",
        "random:5",
    ]
    assert with_random_weights(world.model("file:///w"), 7, 1).weights.uri == "random:8"
    # the loader says what is wrong with this one
    assert with_random_weights(world.model("random:x"), 7, 1).weights.uri == "random:x"


@pytest.mark.parametrize("contract", [truth, plan])
def test_plans_and_reports_survive_a_round_trip(contract: Any) -> None:
    one: Contract = contract()
    assert type(one).model_validate(json.loads(one.model_dump_json())) == one


def test_both_orders_are_rows_of_their_own_and_chance_has_one() -> None:
    report = roar(plan(explainers=(InputXGradient(),), rank_by="both"))
    rows = [(one.explainer, one.ranked_by) for one in report.results]
    assert rows == [("input_x_gradient", "signed"), ("input_x_gradient", "magnitude"), ("random", "signed")]
    assert torch.is_grad_enabled()
