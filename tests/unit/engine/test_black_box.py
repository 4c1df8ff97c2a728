"""A model of which only predictions can be had: what is the same as with its weights, and what is not applicable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import digits
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.capabilities import BLACK_BOX, NO_GRADIENTS, NO_WEIGHTS, ModelCapabilities
from auditcore.contracts.checks import (
    Change,
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, KernelShap, Occlusion, Rise
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.probe import ProbeAnswers
from auditcore.contracts.shards import Measurement, ShardResult, Wave
from auditcore.contracts.speed import Speed
from auditcore.costs.estimate import waves_of
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.engine.calibration import calibrate
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.errors import ModelChanged, ModelOutputInvalid
from auditcore.models.black_box import BlackBox
from auditcore.models.classifier import Classifier
from auditcore.models.logits import SMALLEST

DIGEST = "sha256:" + "d" * 64
PREDICTING: tuple[Explainer, ...] = (
    Occlusion(window=8, stride=8),
    Rise(masks=20, cells=4),
    KernelShap(segments="cells", count=9, samples=40),
)
CHECKS: tuple[Check, ...] = (
    SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-10, 10))), levels=3, top_k=50),
    SsimSweepCheck(changes=(Change(augmentation=Rotate(), values=(5.0,)),), tolerance=0.5),
    DeletionCheck(grid=4, repeats=2),
    EddaCheck(keep=(0.3,)),
    PixelFlippingCheck(pixels_per_step=64),
    InsertionDeletionCheck(pixels_per_step=256),
    RoadCheck(shares=(0.3, 0.6)),
    SensitivityCheck(draws=2),
    InfidelityCheck(draws=3),
    ComplexityCheck(),
    RandomizationCheck(stages=1),
)


PROBE = ProbeAnswers(probabilities=(0.25, 0.75), unsteadiness=0.0)


class Predicting:
    """The trained digits network, of which nothing comes out but what it predicts."""

    def __init__(self, outputs: Outputs = "logits", top: int | None = None, scores: Scores = "softmax") -> None:
        self._outputs = outputs
        self._top = top
        self._scores = scores
        self.begun: list[int] = []
        self.ended = 0
        self.moved = False

    @property
    def digest(self) -> str:
        return DIGEST

    @property
    def capabilities(self) -> ModelCapabilities:
        return BLACK_BOX if self._top is None else ModelCapabilities(gradients=False, top_classes=self._top)

    @property
    def probe(self) -> ProbeAnswers:
        return PROBE

    @property
    def images_per_pass(self) -> int:
        return 7

    def predict(self, inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = digits.trained()(inputs)
        if self._outputs == "logits":
            return logits
        probabilities = logits.softmax(dim=1) if self._scores == "softmax" else logits.sigmoid()
        if self._top is None:
            return probabilities
        kept = probabilities.topk(self._top)
        rest = (1 - kept.values.sum(dim=1, keepdim=True)).clamp_min(0) / (probabilities.shape[1] - self._top)
        return rest.expand_as(probabilities).scatter(1, kept.indices, kept.values)

    def begin(self, images: int) -> None:
        self.begun.append(images)

    def end(self) -> tuple[str, ...]:
        self.ended += 1
        if self.moved:
            msg = "another model answers"
            raise ModelChanged(msg, field="model.version")
        return ("predictions came from a test",)


def black_box(source: Predicting, *, outputs: Outputs = "logits", scores: Scores = "softmax") -> Classifier:
    module = BlackBox(source, outputs=outputs, scores=scores)
    return Classifier(module, preprocessing=digits.PREPROCESSING, scores=scores)


def run(classifier: Classifier, plan: AuditPlan, *, labeled: bool = False, images: int = 3) -> ShardResult:
    """The compute wave, after a measure wave where the plan has one."""
    shared = {}
    if "measure" in waves_of(plan):
        measured = run_wave(classifier, plan, "measure", {}, labeled=labeled, images=images)
        shared = reduce_shared(plan, [measured])
    return run_wave(classifier, plan, "compute", shared, labeled=labeled, images=images)


def run_wave(
    classifier: Classifier,
    plan: AuditPlan,
    wave: Wave,
    shared: Mapping[str, tuple[float, ...]],
    *,
    labeled: bool,
    images: int,
) -> ShardResult:
    return run_shard(
        ShardTask(plan=plan, wave=wave, images=digits.encoded(images, labeled=labeled), shared=shared),
        Runtime(classifier, micro_batch=8),
    )


def by_key(result: ShardResult) -> dict[tuple[Any, ...], Measurement]:
    return {(one.check, one.explainer, one.metric, one.variant): one for one in result.measurements}


def test_every_prediction_only_check_gives_the_scores_of_the_white_box(digit_classifier: Classifier) -> None:
    plan = AuditPlan(explainers=(*PREDICTING, Gradient()), checks=CHECKS)
    white, black = by_key(run(digit_classifier, plan)), by_key(run(black_box(Predicting()), plan))
    compared = 0
    for key, one in black.items():
        if key[0] == "randomization" or key[1] == "gradient":
            continue
        assert one.values == pytest.approx(white[key].values, abs=1e-5), key
        compared += sum(value is not None for value in one.values)
    assert compared > 200
    gradients = [one for key, one in black.items() if key[1] == "gradient"]
    assert gradients
    for one in gradients:
        assert set(one.values) == {None}
        assert set(one.reasons.values()) == {NO_GRADIENTS}
    randomized = [one for key, one in black.items() if key[0] == "randomization" and key[1] != "gradient"]
    assert {reason for one in randomized for reason in one.reasons.values()} == {NO_WEIGHTS}


def test_passes_made_are_passes_needed_of_what_runs() -> None:
    plan = AuditPlan(explainers=(*PREDICTING, Gradient(), GradCam()), checks=CHECKS)
    source = Predicting()
    result = run(black_box(source), plan)
    facts = ModelFacts(shape=InputShape(3, digits.SIDE, digits.SIDE), capabilities=BLACK_BOX)
    needed = total(passes_needed(plan, wave="compute", images=3, facts=facts, accepted=None).values())
    assert result.cost.backward_images == 0
    # ssim compares only maps of accepted copies
    assert 0.9 * needed.forward <= result.cost.forward_images <= needed.forward
    assert source.begun[-1] == needed.forward
    assert source.ended == len(source.begun) == 2


def test_a_record_says_what_it_is_and_notes_say_where_predictions_came_from() -> None:
    result = run(black_box(Predicting()), AuditPlan(explainers=(Occlusion(),), checks=(EddaCheck(),)))
    assert (result.model.digest, result.model.parameters, result.model.classes) == (DIGEST, None, 10)
    assert result.model.capabilities == BLACK_BOX
    assert result.probe == PROBE
    assert result.notes == ("predictions came from a test",)


def test_a_model_that_has_changed_at_the_end_fails_the_shard() -> None:
    source = Predicting()
    source.moved = True
    with pytest.raises(ModelChanged):
        run(black_box(source), AuditPlan(explainers=(Occlusion(),), checks=(EddaCheck(),)))


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_probabilities_serve_as_well_where_probabilities_are_read(scores: Scores) -> None:
    plan = AuditPlan(explainers=(Rise(masks=20, cells=4),), checks=(DeletionCheck(grid=4, repeats=2), EddaCheck()))
    white = by_key(run(Classifier(digits.trained(), preprocessing=digits.PREPROCESSING, scores=scores), plan))
    source = Predicting("probabilities", scores=scores)
    black = by_key(run(black_box(source, outputs="probabilities", scores=scores), plan))
    for key, one in black.items():
        assert one.values == pytest.approx(white[key].values, abs=1e-4), key


def test_only_the_most_probable_classes_leave_little_to_measure() -> None:
    plan = AuditPlan(explainers=(Occlusion(),), checks=(EddaCheck(), LocalizationCheck(), ComplexityCheck()))
    result = run(black_box(Predicting("probabilities", top=5), outputs="probabilities"), plan)
    assert {bool(record.targets) for record in result.images} == {True}
    assert "5 most probable classes" in result.not_applicable["occlusion"]
    edda = [one for one in result.measurements if one.check == "edda"]
    assert edda
    assert all(set(one.values) == {None} for one in edda)
    # nothing of a copy was asked: the three originals are all that passed
    assert result.cost.forward_images == 3


def test_an_image_whose_class_was_not_answered_is_left_out_with_the_reason() -> None:
    # ink and paper swapped: the label is seldom among the two most probable classes
    plan = AuditPlan(explainers=(Occlusion(),), checks=(ComplexityCheck(),), target="label")
    source = Predicting("probabilities", top=1)
    result = run(black_box(source, outputs="probabilities"), plan, labeled=True, images=60)
    left_out = [record for record in result.images if record.code == "class_not_answered"]
    assert left_out
    assert all("1 most probable classes" in str(record.reason) for record in left_out)
    assert len(left_out) < len(result.images)


def test_wrongly_declared_logits_are_detected() -> None:
    with pytest.raises(ModelOutputInvalid, match="set `outputs` to `probabilities`"):
        black_box(Predicting("probabilities"), outputs="logits")
    with pytest.raises(ModelOutputInvalid, match="declared as probabilities") as caught:
        black_box(Predicting("logits"), outputs="probabilities")
    assert caught.value.field == "model.outputs"


def test_a_probability_of_zero_stays_finite() -> None:
    class Certain(Predicting):
        def predict(self, inputs: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]).expand(len(inputs), 2)

    for scores in ("softmax", "sigmoid"):
        source = Certain("probabilities")
        module = BlackBox(source, outputs="probabilities", scores=scores)
        logits = module(torch.zeros(2, 3, 4, 4))
        assert logits.isfinite().all()
        probabilities = logits.softmax(1) if scores == "softmax" else logits.sigmoid()
        assert probabilities[0].tolist() == pytest.approx([1.0, 0.0], abs=2 * SMALLEST)


def test_calibration_uses_the_size_of_a_source_and_no_gradient() -> None:
    classifier = black_box(Predicting())
    found = calibrate(classifier)
    assert found.micro_batch == 7
    assert found.forward_per_s == found.gradient_per_s > 0
    assert classifier.ledger.forward_images == classifier.ledger.backward_images == 0


def test_faster_modes_do_not_apply_to_served_models() -> None:
    classifier = black_box(Predicting())
    assert classifier.at_speed(Speed(precision="bf16")) is classifier
