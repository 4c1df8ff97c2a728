"""Ablation against its formula, against captum, and where cells do not fit."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor

import digits
import reference_explainers
import reference_perturbation as reference
from auditcore.contracts.explainers import Ablation, Occlusion
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.counts.cells import Grid
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.registry import applicability, explain
from auditcore.images.cells import cell_index
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference_explainers.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(channel)[:, None, None] for channel in (PREPROCESSING.mean, PREPROCESSING.std))


def run(classifier: Classifier, contract: Ablation | Occlusion, images: Tensor, micro_batch: int = 32) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    streams = Streams(7, tuple(f"sha256:{number}" for number in range(len(images))))
    return explain(classifier, contract, images, targets, streams, micro_batch=micro_batch)


def test_replica() -> None:
    net = reference_explainers.ResidualNet(seed=3)
    unrolled, classifier = reference_explainers.Unrolled(net), Classifier(net, preprocessing=PREPROCESSING)
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    targets = classifier.logits(pixels).argmax(1).tolist()
    # 3 cells a side do not divide the side: cells differ by a pixel
    maps = run(classifier, Ablation(grid=3, baseline="black"), pixels, micro_batch=5).maps
    assert maps.shape == (2, 1, SIDE, SIDE)
    for actual, image, target in zip(maps, pixels.double().numpy(), targets, strict=True):

        def score(values: np.ndarray, target: int = target) -> float:
            return unrolled.score((values - MEAN) / STD, target)

        expected = reference.ablation(image, np.zeros_like(image), score, grid=3)
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(actual[0], expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("baseline", ["black", "mean"])
@pytest.mark.parametrize("grid", [2, 7, 8, 32])
def test_captum_agrees(grid: int, baseline: str, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    color = torch.zeros(1, 3, 1, 1) if baseline == "black" else digit_classifier.mean
    cells = cell_index(digits.SIDE, digits.SIDE, Grid(grid, grid))
    foreign = captum.attr.FeatureAblation(digit_classifier.module).attribute(
        digit_classifier.normalize(images),
        baselines=digit_classifier.normalize(color.expand_as(images)),
        target=targets,
        feature_mask=cells.expand(1, 3, -1, -1),
    )
    maps = run(digit_classifier, Ablation.model_validate({"grid": grid, "baseline": baseline}), images).maps
    scale = float(foreign.abs().max())
    torch.testing.assert_close(maps, foreign[:, :1].float(), rtol=0, atol=1e-5 * scale)


def test_cells_that_divide_the_side_are_windows_that_do_not_overlap(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    cells = run(digit_classifier, Ablation(grid=4), images).maps
    windows = run(digit_classifier, Occlusion(window=8, stride=8), images).maps
    torch.testing.assert_close(cells, windows, rtol=0, atol=1e-5 * float(windows.abs().max()))


def test_the_default_grid_is_that_of_the_deletion_check(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1]
    torch.testing.assert_close(
        run(digit_classifier, Ablation(), images).maps, run(digit_classifier, Ablation(grid=8), images).maps
    )
    assert explanation_passes(Ablation()) == 1 + 14**2


def test_passes_are_counted_and_take_no_gradient(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    run(digit_classifier, Ablation(grid=4), images)
    # 16 cells and the image itself; one more for the target
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3 * (16 + 1 + 1), 0)


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    whole = run(digit_classifier, Ablation(grid=5), images, micro_batch=7).maps
    for micro_batch in (1, 3):
        maps = run(digit_classifier, Ablation(grid=5), images, micro_batch=micro_batch).maps
        torch.testing.assert_close(maps, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_more_cells_than_pixels_do_not_apply(digit_classifier: Classifier) -> None:
    contract = Ablation(grid=33)
    assert "use at most 32" in str(applicability(digit_classifier, contract))
    with pytest.raises(NotApplicable, match="does not fit images of 32"):
        run(digit_classifier, contract, digits.digit_pixels()[0][:1])
