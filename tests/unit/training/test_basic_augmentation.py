"""Flips and crops of training images."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auditcore import BasicAugmentation
from auditcore.training.basic_augmentation import augment
from auditcore.training.draws import generator

IMAGES = torch.rand(64, 3, 6, 8, generator=torch.Generator().manual_seed(0)).clamp_min(0.1)


def windows(image: Tensor, padding: int) -> list[Tensor]:
    """Every window that a crop can cut, mirrored and not, by slices of a padded image."""
    found = []
    for one in (image, image.flip(-1)):
        padded = torch.zeros(3, 6 + 2 * padding, 8 + 2 * padding)
        padded[:, padding : padding + 6, padding : padding + 8] = one
        found += [
            padded[:, top : top + 6, left : left + 8]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
    return found


def test_nothing_is_changed_by_default() -> None:
    assert torch.equal(augment(IMAGES, BasicAugmentation(), generator(0, "x")), IMAGES)


def test_about_half_of_the_images_are_mirrored() -> None:
    found = augment(IMAGES, BasicAugmentation(horizontal_flip=True), generator(0, "x"))
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(found, IMAGES, strict=True)]
    same = [torch.equal(new, old) for new, old in zip(found, IMAGES, strict=True)]
    assert np.logical_xor(mirrored, same).all()
    assert 20 <= sum(mirrored) <= 44  # of 64: a fair coin falls outside in one of 400 seeds


@given(padding=st.integers(0, 3), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_every_image_is_a_window_of_its_own_padded_image(padding: int, seed: int) -> None:
    contract = BasicAugmentation(horizontal_flip=True, crop_padding=padding)
    found = augment(IMAGES[:8], contract, generator(seed, "x"))
    for new, old in zip(found, IMAGES, strict=False):
        assert any(torch.equal(new, window) for window in windows(old, padding))


def test_windows_differ_between_images_and_reach_every_offset() -> None:
    same = IMAGES[:1].expand(64, -1, -1, -1)
    found = augment(same, BasicAugmentation(crop_padding=1), generator(0, "x"))
    assert len({tuple(image.flatten().tolist()) for image in found}) == 9
