"""Saliency: the absolute gradient, by pixel or by channel."""

from __future__ import annotations

import captum.attr
import numpy as np
import torch

import digits
import reference_explainers as reference
from auditcore.contracts.explainers import Gradient, Saliency
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

STREAMS = Streams(7, tuple(f"sha256:{number}" for number in range(5)))
SIDE = reference.SIDE


def test_the_largest_absolute_gradient_of_each_pixel() -> None:
    net = reference.ResidualNet(seed=3)
    unrolled = reference.Unrolled(net)
    preprocessing = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    model, targets = Classifier(net, preprocessing=preprocessing), torch.tensor([2, 0, 3])
    maps = explain(model, Saliency(), images, targets, STREAMS.take(range(3)), micro_batch=2).maps
    assert maps.shape == (3, 1, SIDE, SIDE)
    for actual, image, target in zip(maps, model.normalize(images).double().numpy(), targets.tolist(), strict=True):
        gradient = unrolled.gradient(image, target)
        for y in range(SIDE):
            for x in range(SIDE):
                largest = max(abs(gradient[channel, y, x]) for channel in range(3))
                np.testing.assert_allclose(actual[0, y, x], largest, rtol=0, atol=1e-4 * np.abs(gradient).max())


def test_captum_agrees(digit_classifier: Classifier) -> None:
    images, targets = digits.digit_pixels()[0][:3], torch.tensor([1, 4, 0])
    inputs = digit_classifier.normalize(images).requires_grad_()
    expected = captum.attr.Saliency(digit_classifier.module).attribute(inputs, targets)
    each = explain(digit_classifier, Saliency(channels="each"), images, targets, STREAMS.take(range(3))).maps
    torch.testing.assert_close(each, expected, rtol=0, atol=1e-6 * float(expected.max()))
    largest = explain(digit_classifier, Saliency(), images, targets, STREAMS.take(range(3))).maps
    torch.testing.assert_close(largest, expected.amax(1, keepdim=True), rtol=0, atol=1e-6 * float(expected.max()))


def test_never_negative_and_the_same_in_any_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    targets = digit_classifier.logits(images).argmax(1)
    together = explain(digit_classifier, Saliency(), images, targets, STREAMS, micro_batch=7).maps
    assert float(together.min()) >= 0
    assert float(explain(digit_classifier, Gradient(), images, targets, STREAMS).maps.min()) < 0
    alone = explain(digit_classifier, Saliency(), images[3:], targets[3:], STREAMS.take([3, 4]), micro_batch=1).maps
    torch.testing.assert_close(alone, together[3:], rtol=0, atol=1e-5 * float(together.max()))
