"""SaliencyMix: its saliency against OpenCV's and a slow replica, its boxes against the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import reference_mixing
from auditcore import SaliencyMix
from auditcore.contracts.models import Scores
from auditcore.training.draws import generator
from auditcore.training.fine_grained_saliency import fine_grained_saliency, most_salient
from auditcore.training.methods.saliency_mix import SaliencyMixTraining
from mixed_batches import HEIGHT, WIDTH, batch, network, run_step

FRAME = (HEIGHT, WIDTH)

# 255 times `StaticSaliencyFineGrained_create().computeSaliency` of opencv-contrib-python-headless 5.0.0, for
# `np.random.RandomState(5).randint(0, 256, (10, 14, 3))` in blue, green, red order. Not installed here.
OPENCV = [
    [22, 0, 10, 21, 138, 191, 106, 53, 21, 88, 221, 221, 99, 20],
    [42, 74, 95, 95, 127, 127, 85, 74, 31, 99, 243, 210, 33, 65],
    [95, 138, 212, 191, 106, 31, 42, 95, 21, 144, 255, 177, 42, 171],
    [10, 74, 223, 255, 138, 21, 21, 42, 33, 199, 255, 144, 42, 139],
    [22, 10, 138, 255, 201, 53, 22, 44, 133, 243, 232, 88, 21, 65],
    [42, 0, 0, 138, 159, 10, 88, 121, 188, 221, 144, 44, 0, 1],
    [127, 31, 55, 21, 53, 88, 177, 144, 155, 133, 66, 44, 66, 66],
    [116, 53, 11, 10, 11, 177, 199, 77, 11, 11, 11, 33, 66, 77],
    [63, 42, 42, 21, 88, 199, 133, 42, 116, 74, 53, 85, 42, 1],
    [42, 53, 63, 21, 121, 199, 77, 95, 159, 106, 116, 170, 116, 54],
]


def saliency(image: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return fine_grained_saliency(pixels)[0].numpy()


def test_saliency_is_opencvs() -> None:
    image = np.random.RandomState(5).randint(0, 256, (10, 14, 3)).astype(np.uint8)
    assert np.array_equal(saliency(image), OPENCV)


@pytest.mark.parametrize("shape", [(7, 9), (30, 13), (2, 2)])
def test_saliency_is_the_replicas(shape: tuple[int, int]) -> None:
    image = np.random.RandomState(1).randint(0, 256, (*shape, 3)).astype(np.uint8)
    assert np.array_equal(saliency(image), reference_mixing.fine_grained_saliency(image))


@settings(max_examples=20)
@given(st.integers(0, 255), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 4]))
def test_one_color_has_no_salient_pixel(tone: int, height: int, width: int, channels: int) -> None:
    pixels = torch.full((2, channels, height, width), tone / 255)
    assert not bool(fine_grained_saliency(pixels).any())
    assert most_salient(pixels) == [(0, 0), (0, 0)]


def test_a_spot_is_the_peak_of_its_own_image() -> None:
    pixels = torch.full((3, 3, HEIGHT, WIDTH), 0.4)
    spots = [(2, 15), (9, 4), (6, 10)]
    for image, (row, column) in zip(pixels, spots, strict=True):
        # so little brighter that the mean of the background does not move by a tone
        image[:, row, column] = 0.7
    assert most_salient(pixels) == spots
    assert most_salient(1 - pixels) == spots


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("box", ["each_partner", "first_partner"])
def test_a_step_is_the_replicas(scores: Scores, box: str) -> None:
    trained = network(scores)
    images = batch(trained, step=3)
    contract = SaliencyMix.model_validate({"box": box})
    shown = run_step(SaliencyMixTraining(contract), trained, images)

    random = generator(0, "method", 3)
    random.random()
    sides = reference_mixing.box_sides(1 - random.beta(1, 1), FRAME)
    partner = random.permutation(6)
    pixels, labels = images.pixels.double().numpy(), images.targets.double().numpy()
    bytes_ = (images.pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    maps = [reference_mixing.fine_grained_saliency(bytes_[other]) for other in partner]
    peaks = [np.unravel_index(one.argmax(), one.shape) for one in maps]
    if box == "first_partner":
        peaks = [peaks[0]] * 6
    expected, targets, shares = [], [], []
    for row, (other, (top, left)) in enumerate(zip(partner, peaks, strict=True)):
        inside = reference_mixing.box((int(top), int(left)), sides, FRAME)
        shares.append(len(inside) / (HEIGHT * WIDTH))
        expected.append(reference_mixing.pasted(pixels[row], pixels[other], inside))
        targets.append(reference_mixing.shared(labels[row], labels[other], shares[-1]))
    assert np.allclose(shown.pixels, expected, atol=1e-6)
    assert shown.facts["pasted_share"] == pytest.approx(np.mean(shares))
    assert len(set(shares)) > 1 or box == "first_partner"
    loss = reference_mixing.cross_entropy(
        shown.logits.double().numpy(), np.array(targets), multi_label=scores == "sigmoid"
    )
    assert shown.loss == pytest.approx(loss, rel=1e-5)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValidationError, match="alpha"):
        SaliencyMix(alpha=-1)
