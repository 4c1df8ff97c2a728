"""PixMix against slow replicas of the authors' mixings, and its pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import reference_mixing
from auditcore import PixMix
from auditcore.contracts.models import Scores
from auditcore.errors import ModelNotTrainable
from auditcore.training.draws import generator
from auditcore.training.image_operations import Operations, apply_operations, draw_operations
from auditcore.training.method import MethodSetting
from auditcore.training.methods.pixmix import PixMixTraining, added, draw_weights, multiplied
from auditcore.training.mixing_pictures import dead_leaves, fractal, mixing_pictures, window
from auditcore.training.network import Network
from mixed_batches import HEIGHT, WIDTH, batch, network, run_step


def method_for(trained: Network, contract: PixMix, seed: int = 0) -> PixMixTraining:
    return PixMixTraining(contract, MethodSetting(trained, steps_per_epoch=2, epochs=2, seed=seed))


def test_mixed_images_are_the_replicas() -> None:
    """One image and one round at a time, with the numbers of the same generator."""
    trained = network()
    pixels = batch(trained, 8).pixels
    method = method_for(trained, PixMix(pictures=5, k=3))
    mixed = method.mixed(pixels, generator(7, "test"))

    random = generator(7, "test")
    rounds = random.integers(4, size=8)
    augments, operations = random.random(8) < 0.5, draw_operations(random, 8, severity=3)
    draws = []
    for _ in range(3):
        picture, corner = random.integers(5, size=8), random.random((8, 2))
        own, own_operations = random.random(8) < 0.5, draw_operations(random, 8, severity=3)
        weights = draw_weights(random, 8, 3)
        draws.append((picture, corner, own, own_operations, weights, random.random(8) < 0.5))

    def augmented(row: int, drawn: Operations) -> np.ndarray:
        one = Operations(drawn.names[row : row + 1], drawn.levels[[row]], drawn.signs[[row]])
        return apply_operations(pixels[row : row + 1], one)[0].double().numpy()

    pictures = mixing_pictures(5, side_px=23, channels=3, seed=0).double().numpy() / 255
    for row in range(8):
        image = augmented(row, operations) if augments[row] else pixels[row].double().numpy()
        for picture, corner, own, own_operations, weights, adds in draws[: rounds[row]]:
            top, left = int(corner[row, 0] * (23 - HEIGHT + 1)), int(corner[row, 1] * (23 - WIDTH + 1))
            cut = pictures[picture[row], :, top : top + HEIGHT, left : left + WIDTH]
            other = augmented(row, own_operations) if own[row] else cut
            a, b = weights[0][row], weights[1][row]
            if adds[row]:
                image = (a * (image * 2 - 1) + b * (other * 2 - 1) + 1) / 2
            else:
                image = (image * 2) ** a * np.clip(other * 2, 1e-37, None) ** b / 2
            image = image.clip(0, 1)
        assert np.allclose(mixed[row], image, atol=1e-4), row


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_labels_stay(scores: Scores) -> None:
    trained = network(scores)
    images = batch(trained)
    method = method_for(trained, PixMix(pictures=2))
    shown = run_step(method, trained, images)
    assert torch.allclose(shown.pixels, method.mixed(images.pixels, batch(trained).random), atol=1e-5)
    loss = reference_mixing.cross_entropy(
        shown.logits.double().numpy(), images.targets.double().numpy(), multi_label=scores == "sigmoid"
    )
    assert shown.loss == pytest.approx(loss, rel=1e-5)


def test_weights_are_those_of_the_authors() -> None:
    """Half of them convex in the mean, the others above 1 and below 0; E Beta(b, 1) = b / (b + 1)."""
    first, second = draw_weights(generator(0, "test"), 20_000, 3)
    convex = second > 0
    assert convex.mean() == pytest.approx(0.5, abs=0.02)
    assert first[convex].mean() == pytest.approx(3 / 4, abs=0.01)
    assert second[convex].mean() == pytest.approx(1 / 4, abs=0.01)
    assert first[~convex].mean() == pytest.approx(1 + 1 / 4, abs=0.01)
    assert second[~convex].mean() == pytest.approx(-1 / 4, abs=0.01)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_neutral_weights_leave_an_image_and_convex_ones_stay_between(one: float, other: float, share: float) -> None:
    values = [torch.tensor(value, dtype=torch.float64) for value in (one, other, share)]
    whole, nothing = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    for mix in (added, multiplied):
        assert float(mix(values[0], values[1], whole, nothing)) == pytest.approx(one)
        mixed = float(mix(values[0], values[1], 1 - values[2], values[2]))
        assert min(one, other) - 1e-9 <= mixed <= max(one, other) + 1e-9


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 6]))
def test_mixed_images_are_images(seed: int, channels: int) -> None:
    random = generator(seed, "test")
    pictures = mixing_pictures(2, side_px=9, channels=channels, seed=seed)
    assert pictures.shape == (2, channels, 9, 9)
    cut = window(pictures, np.array([1, 0, 1]), random.random((3, 2)), (9, 4))
    first, second = (torch.from_numpy(each).view(-1, 1, 1, 1) for each in draw_weights(random, 3, 3))
    for mix in (added, multiplied):
        mixed = mix(cut, cut.flip(3), first, second).clamp(0, 1)
        assert bool(mixed.isfinite().all())


def test_windows_reach_every_border() -> None:
    picture = torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5)
    first = window(picture, np.zeros(1, dtype=np.int64), np.zeros((1, 2)), (3, 4))
    last = window(picture, np.zeros(1, dtype=np.int64), np.full((1, 2), 1 - 1e-12), (3, 4))
    assert torch.equal(first * 255, picture[:, :, :3, :4].float())
    assert torch.equal(last * 255, picture[:, :, 2:, 1:].float())


def test_pictures_follow_from_the_seed_and_differ() -> None:
    pictures = mixing_pictures(6, side_px=20, channels=3, seed=1)
    assert torch.equal(pictures[:3], mixing_pictures(3, side_px=20, channels=3, seed=1))
    assert not torch.equal(pictures, mixing_pictures(6, side_px=20, channels=3, seed=2))
    assert len({bytes(one.numpy()) for one in pictures}) == 6


def test_dead_leaves_have_discs_of_many_sizes_and_fractals_have_structure() -> None:
    leaves, plant = dead_leaves(generator(0, "test"), 64, 3), fractal(generator(0, "test"), 64, 3)
    assert len(np.unique(leaves.reshape(3, -1), axis=1).T) > 30
    # large discs: most neighbors have one color
    assert np.mean(leaves[:, 1:] == leaves[:, :-1]) > 0.7
    drawn = plant.sum(axis=0) > 0
    assert 0.01 < drawn.mean() < 1
    # points are dense where they are: a drawn pixel has drawn neighbors more often than by chance
    assert np.mean(drawn[1:][drawn[:-1]]) > drawn.mean()


def test_pictures_smaller_than_the_input_are_refused() -> None:
    with pytest.raises(ModelNotTrainable, match="raise `picture_px`"):
        method_for(network(), PixMix(picture_px=16))


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"k": -1}, {"pictures": 0}, {"picture_px": 4}])
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PixMix.model_validate(wrong)


def test_no_round_leaves_images_or_augmentations_of_them() -> None:
    trained = network()
    pixels = batch(trained, 40).pixels
    mixed = method_for(trained, PixMix(k=0, pictures=1)).mixed(pixels, generator(0, "test"))
    same = (mixed == pixels).flatten(1).all(dim=1)
    assert 8 < int(same.sum()) < 32
