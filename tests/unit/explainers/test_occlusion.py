"""Occlusion against its formula, against captum, and where windows do not fit."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor

import digits
import reference_explainers
import reference_perturbation as reference
from auditcore.contracts.explainers import Occlusion
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.counts.windows import windows
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference_explainers.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(channel)[:, None, None] for channel in (PREPROCESSING.mean, PREPROCESSING.std))


def run(classifier: Classifier, contract: Occlusion, images: Tensor, micro_batch: int = 32) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    streams = Streams(7, tuple(f"sha256:{number}" for number in range(len(images))))
    return explain(classifier, contract, images, targets, streams, micro_batch=micro_batch)


def test_replica() -> None:
    net = reference_explainers.ResidualNet(seed=3)
    unrolled, classifier = reference_explainers.Unrolled(net), Classifier(net, preprocessing=PREPROCESSING)
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    targets = classifier.logits(pixels).argmax(1).tolist()
    # 3 pixels every 2: the last window of a row is cut
    maps = run(classifier, Occlusion(window=3, stride=2, baseline="black"), pixels, micro_batch=5).maps
    assert maps.shape == (2, 1, SIDE, SIDE)
    for actual, image, target in zip(maps, pixels.double().numpy(), targets, strict=True):

        def score(values: np.ndarray, target: int = target) -> float:
            return unrolled.score((values - MEAN) / STD, target)

        expected = reference.occlusion(image, np.zeros_like(image), score, window=3, stride=2)
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(actual[0], expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("baseline", ["black", "mean"])
@pytest.mark.parametrize(("window", "stride"), [(8, 4), (5, 3), (7, 7), (32, 1)])
def test_captum_agrees(window: int, stride: int, baseline: str, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    color = torch.zeros(1, 3, 1, 1) if baseline == "black" else digit_classifier.mean
    foreign = captum.attr.Occlusion(digit_classifier.module).attribute(
        digit_classifier.normalize(images),
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=digit_classifier.normalize(color.expand_as(images)),
        target=targets,
    )
    maps = run(digit_classifier, Occlusion(window=window, stride=stride, baseline=baseline), images).maps
    # captum repeats the value in every channel
    scale = float(foreign.abs().max())
    torch.testing.assert_close(maps, foreign[:, :1].float(), rtol=0, atol=1e-5 * scale)


def test_automatic_windows() -> None:
    large = windows(None, None, 224, 224).rows
    assert (large.window, large.stride, large.count) == (32, 16, 13)
    small = windows(None, None, 5, 9).rows
    assert (small.window, small.stride, small.count) == (1, 1, 5)
    assert windows(9, None, 32, 40).columns.stride == 4


@pytest.mark.parametrize("contract", [Occlusion(), Occlusion(window=50, stride=30), Occlusion(window=224)])
def test_cost_is_known_beforehand(contract: Occlusion) -> None:
    assert explanation_passes(contract) == 1 + windows(contract.window, contract.stride, 224, 224).count


def test_passes_are_counted_and_take_no_gradient(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    run(digit_classifier, Occlusion(window=8, stride=8), images)
    # 16 windows and the image itself; one more for the target
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3 * (16 + 1 + 1), 0)


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    contract = Occlusion(window=8)
    whole = run(digit_classifier, contract, images, micro_batch=7).maps
    for micro_batch in (1, 3):
        maps = run(digit_classifier, contract, images, micro_batch=micro_batch).maps
        torch.testing.assert_close(maps, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    two = torch.cat([run(digit_classifier, contract, part).maps for part in images.split([2, 3])])
    torch.testing.assert_close(two, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize(
    ("contract", "match"),
    [
        (Occlusion(window=33), "does not fit images of 32 x 32 pixels; use at most 32"),
        (Occlusion(window=4, stride=5), "leave pixels between them without a value; use a stride of at most 4"),
        (Occlusion(stride=5), "use a stride of at most 4"),
    ],
)
def test_windows_that_leave_pixels_without_a_value_do_not_apply(
    contract: Occlusion, match: str, digit_classifier: Classifier
) -> None:
    assert match in str(applicability(digit_classifier, contract))
    with pytest.raises(NotApplicable, match=match):
        run(digit_classifier, contract, digits.digit_pixels()[0][:1])
