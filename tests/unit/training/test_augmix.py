"""AugMix: its mixtures and its consistency loss against slow replicas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.special import rel_entr

import reference_mixing
from auditcore import AugMix
from auditcore.contracts.models import Scores
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import ModelNotTrainable
from auditcore.training.draws import generator
from auditcore.training.image_operations import Operations, apply_operations, draw_operations
from auditcore.training.method import MethodSetting
from auditcore.training.methods.augmix import AugMixTraining, jensen_shannon, mixture
from auditcore.training.network import Network
from mixed_batches import CLASSES, batch, convolutional, network, run_step


def method_for(trained: Network, contract: AugMix) -> AugMixTraining:
    return AugMixTraining(contract, MethodSetting(trained, steps_per_epoch=2, epochs=2, seed=0))


@pytest.mark.parametrize("contract", [AugMix(), AugMix(width=2, depth=2, severity=8, alpha=0.5, all_operations=True)])
def test_mixtures_are_the_replicas(contract: AugMix) -> None:
    """One image, one chain, one operation at a time."""
    pixels = batch(network(), 5).pixels
    random = generator(4, "test")
    mixed = mixture(pixels, contract, random)

    random = generator(4, "test")
    weights = random.dirichlet([contract.alpha] * contract.width, size=5)
    shares = random.beta(contract.alpha, contract.alpha, size=5)
    low, high = (1, 3) if contract.depth is None else (contract.depth, contract.depth)
    depths = random.integers(low, high + 1, size=5 * contract.width)
    drawn = [
        draw_operations(random, 5 * contract.width, severity=contract.severity, all_operations=contract.all_operations)
        for _ in range(high)
    ]
    for row in range(5):
        own = pixels[row].double().numpy()
        total = np.zeros_like(own)
        for number in range(contract.width):
            chain = row * contract.width + number
            image = pixels[row : row + 1]
            for done in range(depths[chain]):
                one = drawn[done]
                image = apply_operations(
                    image, Operations(one.names[chain : chain + 1], one.levels[[chain]], one.signs[[chain]])
                )
            total += weights[row, number] * image[0].double().numpy()
        assert np.allclose(mixed[row], (1 - shares[row]) * own + shares[row] * total, atol=1e-5)


def test_every_image_of_a_batch_has_its_own_share() -> None:
    """torchvision's AugMix draws one share for all images of a batch (pytorch/vision#5411)."""
    image = batch(network(), 1).pixels
    # the same image several times, changed by brightness only: what differs between copies are weights and shares
    mixed = mixture(image.repeat(30, 1, 1, 1), AugMix(), generator(0, "test"))
    distances = (mixed - image).abs().mean(dim=(1, 2, 3))
    assert len(distances.unique()) == 30
    ours = [mixture(image.repeat(2, 1, 1, 1), AugMix(depth=1, width=1), generator(seed, "x")) for seed in range(60)]
    # two copies that got the same operation are equal only if they got the same share
    same = [bool(torch.allclose(pair[0], pair[1], atol=1e-6)) for pair in ours]
    assert sum(same) < 5


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_a_step_with_consistency_is_the_replicas(scores: Scores) -> None:
    trained = network(scores)
    images = batch(trained, 5)
    shown = run_step(method_for(trained, AugMix(consistency_weight=7)), trained, images)
    assert shown.pixels.shape[0] == 15
    assert torch.allclose(shown.pixels[:5], images.pixels, atol=1e-6)
    again = batch(trained, 5)
    for view in (1, 2):
        mixed = mixture(again.pixels, AugMix(), again.random)
        assert torch.allclose(shown.pixels[5 * view : 5 * view + 5], mixed, atol=1e-5)

    logits = shown.logits.double().numpy().reshape(3, 5, CLASSES)
    if scores == "softmax":
        spread = np.mean(
            [reference_mixing.jensen_shannon([reference_mixing.softmax(v) for v in logits[:, row]]) for row in range(5)]
        )
    else:
        present = 1 / (1 + np.exp(-logits))
        spread = np.mean(
            [
                reference_mixing.jensen_shannon([np.array([p, 1 - p]) for p in present[:, row, index]])
                for row in range(5)
                for index in range(CLASSES)
            ]
        )
    loss = reference_mixing.cross_entropy(logits[0], images.targets.double().numpy(), multi_label=scores == "sigmoid")
    assert shown.facts["jensen_shannon"] == pytest.approx(spread, rel=1e-3, abs=1e-7)
    assert shown.loss == pytest.approx(loss + 7 * spread, rel=1e-5)


def test_without_consistency_it_learns_from_one_mixture() -> None:
    trained = network()
    shown = run_step(method_for(trained, AugMix(consistency=False)), trained, batch(trained))
    images = batch(trained)
    assert torch.allclose(shown.pixels, mixture(images.pixels, AugMix(), images.random), atol=1e-5)
    loss = reference_mixing.cross_entropy(shown.logits.double().numpy(), images.targets.double().numpy())
    assert shown.loss == pytest.approx(loss, rel=1e-5)


@given(arrays(np.float32, (2, 1, 4), elements=st.floats(-6, 6, width=32)))
def test_the_divergence_is_scipys_and_bounded(values: np.ndarray) -> None:
    logits = torch.from_numpy(values)
    found = float(jensen_shannon(logits, "softmax"))
    first, second = logits.double().softmax(dim=-1)[:, 0].numpy()
    middle = (first + second) / 2
    # the square of `jensenshannon`, which warns where rounding makes it negative
    expected = (rel_entr(first, middle).sum() + rel_entr(second, middle).sum()) / 2
    assert found == pytest.approx(expected, abs=1e-5)
    assert -1e-6 <= found <= np.log(2) + 1e-6
    assert float(jensen_shannon(logits[:1].repeat(3, 1, 1), "softmax")) == pytest.approx(0, abs=1e-6)


def test_changes_of_color_are_refused_for_four_channels() -> None:
    bands = Preprocessing(resize=8, crop=8, mean=(0.5,) * 4, std=(0.5,) * 4, colors="bands")
    trained = network(module=convolutional(4), preprocessing=bands)
    method_for(trained, AugMix())
    with pytest.raises(ModelNotTrainable, match="all_operations"):
        method_for(trained, AugMix(all_operations=True))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 0}, {"severity": 11}, {"consistency_weight": 0}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugMix.model_validate(wrong)
