"""Every family has an implementation; identity, masks, inverses and grids."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from skimage import data

from auditcore.augmentations.table import FAMILIES, augment, inverse_value, levels, valid_mask
from auditcore.contracts.augmentations import (
    Augmentation,
    AugmentationContract,
    Brightness,
    Hue,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.errors import NotApplicable, ShapeError
from auditcore.metrics.similarity import pearson

ALL = [Brightness(), Hue(), Saturation(), Rotate(), Translate(), Scale()]
EQUIVARIANT = [Rotate(), Translate(), Scale()]
INVARIANT = [Brightness(), Hue(), Saturation()]


def kind(family: AugmentationContract) -> str:
    return family.kind


def test_every_contract_has_an_implementation() -> None:
    assert set(FAMILIES) == set(get_args(get_args(Augmentation)[0]))


@pytest.mark.parametrize("family", ALL, ids=kind)
def test_the_identity_returns_the_image_bit_for_bit(family: AugmentationContract) -> None:
    photo = torch.from_numpy(data.chelsea()[:101, :90]).permute(2, 0, 1)[None].float() / 255
    batch = photo.repeat(2, 1, 1, 1)
    other = family.identity + family.bound / 2
    changed = augment(family, batch, torch.tensor([family.identity, other]))
    assert torch.equal(changed[0], photo[0])
    assert not torch.equal(changed[1], photo[0])


@pytest.mark.parametrize("family", ALL, ids=kind)
def test_refuses_values_that_do_not_fit_the_images(family: AugmentationContract) -> None:
    with pytest.raises(ShapeError) as caught:
        augment(family, torch.rand(3, 3, 8, 8), torch.zeros(2))
    assert caught.value.actual == (2,)


@pytest.mark.parametrize("family", EQUIVARIANT, ids=kind)
def test_maps_of_any_channels_are_warped_like_the_image(family: AugmentationContract) -> None:
    value = torch.tensor([family.identity + family.bound / 3])
    image = torch.rand(1, 3, 20, 24)
    luminance = image.mean(dim=1, keepdim=True)
    torch.testing.assert_close(augment(family, luminance, value), augment(family, image, value).mean(1, keepdim=True))


@pytest.mark.parametrize("family", INVARIANT, ids=kind)
def test_all_pixels_are_valid_after_a_change_of_color(family: AugmentationContract) -> None:
    mask = valid_mask(family, torch.tensor([-0.3, 0.0, 0.3]), (5, 7))
    assert mask.shape == (3, 1, 5, 7)
    assert mask.all()


@pytest.mark.parametrize("family", EQUIVARIANT, ids=kind)
@pytest.mark.parametrize("size", [(17, 17), (224, 160)])
def test_valid_pixels_come_wholly_from_inside(family: AugmentationContract, size: tuple[int, int]) -> None:
    values = [family.identity - family.bound, family.identity, family.identity + family.bound]
    mask = valid_mask(family, torch.tensor(values), size)
    assert mask[1].all()
    # an image of ones stays 1 exactly where no fill is mixed in
    ones = torch.ones(3, 1, *size)
    warped = augment(family, ones, torch.tensor(values))
    torch.testing.assert_close(warped[mask], torch.ones_like(warped[mask]), atol=1e-3, rtol=0)
    assert (warped[~mask] < 0.9999).all()
    assert not (mask[0].all() and mask[2].all())


def test_whole_pixel_shifts_lose_exactly_their_border() -> None:
    mask = valid_mask(Translate(), torch.tensor([0.25]), (224, 224))
    expected = torch.zeros(1, 1, 224, 224, dtype=torch.bool)
    expected[:, :, 56:, 56:] = True
    assert torch.equal(mask, expected)


def test_the_mask_keeps_unrelated_maps_unrelated() -> None:
    # shared fill inflates the correlation of unrelated positive maps; the mask must take it away again
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.rand(1, 1, 96, 96, generator=generator) for _ in range(2))
    value = torch.tensor([0.3])
    moved = [augment(Translate(), maps, value) for maps in (first, second)]
    everything = torch.ones(1, 1, 96, 96, dtype=torch.bool)
    assert pearson(*moved, everything) > 0.5
    assert pearson(*moved, valid_mask(Translate(), value, (96, 96))).abs() < 0.05


@pytest.mark.parametrize("family", EQUIVARIANT, ids=kind)
def test_the_inverse_undoes_the_change(family: AugmentationContract) -> None:
    value = family.identity + family.bound / 2
    rows = torch.linspace(0, 3, 65)
    smooth = (torch.sin(rows)[:, None] * torch.cos(rows)[None]).view(1, 1, 65, 65)
    forth = augment(family, smooth, torch.tensor([value]))
    back = augment(family, forth, torch.tensor([inverse_value(family, value)]))
    inside = slice(20, 45)
    torch.testing.assert_close(back[..., inside, inside], smooth[..., inside, inside], atol=5e-3, rtol=0)


@pytest.mark.parametrize("family", INVARIANT, ids=kind)
def test_a_change_of_color_has_no_inverse(family: AugmentationContract) -> None:
    with pytest.raises(NotApplicable, match="no inverse"):
        inverse_value(family, 0.1)


@pytest.mark.parametrize("family", ALL, ids=kind)
@pytest.mark.parametrize("count", [2, 5, 6, 11])
def test_a_grid_is_equidistant_and_holds_the_identity_once(family: AugmentationContract, count: int) -> None:
    low, high = family.identity - family.bound, family.identity + family.bound / 3
    grid = levels(family, (low, high), count)
    assert grid.count(family.identity) == 1
    assert list(grid) == sorted(grid)
    assert (grid[0], grid[-1]) == (low, high)
    assert np.diff(grid).min() > 1e-12
    for value in np.linspace(low, high, count):
        assert min(abs(value - other) for other in grid) < 1e-12


def test_an_odd_symmetric_grid_hits_the_identity_exactly() -> None:
    assert levels(Rotate(), (-40, 40), 11)[5] == 0
    assert len(levels(Rotate(), (-40, 40), 11)) == 11
    assert levels(Scale(), (0.8, 1.2), 5)[2] == 1
    assert len(levels(Brightness(), (0, 0.3), 4)) == 4
