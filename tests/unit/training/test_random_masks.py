"""Random masks: which parts of images are masked, and that nothing else changes."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import explained_batches
import reference
from auditcore import RandomMasks, RandomPatches, RandomPixels
from auditcore.errors import InvalidRequest
from auditcore.training.draws import generator
from auditcore.training.method import TrainingBatch
from auditcore.training.methods.random_masks import RandomMasksTraining, masked_patches, masked_pixels
from auditcore.training.network import Network

SIDE = 32


def replica_of_pixels(masks: RandomPixels, one: TrainingBatch) -> np.ndarray:
    """floor(beta * H * W) different pixels of each image; with `uniform`, beta is drawn below `share`."""
    random = generator(0, "method", one.step)
    factors = random.random(len(one)) if masks.draw == "uniform" else [1.0] * len(one)
    masked = np.zeros((len(one), SIDE, SIDE), dtype=bool)
    for image, factor in enumerate(factors):
        count = math.floor(masks.share * factor * SIDE**2)
        for place in random.choice(SIDE**2, count, replace=False, shuffle=False):
            masked[image, place // SIDE, place % SIDE] = True
    return masked


def replica_of_patches(masks: RandomPatches, one: TrainingBatch) -> np.ndarray:
    """Of each image that is not spared, 1 to `patches` cells of the grid."""
    random = generator(0, "method", one.step)
    chances, counts = random.random(len(one)), random.integers(1, masks.patches + 1, size=len(one))
    masked = np.zeros((len(one), SIDE, SIDE), dtype=bool)
    for image in range(len(one)):
        cells = random.choice(masks.grid**2, counts[image], replace=False).tolist()
        if chances[image] >= masks.unmasked:
            masked[image] = reference.deleted_after(cells, len(cells), SIDE, SIDE, (masks.grid, masks.grid))
    return masked


MASKS = [
    RandomPixels(),
    RandomPixels(share=0.5, draw="uniform"),
    RandomPatches(),
    RandomPatches(grid=7, patches=20, unmasked=0.25),
]


@pytest.mark.parametrize("color", ["mean", "black"])
@pytest.mark.parametrize("masks", MASKS, ids=lambda masks: f"{masks.kind}")
def test_the_network_sees_what_the_replica_masks(
    masks: RandomPixels | RandomPatches, color: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    seen: list[Tensor] = []
    passed = Network.logits

    def logits(self: Network, pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return passed(self, pixels)

    monkeypatch.setattr(Network, "logits", logits)
    method = RandomMasksTraining(RandomMasks(masks=masks, color=color), explained_batches.setting(own))  # type: ignore[arg-type]
    found = method.step(own, one)
    fresh = explained_batches.batch()
    masked = replica_of_pixels(masks, fresh) if masks.kind == "pixels" else replica_of_patches(masks, fresh)
    fill = explained_batches.mean_color() if color == "mean" else np.zeros(3)
    images = np.where(masked[:, None], fill[:, None, None], fresh.pixels.double().numpy())
    np.testing.assert_allclose(seen[0].numpy(), images, atol=1e-7)
    assert found.facts == {"masked_pixels": pytest.approx(masked.mean())}
    logits_again = torch.from_numpy(images).float()
    own.module.get_submodule("drop").p = 0.0  # type: ignore[assignment]
    p = passed(own, logits_again).double().log_softmax(1)
    again = method.step(own, explained_batches.batch()).loss
    assert float(again.detach()) == pytest.approx(float(-(fresh.targets * p).sum(1).mean().detach()), rel=1e-5)


def test_a_share_of_pixels_is_exact_and_a_drawn_one_is_uniform() -> None:
    one = explained_batches.batch(range(400))
    counts = masked_pixels(RandomPixels(share=0.1), one).flatten(1).sum(dim=1)
    assert set(counts.tolist()) == {102}  # a tenth of 1024, rounded down
    shares = masked_pixels(RandomPixels(share=0.4, draw="uniform"), one).double().flatten(1).mean(dim=1).sort().values
    # the largest distance of the distributions, 1.63 / sqrt(n) at one percent
    assert float((shares / 0.4 - torch.linspace(0, 1, 400)).abs().max()) < 1.63 / 400**0.5


def test_every_pixel_and_every_patch_has_the_same_chance() -> None:
    one = explained_batches.batch(range(600))
    by_pixel = masked_pixels(RandomPixels(share=0.5), one).double().mean(dim=0)
    assert float((by_pixel - 0.5).abs().max()) < 5 * 0.5 / 600**0.5
    by_patch = masked_patches(RandomPatches(unmasked=0), one)[:, 0, ::8, ::8].flatten(1)
    assert by_patch.sum(dim=1).tolist() == [1] * 600
    expected = 600 / 16
    # chi-square with 15 degrees of freedom, at 0.1 percent
    assert float(((by_patch.sum(dim=0) - expected) ** 2 / expected).sum()) < 37.7


def test_every_other_image_stays_as_it_is_and_numbers_of_patches_are_equally_probable() -> None:
    one = explained_batches.batch(range(900))
    masked = masked_patches(RandomPatches(patches=3), one)[:, 0, ::8, ::8].flatten(1).sum(dim=1)
    counts = Counter(masked.tolist())
    assert counts.keys() == {0, 1, 2, 3}
    assert abs(counts[0] - 450) < 4 * 15
    assert all(abs(counts[number] - 150) < 4 * 12 for number in (1, 2, 3))


def test_masks_are_new_in_every_step() -> None:
    first, second = (masked_pixels(RandomPixels(), explained_batches.batch(step=step)) for step in (0, 1))
    assert not torch.equal(first, second)


def test_a_grid_finer_than_the_image_is_refused() -> None:
    own = explained_batches.network()
    with pytest.raises(InvalidRequest, match="use at most 32") as caught:
        RandomMasksTraining(RandomMasks(masks=RandomPatches(grid=33)), explained_batches.setting(own))
    assert caught.value.field == "plan.method.masks.grid"


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"kind": "pixels", "share": 0}, "share"),
        ({"kind": "pixels", "share": 1}, "share"),
        ({"kind": "patches", "grid": 3, "patches": 9}, "set it to at most 8"),
        ({"kind": "patches", "unmasked": 1}, "unmasked"),
    ],
)
def test_masks_that_make_no_sense_are_refused(masks: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RandomMasks.model_validate({"masks": masks})
