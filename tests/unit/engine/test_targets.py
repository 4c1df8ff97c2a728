"""Which classes are explained, and how rows of one image become one value again."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import digits
from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.images import Box
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.targets import choose_targets
from auditcore.errors import LabelOutOfRange
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier

LOGITS = torch.tensor([[0.5, 2.0, -1.0, 1.0], [3.0, -2.0, -3.0, -4.0], [-1.0, -2.0, -3.0, -4.0]])


@pytest.fixture(scope="module")
def softmax() -> Classifier:
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING)


@pytest.fixture(scope="module")
def sigmoid() -> Classifier:
    return Classifier(digits.trained(), preprocessing=digits.PREPROCESSING, scores="sigmoid")


def plan(**fields: object) -> AuditPlan:
    return AuditPlan.model_validate(
        {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}], **fields}
    )


@pytest.mark.parametrize(
    ("fields", "labels", "expected"),
    [
        ({}, [(), (), ()], [(1,), (0,), (0,)]),
        ({"target": "label"}, [(3,), (), (0, 2)], [(3,), (), (0, 2)]),
        ({"target": "top", "top_n": 2}, [(), (), ()], [(1, 3), (0, 1), (0, 1)]),
        ({"target": "top", "top_n": 9}, [(), (), ()], [(1, 3, 0, 2), (0, 1, 2, 3), (0, 1, 2, 3)]),
        ({"only_correct": True}, [(1,), (2,), ()], [(1,), (), ()]),
        ({"target": "label", "only_correct": True}, [(1, 3), (1,), (0,)], [(1,), (), (0,)]),
    ],
)
def test_targets_of_a_softmax_model(
    softmax: Classifier, fields: dict[str, object], labels: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    found = choose_targets(plan(**fields), softmax, LOGITS, labels)
    assert [choice.targets for choice in found] == expected
    for choice, given in zip(found, labels, strict=True):
        if not choice.targets:
            assert choice.code == ("not_correct" if given else "label_missing")
            assert choice.reason


def test_a_multi_label_model_predicts_every_class_above_one_half(sigmoid: Classifier) -> None:
    found = choose_targets(plan(target="label", only_correct=True), sigmoid, LOGITS, [(0, 1, 2), (1, 2), (0,)])
    assert [choice.targets for choice in found] == [(0, 1), (), ()]
    # class 0 is the most probable class of both images, but predicted only in the first; both are independent of labels
    prefix = "the plan wants correct predictions, but the model gives label"
    assert [choice.reason for choice in found] == [
        None,
        f"{prefix} 1, 2 a probability below 0.5",
        f"{prefix} 0 a probability below 0.5",
    ]
    # the most probable class is explained, so it must be one of the labels, even where another label is predicted too
    found = choose_targets(plan(only_correct=True), sigmoid, LOGITS, [(0,), (0,), (1,)])
    assert [choice.targets for choice in found] == [(), (0,), ()]
    assert found[0].reason == "the plan wants correct predictions, but the most probable class is 1, not label 0"
    assert found[2].reason == f"{prefix} 1 a probability below 0.5"


def run(classifier: Classifier, images: list[EncodedImage], **fields: object) -> ShardResult:
    checks = (
        DeletionCheck(grid=4, repeats=2),
        EddaCheck(),
        SweepCheck(augmentations=(Brightness(interval=(-0.2, 0.2)),), levels=3),
    )
    return run_shard(
        ShardTask(
            plan=AuditPlan.model_validate({"seed": 3, "explainers": [Gradient()], "checks": checks, **fields}),
            wave="compute",
            images=images,
        ),
        Runtime(classifier, clock=lambda: 0.0),
    )


def test_an_image_with_several_targets_has_the_mean_of_its_targets(softmax: Classifier) -> None:
    """Each target by itself, as a label, gives its contribution to the whole."""
    image = digits.encoded(1)[0]
    together = run(softmax, [image], target="top", top_n=3)
    targets = [found.target for found in together.images[0].targets]
    assert len(set(targets)) == 3
    alone = [run(softmax, [EncodedImage(0, None, image.data, label)], target="label") for label in targets]
    for number, measured in enumerate(together.measurements):
        singles = [result.measurements[number].values[0] for result in alone]
        # improbable targets have no relative change
        expected = [None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6) for value in singles]
        assert [list(own) for own in measured.per_target or ()] == [expected]
        present = [value for value in singles if value is not None]
        assert measured.values[0] == pytest.approx(math.fsum(present) / len(present), rel=1e-4, abs=1e-6)
        if measured.curve is not None:
            curves = [result.measurements[number].curve.values[0] for result in alone]
            for position, point in enumerate(measured.curve.values[0]):
                expected = math.fsum(curve[position] for curve in curves) / len(curves)
                assert point == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_an_image_is_null_only_if_no_target_has_a_value() -> None:
    """A class that no pixel reaches has a constant map; the other class of the same image still counts."""

    class HalfBlind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = self.pool(x * torch.linspace(0.5, 1.5, x.shape[-1])).flatten(1)[:, :1]
            return torch.cat([seen, 0 * seen + 1, 0 * seen], dim=1)

    blind = Classifier(HalfBlind(), preprocessing=digits.PREPROCESSING)
    image = digits.encoded(1)[0]
    both = run(blind, [EncodedImage(0, None, image.data, (0, 1))], target="label")
    lerf = next(m for m in both.measurements if m.metric == "lerf_auc")
    assert lerf.per_target is not None
    assert lerf.per_target[0][1] is None
    assert lerf.values[0] == lerf.per_target[0][0] is not None
    assert lerf.reasons == {}
    one = run(blind, [EncodedImage(0, None, image.data, (1, 2))], target="label")
    lerf = next(m for m in one.measurements if m.metric == "lerf_auc")
    assert lerf.values == (None,)
    assert lerf.reasons[0]


def test_images_without_a_correct_label_are_listed_with_the_reason(softmax: Classifier) -> None:
    images = digits.encoded(3, labeled=True)
    wrong = EncodedImage(1, "wrong.png", images[1].data, (images[1].labels[0] + 1) % 10)
    unlabeled = EncodedImage(2, "unlabeled.png", images[2].data)
    result = run(softmax, [images[0], wrong, unlabeled], only_correct=True)
    assert [record.code for record in result.images] == [None, "not_correct", "label_missing"]
    assert all(len(measured.values) == 1 for measured in result.measurements)
    nothing = run(softmax, [wrong], only_correct=True)
    assert nothing.measurements == ()
    assert nothing.images[0].code == "not_correct"


def test_labels_of_images_and_boxes_are_checked(softmax: Classifier) -> None:
    image = digits.encoded(1)[0]
    with pytest.raises(LabelOutOfRange) as caught:
        run(softmax, [EncodedImage(0, None, image.data, (1, 10))])
    assert caught.value.field == "images.labels.0"
    box = Box(x0=0, y0=0, x1=4, y1=4, label=10)
    with pytest.raises(LabelOutOfRange) as caught:
        run(softmax, [EncodedImage(0, None, image.data, 1, (box,))])
    assert caught.value.field == "images.boxes.0"


def test_every_check_counts_its_own_passes(softmax: Classifier) -> None:
    result = run(softmax, digits.encoded(2))
    assert set(result.cost.checks) == {"originals", "deletion", "edda", "sweep"}
    assert sum(cost.forward_images for cost in result.cost.checks.values()) == result.cost.forward_images
    assert sum(cost.backward_images for cost in result.cost.checks.values()) == result.cost.backward_images
    # two images, predicted and explained in one pass
    assert result.cost.checks["originals"].forward_images == 2
    assert result.cost.checks["deletion"].backward_images == 0
