"""What happens when memory runs out: micro-batches halve and the audit goes on, with a note."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import digits
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import DeletionCheck, EddaCheck, RandomizationCheck, SensitivityCheck, SweepCheck
from auditcore.contracts.explainers import Explainer, GradCam, Gradient, IntegratedGradients, SmoothGrad
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.engine.calibration import CLEARLY_FASTER, LARGEST, PIXELS_A_PASS, calibrate, starting_size
from auditcore.engine.groups import PIXELS_A_GROUP, group_size
from auditcore.engine.pass_meter import PassMeter
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.errors import MemoryExhausted
from auditcore.models.classifier import Classifier

EXPLAINERS: tuple[Explainer, ...] = (Gradient(), GradCam(), IntegratedGradients(steps=3), SmoothGrad(samples=3))
PLAN = AuditPlan(
    explainers=EXPLAINERS,
    checks=(
        SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)),), levels=3),
        DeletionCheck(grid=3, repeats=1),
        EddaCheck(keep=(0.3,)),
        SensitivityCheck(draws=2),
    ),
)
BEYOND_ANY_MEMORY = 1 << 60


class Hungry(nn.Module):
    """The trained digits, with a layer that asks for far too much memory as soon as too many images pass at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.digits = digits.trained()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            torch.empty(BEYOND_ANY_MEMORY, dtype=torch.uint8)
        return self.digits(x)


def run(classifier: Classifier, micro_batch: int | None = 8, images: int = 5) -> ShardResult:
    return run_shard(
        ShardTask(plan=PLAN, wave="compute", images=digits.encoded(images)),
        Runtime(classifier, micro_batch=micro_batch),
    )


def test_micro_batches_halve_and_the_scores_stay() -> None:
    plenty = run(Classifier(Hungry(8), preprocessing=digits.PREPROCESSING))
    scarce = run(Classifier(Hungry(2), preprocessing=digits.PREPROCESSING))
    assert not plenty.notes
    (note,) = scarce.notes
    assert "memory ran out with 8 images per pass, so 2 passed at once" in note
    assert scarce.cost.micro_batch == 2
    for before, after in zip(plenty.measurements, scarce.measurements, strict=True):
        assert (before.check, before.explainer, before.metric) == (after.check, after.explainer, after.metric)
        for value, other in zip(before.values, after.values, strict=True):
            assert other == (None if value is None else pytest.approx(value, rel=2e-4, abs=1e-6))


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_one_image_that_does_not_fit_is_a_clear_error(micro_batch: int | None) -> None:
    classifier = Classifier(Hungry(2), preprocessing=digits.PREPROCESSING)
    classifier.module.most = 0
    with pytest.raises(MemoryExhausted, match="smaller input size") as caught:
        run(classifier, micro_batch)
    assert caught.value.field == "model"


def test_calibration_finds_the_size_that_fits() -> None:
    classifier = Classifier(Hungry(3), preprocessing=digits.PREPROCESSING)
    assert starting_size(classifier) > 3
    found = calibrate(classifier)
    assert 1 <= found.micro_batch <= 3
    assert found.gradient_per_s > 0
    assert found.forward_per_s > 0
    result = run(classifier, micro_batch=None)
    assert not result.notes
    assert result.calibration is not None
    assert result.calibration.micro_batch == result.cost.micro_batch


def test_a_memory_budget_bounds_the_size(digit_classifier: Classifier) -> None:
    free = calibrate(digit_classifier)
    bounded = calibrate(digit_classifier, memory_bytes=10 * 2**20)
    assert 1 <= bounded.micro_batch < free.micro_batch <= LARGEST
    tiny = calibrate(digit_classifier, memory_bytes=1)
    assert tiny.micro_batch == 1


def test_calibration_is_not_in_the_ledger(digit_classifier: Classifier) -> None:
    ledger = digit_classifier.ledger
    before = (ledger.forward_images, ledger.backward_images)
    calibrate(digit_classifier)
    assert (ledger.forward_images, ledger.backward_images) == before


class Steady:
    """A clock by which a pass of any number of images takes the same time, or time in proportion to them."""

    def __init__(self, *, proportional: bool, classifier: Classifier) -> None:
        self.now, self.images = 0.0, 1
        self.proportional = proportional
        classifier.folded.register_forward_pre_hook(self.see)

    def see(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.images = len(inputs[0])

    def __call__(self) -> float:
        self.now += (0.001 * self.images if self.proportional else 0.02) / 2
        return self.now


@pytest.mark.parametrize("proportional", [True, False])
def test_larger_micro_batches_are_taken_only_if_clearly_faster(
    *, proportional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CLEARLY_FASTER > 1
    # from a start that leaves room below the largest size
    monkeypatch.setitem(PIXELS_A_PASS, "cpu", 16 * digits.PREPROCESSING.crop**2)
    classifier = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)
    start = starting_size(classifier)
    found = calibrate(classifier, clock=Steady(proportional=proportional, classifier=classifier))
    assert found.micro_batch == start if proportional else found.micro_batch > start


def test_a_slice_is_repeated_and_none_is_lost() -> None:
    done: list[range] = []

    def work(part: slice) -> None:
        rows = range(10)[part]
        if len(rows) > 3:
            torch.empty(BEYOND_ANY_MEMORY, dtype=torch.uint8)
        done.append(rows)

    batches = MicroBatches(8)
    batches.each(10, work)
    assert [row for rows in done for row in rows] == list(range(10))
    assert (batches.size, batches.halvings) == (2, 2)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work(_part: slice) -> None:
        msg = "size mismatch"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="size mismatch"):
        MicroBatches(4).each(4, work)
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_memory_that_runs_out_beside_the_model_is_not_blamed_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        torch.empty(BEYOND_ANY_MEMORY, dtype=torch.uint8)

    monkeypatch.setattr("auditcore.engine.shard.sketch_originals", full)
    with pytest.raises(MemoryExhausted, match="beside the passes"):
        run(Classifier(digits.trained(), preprocessing=digits.PREPROCESSING))


def test_a_pass_of_one_color_that_does_not_fit_is_no_failure_of_the_model() -> None:
    """That pass is not made in micro-batches, and fails inside of the model."""
    classifier = Classifier(Hungry(2), preprocessing=digits.PREPROCESSING)
    meter = PassMeter((classifier,))
    classifier.module.most = 0
    with pytest.raises(RuntimeError, match="can't allocate memory"), meter.measuring("deletion"):
        classifier.logits(torch.zeros(1, *classifier.shape))


# --- groups ---------------------------------------------------------------------------------------

PAYS_PER_GROUP = AuditPlan(explainers=(Gradient(),), checks=(RandomizationCheck(stages=1),))


@pytest.mark.parametrize(
    ("side_px", "micro_batch", "plan", "images"),
    [
        (224, 8, PLAN, 16),
        (224, 32, PLAN, 32),
        (224, 8, PAYS_PER_GROUP, 64),
        (448, 2, PLAN, 16),
        (1024, 1, PLAN, 3),
        (1024, 8, PLAN, 3),
        (1024, 1, PAYS_PER_GROUP, 3),
        (2048, 1, PLAN, 1),
        (4096, 8, PLAN, 1),
    ],
)
def test_groups_have_no_more_pixels_than_64_images_of_224(
    side_px: int, micro_batch: int, plan: AuditPlan, images: int
) -> None:
    for channels in (1, 3):
        shape = InputShape(channels, side_px, side_px)
        assert group_size(plan, micro_batch=micro_batch, shape=shape, device="cpu") == images


def test_groups_of_an_accelerator_hold_its_larger_micro_batches() -> None:
    shape = InputShape(3, 224, 224)
    assert group_size(PLAN, micro_batch=256, shape=shape, device="cuda") == 256
    assert group_size(PLAN, micro_batch=256, shape=shape, device="cpu") == 64


def test_small_groups_give_the_scores_of_large_ones(
    digit_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(digit_classifier)
    monkeypatch.setitem(PIXELS_A_GROUP, "cpu", 2 * digit_classifier.shape.pixels)
    assert group_size(PLAN, micro_batch=8, shape=digit_classifier.shape, device="cpu") == 2
    for before, after in zip(whole.measurements, run(digit_classifier).measurements, strict=True):
        assert (before.check, before.explainer, before.metric) == (after.check, after.explainer, after.metric)
        for value, other in zip(before.values, after.values, strict=True):
            assert other == (None if value is None else pytest.approx(value, rel=2e-4, abs=1e-6))
