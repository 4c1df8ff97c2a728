"""What methods compare an image with: every baseline against its definition."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

import reference_explainers as reference
from auditcore.contracts.explainers import IntegratedGradients
from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.attribution import Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.registry import explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(value)[:, None, None] for value in (PREPROCESSING.mean, PREPROCESSING.std))
STREAMS = Streams(7, ("sha256:one", "sha256:two", "sha256:three"))
RANDOM = ("gaussian", "uniform", "normal")
ALL = get_args(Baseline)


@pytest.fixture(scope="module")
def net() -> reference.ResidualNet:
    return reference.ResidualNet(seed=3)


@pytest.fixture(scope="module")
def classifier(net: reference.ResidualNet) -> Classifier:
    return Classifier(net, preprocessing=PREPROCESSING)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def batch(classifier: Classifier, pixels: Tensor, streams: Streams = STREAMS) -> Batch:
    return Batch(classifier, pixels, torch.zeros(len(pixels), dtype=torch.long), streams)


def expected(baseline: str, image: np.ndarray, position: int) -> np.ndarray:  # noqa: PLR0911 - one a baseline
    """One image's baseline, in float64 and pixel space."""
    shape = image.shape
    match baseline:
        case "black":
            return np.zeros(shape)
        case "mean":
            return MEAN * np.ones(shape)
        case "blur":
            # as many pixels as reflection allows: 15, where larger images have 31; scipy's mirror is torch's reflect
            blurred = image
            for axis in (1, 2):
                blurred = gaussian_filter1d(blurred, 5.0, axis=axis, mode="mirror", radius=SIDE - 1)
            return blurred
        case "gaussian":
            noise = STREAMS.generator(position, "baseline/gaussian").standard_normal(shape, dtype=np.float32)
            return np.clip(image + 0.5 * noise, 0, 1)
        case "uniform":
            return STREAMS.generator(position, "baseline/uniform").random(shape, dtype=np.float32)
        case "normal":
            return MEAN + STD * STREAMS.generator(position, "baseline/normal").standard_normal(shape, dtype=np.float32)
    farthest = np.zeros(shape)
    for place in np.ndindex(shape):
        farthest[place] = max((0.0, 1.0), key=lambda end: abs(end - image[place]))
    return farthest


@pytest.mark.parametrize("baseline", ALL)
def test_every_baseline_is_what_its_name_says(baseline: Baseline, classifier: Classifier, pixels: Tensor) -> None:
    actual = baseline_pixels(batch(classifier, pixels), baseline)
    assert actual.shape == pixels.shape
    for position, image in enumerate(pixels.double().numpy()):
        np.testing.assert_allclose(actual[position], expected(baseline, image, position), rtol=0, atol=2e-6)


@pytest.mark.parametrize("baseline", ALL)
def test_integrated_gradients_start_at_every_baseline(
    baseline: Baseline, net: reference.ResidualNet, classifier: Classifier, pixels: Tensor
) -> None:
    unrolled, targets = reference.Unrolled(net), torch.tensor([2, 0, 3])
    actual = explain(
        classifier, IntegratedGradients(steps=9, baseline=baseline), pixels, targets, STREAMS, micro_batch=4
    )
    for position, image in enumerate(pixels.double().numpy()):
        start = (expected(baseline, image, position) - MEAN) / STD
        replica, error = reference.integrated_gradients(
            unrolled, (image - MEAN) / STD, start, int(targets[position]), steps=9
        )
        np.testing.assert_allclose(actual.maps[position], replica, rtol=0, atol=1e-3 * np.abs(replica).max())
        assert float(actual.diagnostics["completeness_error"][position]) == pytest.approx(error, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("baseline", RANDOM)
def test_noise_belongs_to_image_and_view(baseline: Baseline, classifier: Classifier, pixels: Tensor) -> None:
    same = pixels[:1].expand(3, -1, -1, -1)
    together = baseline_pixels(batch(classifier, same), baseline)
    assert not torch.allclose(together[0], together[1])
    order = [2, 0]
    assert torch.equal(baseline_pixels(batch(classifier, same[order], STREAMS.take(order)), baseline), together[order])
    viewed = STREAMS.viewing(["rotate/3"] * 3)
    assert not torch.allclose(baseline_pixels(batch(classifier, same, viewed), baseline), together)


def test_normal_noise_is_normal_once_it_is_normalized(classifier: Classifier) -> None:
    gray = torch.full((1, 3, 64, 64), 0.5)
    values = classifier.normalize(baseline_pixels(batch(classifier, gray, STREAMS.take([0])), "normal"))
    assert float(values.mean()) == pytest.approx(0, abs=0.03)
    assert float(values.std()) == pytest.approx(1, abs=0.03)
