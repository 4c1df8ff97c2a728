"""RISE against its formula, its masks against scikit-image, and to whom its randomness belongs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.transform import resize
from torch import Tensor

import digits
import reference_explainers
import reference_perturbation as reference
from auditcore.contracts.explainers import Rise
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.errors import NotApplicable
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.registry import applicability, explain
from auditcore.explainers.rise import MASKS_A_DRAW, soft_masks
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference_explainers.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(channel)[:, None, None] for channel in (PREPROCESSING.mean, PREPROCESSING.std))


def streams(count: int, view: str = "original") -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(count))).viewing([view] * count)


def run(
    classifier: Classifier, contract: Rise, images: Tensor, *, micro_batch: int = 32, view: str = "original"
) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    return explain(classifier, contract, images, targets, streams(len(images), view), micro_batch=micro_batch)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_replica(scores: str) -> None:
    net = reference_explainers.ResidualNet(seed=3)
    unrolled = reference_explainers.Unrolled(net)
    classifier = Classifier(net, preprocessing=PREPROCESSING, scores=scores)
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([2, 0])
    # 3 does not divide 8; the second draw is a short one
    contract = Rise(masks=MASKS_A_DRAW + 9, cells=3, keep=0.3)
    maps = explain(classifier, contract, pixels, targets, streams(2, "rotate"), micro_batch=50).maps
    assert maps.shape == (2, 1, SIDE, SIDE)
    for position, (image, target) in enumerate(zip(pixels.double().numpy(), targets.tolist(), strict=True)):

        def probability(values: np.ndarray, target: int = target) -> float:
            logits = unrolled.forward((values - MEAN) / STD)["logits"]
            if scores == "sigmoid":
                return 1 / (1 + math.exp(-logits[target]))
            return math.exp(logits[target]) / sum(math.exp(logit) for logit in logits)

        masks = []
        for draw, count in enumerate((MASKS_A_DRAW, 9)):
            own = streams(2, "rotate")
            grids = own.generator(position, "rise/grid", draw).random((count, 3, 3), dtype=np.float32) < 0.3
            shifts = own.generator(position, "rise/shift", draw).random((count, 2), dtype=np.float32)
            # a cell is ceil(8 / 3) = 3 pixels wide
            masks += [
                reference.rise_mask(grid.astype(float), [int(part * 3) for part in shift], SIDE)
                for grid, shift in zip(grids, shifts, strict=True)
            ]
        expected = reference.rise(image, np.array(PREPROCESSING.mean), probability, masks, keep=0.3)
        np.testing.assert_allclose(maps[position, 0], expected, rtol=2e-5)
        assert np.ptp(expected) > 0.05 * expected.max()


@pytest.mark.parametrize(("cells", "side"), [(7, 224), (7, 32), (3, 8), (2, 5), (8, 8)])
def test_masks_are_those_of_the_authors(cells: int, side: int) -> None:
    generator = np.random.default_rng(cells)
    cell = math.ceil(side / cells)
    grids = (generator.random((4, cells, cells)) < 0.5).astype(np.float32)
    shifts = generator.integers(0, cell, (4, 2))
    masks = soft_masks(torch.from_numpy(grids), torch.from_numpy(shifts), side, side)
    upsampled = (cells + 1) * cell
    for mask, grid, (row, column) in zip(masks, grids, shifts, strict=True):
        foreign = resize(grid, (upsampled, upsampled), order=1, mode="reflect", anti_aliasing=False)
        np.testing.assert_allclose(mask, foreign[row : row + side, column : column + side], atol=1e-6)


def test_the_mean_mask_is_the_share_that_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    grids = (torch.rand(20_000, 4, 4, generator=generator) < 0.3).float()
    mean = soft_masks(grids, torch.randint(0, 8, (20_000, 2), generator=generator), 32, 32).mean(0)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.3), rtol=0, atol=0.02)
    # so a model that does not look gives its constant probability everywhere, whatever the share
    blind = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2)), preprocessing=PREPROCESSING)
    torch.nn.init.zeros_(blind.module[1].weight)
    torch.nn.init.zeros_(blind.module[1].bias)
    maps = run(blind, Rise(masks=4000, cells=2, keep=0.3), torch.rand(1, 3, SIDE, SIDE), micro_batch=500).maps
    torch.testing.assert_close(maps, torch.full_like(maps, 0.5), rtol=0, atol=0.05)


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    contract = Rise(masks=40, cells=5)
    whole = run(digit_classifier, contract, images, micro_batch=7).maps
    assert torch.equal(run(digit_classifier, contract, images, micro_batch=7).maps, whole)
    for micro_batch in (1, 3):
        torch.testing.assert_close(run(digit_classifier, contract, images, micro_batch=micro_batch).maps, whole)
    targets = digit_classifier.logits(images).argmax(1)
    order = [3, 0]
    alone = explain(digit_classifier, contract, images[order], targets[order], streams(5).take(order))
    torch.testing.assert_close(alone.maps, whole[order])


def test_more_masks_begin_with_the_same_ones(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1]
    few, more = (run(digit_classifier, Rise(masks=count), images).maps for count in (MASKS_A_DRAW, MASKS_A_DRAW + 1))
    torch.testing.assert_close(few, more, rtol=0.1, atol=0.01)
    assert not torch.equal(few, more)


def test_masks_belong_to_image_and_view(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1].expand(2, -1, -1, -1)
    maps = run(digit_classifier, Rise(masks=20), images).maps
    assert not torch.allclose(maps[0], maps[1], rtol=0.01)
    assert not torch.allclose(maps, run(digit_classifier, Rise(masks=20), images, view="rotate/3").maps, rtol=0.01)


def test_passes_are_counted_and_take_no_gradient(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    contract = Rise(masks=300)
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    run(digit_classifier, contract, images)
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3 * (300 + 1), 0)
    assert explanation_passes(contract) == 300


def test_more_cells_than_pixels_do_not_apply(digit_classifier: Classifier) -> None:
    assert applicability(digit_classifier, Rise(cells=32)) is None
    assert "33 cells along the shorter side do not fit" in str(applicability(digit_classifier, Rise(cells=33)))
    with pytest.raises(NotApplicable, match="do not fit images of 32 x 32 pixels"):
        run(digit_classifier, Rise(cells=33), digits.digit_pixels()[0][:1])
