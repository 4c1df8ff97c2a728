"""KernelSHAP against Shapley's definition, against captum, and with too few coalitions."""

from __future__ import annotations

from collections.abc import Sequence

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

import digits
import reference_explainers
import reference_perturbation as reference
from auditcore.contracts.explainers import KernelShap
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.costs.estimate import explanation_passes
from auditcore.explainers.attribution import Attribution
from auditcore.explainers.kernel_shap import COALITIONS_A_DRAW, drawn_coalitions, every_coalition
from auditcore.explainers.registry import explain
from auditcore.explainers.superpixels import segment
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams

SIDE = reference_explainers.SIDE
PREPROCESSING = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.45, 0.5, 0.4), std=(0.2, 0.25, 0.3))
MEAN, STD = (np.array(channel)[:, None, None] for channel in (PREPROCESSING.mean, PREPROCESSING.std))
NET = reference_explainers.ResidualNet(seed=3)
UNROLLED = reference_explainers.Unrolled(NET)
TARGETS = torch.tensor([2, 0])


def streams(count: int, view: str = "original") -> Streams:
    return Streams(7, tuple(f"sha256:{number}" for number in range(count))).viewing([view] * count)


def run(
    classifier: Classifier, contract: KernelShap, images: Tensor, *, micro_batch: int = 32, view: str = "original"
) -> Attribution:
    targets = classifier.logits(images).argmax(1)
    return explain(classifier, contract, images, targets, streams(len(images), view), micro_batch=micro_batch)


def residual() -> tuple[Classifier, Tensor]:
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return Classifier(NET, preprocessing=PREPROCESSING), pixels


def gain(classifier: Classifier, images: Tensor, baseline: Tensor) -> Tensor:
    targets = classifier.logits(images).argmax(1)[:, None]
    change = classifier.logits(images) - classifier.logits(baseline.expand_as(images))
    return change.gather(1, targets)[:, 0]


def square_labels(cells: int) -> np.ndarray:
    return np.array(
        [[row * cells // SIDE * cells + column * cells // SIDE for column in range(SIDE)] for row in range(SIDE)]
    )


def value_of(image: np.ndarray, labels: np.ndarray, target: int):  # noqa: ANN201 - a function of a coalition
    """Logit in float64 when some segments are shown on black."""

    def value(coalition: Sequence[bool]) -> float:
        mixed = reference.shown(image, np.zeros_like(image), labels, coalition)
        return UNROLLED.score((mixed - MEAN) / STD, target)

    return value


# --- the definition --------------------------------------------------------------------------------


def test_values_are_exact_where_all_coalitions_are_affordable() -> None:
    classifier, pixels = residual()
    # 2^4 - 2 coalitions of 2 x 2 cells; 5 are no square number
    contract = KernelShap(segments="cells", count=5, samples=14, baseline="black")
    maps = explain(classifier, contract, pixels, TARGETS, streams(2), micro_batch=5).maps
    assert maps.shape == (2, 1, SIDE, SIDE)
    labels = square_labels(2)
    for actual, image, target in zip(maps, pixels.double().numpy(), TARGETS.tolist(), strict=True):
        values = reference.shapley_values(value_of(image, labels, target), 4)
        expected = values[labels] / 16  # pixels of a cell
        assert np.ptp(values) > 0.1
        np.testing.assert_allclose(actual[0], expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("samples", [300, 40, 6])
def test_drawn_coalitions_solve_the_least_squares(samples: int) -> None:
    classifier, pixels = residual()
    contract = KernelShap(segments="cells", count=9, samples=samples, baseline="black")
    maps = explain(classifier, contract, pixels, TARGETS, streams(2, "rotate"), micro_batch=7).maps
    labels = square_labels(3)
    probable = np.array([1 / (size * (9 - size)) for size in range(1, 9)])
    for position, (image, target) in enumerate(zip(pixels.double().numpy(), TARGETS.tolist(), strict=True)):
        coalitions = []
        for draw, start in enumerate(range(0, samples, COALITIONS_A_DRAW)):
            generator = streams(2, "rotate").generator(position, "kernel_shap", draw)
            pairs = min(COALITIONS_A_DRAW, samples - start) // 2
            sizes = generator.choice(np.arange(1, 9), size=(pairs, 1), p=probable / probable.sum())
            for ranks, size in zip(generator.random((pairs, 9)).argsort(axis=1), sizes, strict=True):
                chosen = [bool(rank < size[0]) for rank in ranks]
                coalitions += [chosen, [not present for present in chosen]]
        assert len(coalitions) == samples
        values = reference.shapley_least_squares(value_of(image, labels, target), coalitions, [1.0] * samples)
        expected = values[labels] / np.bincount(labels.flatten())[labels]
        np.testing.assert_allclose(maps[position, 0], expected, rtol=0, atol=5e-5 * np.abs(expected).max())


def test_all_coalitions_with_the_kernel_give_shapley_values() -> None:
    _, pixels = residual()
    coalitions = every_coalition(4)
    kernel = [reference.shapley_kernel(4, int(present.sum())) for present in coalitions.present]
    # up to a factor, which least squares do not see
    np.testing.assert_allclose(coalitions.weights / coalitions.weights.sum(), np.array(kernel) / np.sum(kernel))
    value = value_of(pixels[0].double().numpy(), square_labels(2), 1)
    values = reference.shapley_least_squares(value, coalitions.present.tolist(), kernel)
    np.testing.assert_allclose(values, reference.shapley_values(value, 4), atol=1e-12)


def test_more_coalitions_come_nearer_to_the_exact_values(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:4]
    exact, few, many = (
        run(digit_classifier, KernelShap(segments="cells", count=9, samples=samples), images, micro_batch=256).maps
        for samples in (510, 20, 500)
    )
    errors = [float((maps - exact).square().mean()) for maps in (few, many)]
    assert 0 < errors[1] < errors[0] / 5
    assert errors[1] < 0.02 * float(exact.square().mean())


def test_sizes_follow_the_kernel_and_complements_come_along() -> None:
    drawn = drawn_coalitions(np.random.default_rng(0), 6, 20_000)
    assert drawn.present.shape == (40_000, 6)
    assert (drawn.weights == 1).all()
    assert (drawn.present[::2] == ~drawn.present[1::2]).all()
    frequency = np.bincount(drawn.present.sum(1), minlength=7)[1:6] / 40_000
    expected = np.array([1 / (size * (6 - size)) for size in range(1, 6)])
    np.testing.assert_allclose(frequency, expected / expected.sum(), atol=0.01)
    # no segment is preferred
    np.testing.assert_allclose(drawn.present[::2].mean(0), 0.5, atol=0.02)


# --- another implementation ------------------------------------------------------------------------


def test_captum_agrees(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    targets = digit_classifier.logits(images).argmax(1)
    contract = KernelShap(segments="superpixels", count=5, samples=1000, baseline="mean")
    maps = run(digit_classifier, contract, images, micro_batch=128).maps
    labels = segment(images, "superpixels", 5)
    assert [int(each.max()) + 1 for each in labels] == [3, 4, 3]
    inputs = digit_classifier.normalize(images)
    for position in range(3):
        mask, pixels = labels[position][None, None], labels[position].flatten().bincount()[labels[position]]
        common = {
            "inputs": inputs[position : position + 1],
            "baselines": 0.0,  # the mean color, normalized
            "target": int(targets[position]),
            "feature_mask": mask,
            "perturbations_per_eval": 64,
        }
        # captum gives every pixel its segment's value, and repeats it in every channel
        exact = captum.attr.ShapleyValues(digit_classifier.module).attribute(**common)[0, 0]
        scale = float(exact.abs().max())
        torch.testing.assert_close(maps[position, 0] * pixels, exact.float(), rtol=0, atol=2e-5 * scale)
        torch.manual_seed(0)
        sampled = captum.attr.KernelShap(digit_classifier.module).attribute(n_samples=1000, **common)[0, 0]
        torch.testing.assert_close(maps[position, 0] * pixels, sampled.float(), rtol=0, atol=0.1 * scale)


# --- what must hold --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "contract",
    [
        KernelShap(segments="cells", count=9, samples=600),
        KernelShap(samples=200),
        KernelShap(samples=200, baseline="black"),
        KernelShap(samples=200, baseline="blur"),
        # fewer coalitions than segments: no crash, and still complete
        KernelShap(samples=5),
        KernelShap(segments="cells", count=400, samples=4),
    ],
    ids=str,
)
def test_maps_sum_to_what_the_image_adds(contract: KernelShap, digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:3]
    maps = run(digit_classifier, contract, images).maps
    baseline = {
        "black": torch.zeros(1, 3, 1, 1),
        "mean": digit_classifier.mean,
        "blur": gaussian_blur(images, [31, 31], [5.0, 5.0]),
    }[contract.baseline]
    torch.testing.assert_close(maps.sum((1, 2, 3)), gain(digit_classifier, images, baseline), rtol=1e-4, atol=1e-4)
    assert (maps.amax((1, 2, 3)) > maps.amin((1, 2, 3))).all()


def test_an_image_without_regions_has_one_value(digit_classifier: Classifier) -> None:
    # SLIC finds one connected region in noise; there is nothing to share out, and no coalition to try
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert segment(noise, "superpixels", 4).unique().tolist() == [0]
    maps = run(digit_classifier, KernelShap(count=4), noise).maps
    expected = gain(digit_classifier, noise, digit_classifier.mean) / 32**2
    torch.testing.assert_close(maps, expected.view(1, 1, 1, 1).expand_as(maps))


def test_segments_count_from_zero_without_gaps() -> None:
    images = digits.digit_pixels()[0][:6]
    for kind, count in (("cells", 10), ("superpixels", 49)):
        labels = segment(images, kind, count)
        assert labels.shape == (6, 32, 32)
        for each in labels:
            assert each.unique().tolist() == list(range(int(each.max()) + 1))
    assert (segment(images[:1, :, :SIDE, :SIDE], "cells", 10)[0].numpy() == square_labels(3)).all()
    # neither the other images nor their number matter
    assert torch.equal(segment(images[4:5], "superpixels", 49), segment(images, "superpixels", 49)[4:5])


def test_maps_do_not_depend_on_the_batch(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:5]
    # superpixels differ in number, so some images have all their coalitions and others a draw
    contract = KernelShap(count=9, samples=130)
    assert len({int(each.max()) for each in segment(images, "superpixels", 9)}) > 1
    whole = run(digit_classifier, contract, images, micro_batch=7).maps
    assert torch.equal(run(digit_classifier, contract, images, micro_batch=7).maps, whole)
    scale = float(whole.abs().max())
    for micro_batch in (1, 3):
        maps = run(digit_classifier, contract, images, micro_batch=micro_batch).maps
        torch.testing.assert_close(maps, whole, rtol=0, atol=1e-5 * scale)
    targets = digit_classifier.logits(images).argmax(1)
    order = [3, 0]
    alone = explain(digit_classifier, contract, images[order], targets[order], streams(5).take(order))
    torch.testing.assert_close(alone.maps, whole[order], rtol=0, atol=1e-5 * scale)


def test_coalitions_belong_to_image_and_view(digit_classifier: Classifier) -> None:
    images = digits.digit_pixels()[0][:1].expand(2, -1, -1, -1)
    drawn = KernelShap(segments="cells", count=16, samples=40)
    maps = run(digit_classifier, drawn, images).maps
    assert not torch.allclose(maps[0], maps[1], rtol=0.01)
    assert not torch.allclose(maps, run(digit_classifier, drawn, images, view="rotate/3").maps, rtol=0.01)
    # nothing is drawn where all coalitions are affordable
    exact = run(digit_classifier, KernelShap(segments="cells", count=4), images).maps
    torch.testing.assert_close(exact[0], exact[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("contract", "passes"),
    [
        (KernelShap(segments="cells", count=9, samples=1000), 510 + 1),
        (KernelShap(segments="cells", count=49, samples=300), 300 + 1),
    ],
)
def test_passes_are_counted_and_take_no_gradient(
    contract: KernelShap, passes: int, digit_classifier: Classifier
) -> None:
    images = digits.digit_pixels()[0][:3]
    ledger = digit_classifier.ledger
    before = ledger.forward_images, ledger.backward_images
    run(digit_classifier, contract, images)
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == (3 * (passes + 1) + 1, 0)
    assert explanation_passes(contract) == passes
