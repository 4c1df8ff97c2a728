"""Every augmentation has an implementation; identity, masks, inverses and grids."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from skimage import data

from auditcore.augmentations.registry import AUGMENTATIONS, augment, inverse_value, unwarp, valid_mask, warp
from auditcore.contracts.augmentations import (
    Augmentation,
    AugmentationContract,
    Brightness,
    Composition,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    Gmic,
    HorizontalFlip,
    Hue,
    JpegQuality,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.errors import NotApplicable, ShapeError
from auditcore.metrics.similarity import pearson
from auditcore.random_numbers.streams import Streams

WARPING = [Rotate(), Translate(), Scale()]
TURN_AND_BLUR = Composition(first=Rotate(), second=GaussianBlur())
EQUIVARIANT = [*WARPING, HorizontalFlip(), TURN_AND_BLUR, Composition(first=Brightness(), second=HorizontalFlip())]
INVARIANT = [
    Brightness(),
    Hue(),
    Saturation(),
    Contrast(),
    GaussianNoise(),
    GaussianBlur(),
    JpegQuality(),
    Gmic(filter="sharpen"),
    Composition(first=GaussianNoise(), second=Hue()),
]
ALL = [*INVARIANT, *EQUIVARIANT]


def kind(augmentation: AugmentationContract) -> str:
    return augmentation.label


def half_way(augmentation: AugmentationContract) -> float:
    """A value in the middle of a side, or at its end where nothing else exists."""
    low, high = augmentation.extent
    end = low if high == augmentation.identity else high
    return float(end) if augmentation.only_ends else (augmentation.identity + end) / 2


def streams(count: int, seed: int = 5) -> Streams:
    return Streams(seed, tuple(f"image {position}" for position in range(count)))


def photos(count: int) -> torch.Tensor:
    cat = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255
    return torch.cat([cat[..., 40 * i : 40 * i + 51, 60 * i : 60 * i + 43] for i in range(count)])


def test_every_contract_has_an_implementation() -> None:
    assert set(AUGMENTATIONS) == set(get_args(get_args(Augmentation)[0]))


@pytest.mark.parametrize("augmentation", ALL, ids=kind)
def test_the_identity_returns_the_image_bit_for_bit(augmentation: AugmentationContract) -> None:
    photo = torch.from_numpy(data.chelsea()[:101, :90]).permute(2, 0, 1)[None].float() / 255
    batch = photo.repeat(2, 1, 1, 1)
    changed = augment(augmentation, batch, torch.tensor([augmentation.identity, half_way(augmentation)]), streams(2))
    assert torch.equal(changed[0], photo[0])
    assert not torch.equal(changed[1], photo[0])


@pytest.mark.parametrize("augmentation", ALL, ids=kind)
def test_a_copy_does_not_depend_on_the_others_of_its_batch(augmentation: AugmentationContract) -> None:
    images, random = photos(3), streams(3)
    low, high = augmentation.extent
    values = torch.tensor([float(low), half_way(augmentation), float(high)])
    together = augment(augmentation, images, values, random)
    assert together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1
    for position in range(3):
        one = slice(position, position + 1)
        alone = augment(augmentation, images[one], values[one], random.take([position]))
        torch.testing.assert_close(alone[0], together[position], atol=2e-6, rtol=0)
    assert torch.equal(augment(augmentation, images, values, streams(3)), together)


@pytest.mark.parametrize("augmentation", ALL, ids=kind)
def test_a_copy_shares_no_memory_with_its_image(augmentation: AugmentationContract) -> None:
    # aliased tensors make every step of a curve the last one
    images, value = photos(1), torch.tensor([half_way(augmentation)])
    before = images.clone()
    for values in (value, torch.tensor([augmentation.identity])):
        augment(augmentation, images, values, streams(1)).fill_(7)
        assert torch.equal(images, before)
    if augmentation.equivariant:
        warp(augmentation, images, value).fill_(7)
        assert torch.equal(images, before)


@pytest.mark.parametrize("augmentation", ALL, ids=kind)
def test_refuses_values_that_do_not_fit_the_images(augmentation: AugmentationContract) -> None:
    with pytest.raises(ShapeError) as caught:
        augment(augmentation, torch.rand(3, 3, 8, 8), torch.zeros(2), streams(3))
    assert caught.value.actual == (2,)


@pytest.mark.parametrize("augmentation", EQUIVARIANT, ids=kind)
def test_maps_of_any_channels_are_warped_like_the_image(augmentation: AugmentationContract) -> None:
    value = torch.tensor([half_way(augmentation)])
    image = torch.rand(1, 3, 20, 24)
    luminance = image.mean(dim=1, keepdim=True)
    torch.testing.assert_close(
        warp(augmentation, luminance, value), warp(augmentation, image, value).mean(1, keepdim=True)
    )


@pytest.mark.parametrize("augmentation", WARPING, ids=kind)
def test_a_simple_augmentation_moves_maps_as_it_moves_images(augmentation: AugmentationContract) -> None:
    value, image = torch.tensor([half_way(augmentation)]), torch.rand(1, 3, 20, 24)
    assert torch.equal(warp(augmentation, image, value), augment(augmentation, image, value))


@pytest.mark.parametrize("augmentation", INVARIANT, ids=kind)
def test_maps_stay_where_a_change_of_color_leaves_pixels(augmentation: AugmentationContract) -> None:
    value, maps = torch.tensor([half_way(augmentation)]), torch.randn(1, 3, 20, 24)
    assert torch.equal(warp(augmentation, maps, value), maps)
    assert torch.equal(unwarp(augmentation, maps, value), maps)


@pytest.mark.parametrize("augmentation", INVARIANT, ids=kind)
def test_all_pixels_are_valid_after_a_change_of_color(augmentation: AugmentationContract) -> None:
    mask = valid_mask(augmentation, torch.tensor([*augmentation.extent, half_way(augmentation)]), (5, 7))
    assert mask.shape == (3, 1, 5, 7)
    assert mask.all()


@pytest.mark.parametrize("augmentation", [*WARPING, TURN_AND_BLUR], ids=kind)
@pytest.mark.parametrize("size", [(17, 17), (224, 160)])
def test_valid_pixels_come_entirely_from_inside(augmentation: AugmentationContract, size: tuple[int, int]) -> None:
    values = [
        augmentation.identity - augmentation.bound,
        augmentation.identity,
        augmentation.identity + augmentation.bound,
    ]
    mask = valid_mask(augmentation, torch.tensor(values), size)
    assert mask[1].all()
    # an image of ones stays 1 exactly where no fill is mixed in
    ones = torch.ones(3, 1, *size)
    warped = warp(augmentation, ones, torch.tensor(values))
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


@pytest.mark.parametrize("augmentation", EQUIVARIANT, ids=kind)
def test_the_inverse_undoes_the_change(augmentation: AugmentationContract) -> None:
    value = torch.tensor([half_way(augmentation)])
    rows = torch.linspace(0, 3, 65)
    smooth = (torch.sin(rows)[:, None] * torch.cos(rows)[None]).view(1, 1, 65, 65)
    forth = warp(augmentation, smooth, value)
    back = unwarp(augmentation, forth, value)
    inside = slice(20, 45)
    assert (forth - smooth)[..., inside, inside].abs().max() > 0.02
    torch.testing.assert_close(back[..., inside, inside], smooth[..., inside, inside], atol=5e-3, rtol=0)


@pytest.mark.parametrize("augmentation", INVARIANT, ids=kind)
def test_a_change_of_color_has_no_inverse(augmentation: AugmentationContract) -> None:
    with pytest.raises(NotApplicable, match="no inverse"):
        inverse_value(augmentation, 0.1)


def test_a_flip_is_its_own_inverse_and_loses_no_pixel() -> None:
    maps, value = torch.randn(1, 2, 9, 14), torch.ones(1)
    assert torch.equal(warp(HorizontalFlip(), maps, value), maps.flip(-1))
    assert torch.equal(unwarp(HorizontalFlip(), maps.flip(-1), value), maps)
    assert valid_mask(HorizontalFlip(), value, (9, 14)).all()
    assert inverse_value(HorizontalFlip(), 1.0) == 1


def test_a_augmentation_with_one_side_stays_in_its_domain() -> None:
    assert GaussianBlur().around(1.2) == (0, 1.2)
    assert JpegQuality().around(27) == (73, 100)
    assert Brightness().around(0.2) == (-0.2, 0.2)
    assert Scale().around(0.1) == pytest.approx((0.9, 1.1))
    assert Composition(first=GaussianNoise(), second=GaussianBlur(), interval="auto").around(0.4) == (0, 0.4)
