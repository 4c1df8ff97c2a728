"""Every explainer against its formula, recomputed in float64 on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import reference_explainers as reference
from auditcore.contracts.explainers import (
    Deconvolution,
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    SmoothGrad,
)
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

PREPROCESSING = Preprocessing(resize=reference.SIDE, crop=reference.SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
STREAMS = Streams(seed=7, digests=("sha256:one", "sha256:two", "sha256:three"))
TARGETS = torch.tensor([2, 0, 3])


@pytest.fixture(scope="module")
def net() -> reference.ResidualNet:
    return reference.ResidualNet(seed=3)


@pytest.fixture(scope="module")
def unrolled(net: reference.ResidualNet) -> reference.Unrolled:
    return reference.Unrolled(net)


@pytest.fixture(scope="module")
def classifier(net: reference.ResidualNet) -> Classifier:
    return Classifier(net, preprocessing=PREPROCESSING)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(3, 3, reference.SIDE, reference.SIDE, generator=torch.Generator().manual_seed(1))


def normalized(values: Tensor) -> list[np.ndarray]:
    mean, std = (np.array(channel)[:, None, None] for channel in (PREPROCESSING.mean, PREPROCESSING.std))
    return [(image.double().numpy() - mean) / std for image in values]


def explained(classifier: Classifier, contract: Explainer, pixels: Tensor, view: str = "original") -> Attribution:
    assert applicability(classifier, contract) is None
    streams = STREAMS.viewing([view] * len(pixels))
    return explain(classifier, contract, pixels, TARGETS, streams, micro_batch=2)


def assert_maps(actual: Tensor, expected: list[np.ndarray], tolerance: float = 1e-4) -> None:
    for computed, replica in zip(actual.double().numpy(), expected, strict=True):
        assert np.abs(replica).max() > 0
        np.testing.assert_allclose(computed, replica, rtol=0, atol=tolerance * np.abs(replica).max())


def test_the_replica_is_the_network(classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor) -> None:
    logits = classifier.logits(pixels).double().numpy()
    for row, image in zip(logits, normalized(pixels), strict=True):
        values = unrolled.forward(image)
        np.testing.assert_allclose(row, values["logits"], rtol=1e-4, atol=1e-5)
        # otherwise the cap of ReLU6 would go untested
        assert (values["stem_z"] > 6).any()


def test_gradient(classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor) -> None:
    expected = [
        unrolled.gradient(image, target) for image, target in zip(normalized(pixels), TARGETS.tolist(), strict=True)
    ]
    assert_maps(explained(classifier, Gradient(), pixels).maps, expected)


def test_input_x_gradient(classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor) -> None:
    expected = [
        image * unrolled.gradient(image, target)
        for image, target in zip(normalized(pixels), TARGETS.tolist(), strict=True)
    ]
    assert_maps(explained(classifier, InputXGradient(), pixels).maps, expected)


@pytest.mark.parametrize("baseline", ["black", "mean"])
def test_integrated_gradients(
    classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor, baseline: str
) -> None:
    color = np.zeros(3) if baseline == "black" else np.array(PREPROCESSING.mean)
    start = ((color - PREPROCESSING.mean) / PREPROCESSING.std)[:, None, None] * np.ones(
        (1, reference.SIDE, reference.SIDE)
    )
    expected = [
        reference.integrated_gradients(unrolled, image, start, target, steps=9)
        for image, target in zip(normalized(pixels), TARGETS.tolist(), strict=True)
    ]
    actual = explained(classifier, IntegratedGradients(steps=9, baseline=baseline), pixels)
    assert_maps(actual.maps, [maps for maps, _ in expected], tolerance=1e-3)
    errors = [error for _, error in expected]
    np.testing.assert_allclose(actual.diagnostics["completeness_error"], errors, rtol=1e-2, atol=1e-4)


def test_smoothgrad(classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor) -> None:
    shape = (3, reference.SIDE, reference.SIDE)
    turned = STREAMS.viewing(["rotate"] * len(pixels))
    # std is a share of the normalized range: 1/std of the preprocessing in each channel
    scale = 0.2 / np.array(PREPROCESSING.std)
    expected = [
        reference.smoothgrad(
            unrolled,
            image,
            [
                turned.generator(position, "smoothgrad", sample).standard_normal(shape, dtype=np.float32)
                for sample in range(5)
            ],
            scale,
            int(TARGETS[position]),
        )
        for position, image in enumerate(normalized(pixels))
    ]
    actual = explained(classifier, SmoothGrad(samples=5, std=0.2), pixels, view="rotate")
    assert_maps(actual.maps, expected)


@pytest.mark.parametrize(
    ("contract", "rules"),
    [(GuidedBackpropagation(), reference.GUIDED), (Deconvolution(), reference.DECONVOLUTION)],
    ids=["guided_backpropagation", "deconvolution"],
)
def test_rectifier_methods(
    classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor, contract: Explainer, rules: reference.Rules
) -> None:
    expected = [
        reference.rectified(unrolled, image, target, rules)
        for image, target in zip(normalized(pixels), TARGETS.tolist(), strict=True)
    ]
    assert_maps(explained(classifier, contract, pixels).maps, expected)


def test_grad_cam_finds_the_last_convolution_that_runs(
    classifier: Classifier, unrolled: reference.Unrolled, pixels: Tensor
) -> None:
    expected = [
        reference.grad_cam(unrolled, image, target)[None]
        for image, target in zip(normalized(pixels), TARGETS.tolist(), strict=True)
    ]
    # `outer` is defined last, but `down` runs last
    assert classifier.convolutions == ("stem", "inner", "outer", "down")
    assert_maps(explained(classifier, GradCam(), pixels).maps, expected)


LOW = (0 - np.array(PREPROCESSING.mean)) / PREPROCESSING.std
HIGH = (1 - np.array(PREPROCESSING.mean)) / PREPROCESSING.std


@pytest.mark.parametrize(
    ("contract", "convolution", "first", "epsilon"),
    [
        (LrpEpsilonPlusFlat(epsilon=0.01), reference.z_plus_rule, reference.flat_rule, 0.01),
        (
            LrpEpsilonGammaBox(epsilon=0.01, gamma=0.4),
            reference.gamma_rule(0.4),
            reference.box_rule(LOW, HIGH),
            0.01,
        ),
        (LrpEpsilonAlpha2Beta1Flat(epsilon=0.01), reference.alpha2_beta1_rule, reference.flat_rule, 0.01),
    ],
    ids=["epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"],
)
def test_relevance(
    classifier: Classifier,
    unrolled: reference.Unrolled,
    pixels: Tensor,
    contract: Explainer,
    convolution: reference.LinearRule,
    first: reference.LinearRule,
    epsilon: float,
) -> None:
    inputs = normalized(pixels)
    expected = [
        reference.lrp(unrolled, image, target, convolution, first, epsilon)
        for image, target in zip(inputs, TARGETS.tolist(), strict=True)
    ]
    actual = explained(classifier, contract, pixels)
    assert_maps(actual.maps, expected, tolerance=1e-3)
    conserved = [
        maps.sum() / unrolled.score(image, target)
        for maps, image, target in zip(expected, inputs, TARGETS.tolist(), strict=True)
    ]
    np.testing.assert_allclose(actual.diagnostics["conservation"], conserved, rtol=1e-3)
