"""Structural similarity: replica, scikit-image, the pitfalls of its data range and of fill, undefined cases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from skimage.metrics import structural_similarity as skimage_similarity
from torch import Tensor

import reference
from auditcore.augmentations.registry import valid_mask, warp
from auditcore.contracts.augmentations import Rotate
from auditcore.errors import ShapeError
from auditcore.metrics.similarity import pearson
from auditcore.metrics.structural_similarity import structural_similarity


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(images: int = 3, channels: int = 3, size: tuple[int, int] = (20, 17)) -> tuple[Tensor, Tensor]:
    a = noise(images, channels, *size)
    return a, 0.7 * a + 0.5 * noise(images, channels, *size, seed=1)


@pytest.mark.parametrize("window", [3, 11])
def test_equals_its_definition(window: int) -> None:
    a, b = pair(2)
    ranges = torch.tensor([0.5, 4.0])
    found = structural_similarity(a, b, ranges, window=window)
    expected = [
        reference.structural_similarity(x.double().numpy(), y.double().numpy(), float(full), window)
        for x, y, full in zip(a, b, ranges, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("window", [3, 7, 11])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_agrees_with_scikit_image(window: int, scale: float) -> None:
    a, b = (scale * maps for maps in pair(3, 3, (40, 31)))
    ranges = scale * torch.tensor([0.5, 2.0, 5.0], dtype=torch.float64)
    found = structural_similarity(a, b, ranges, window=window)
    expected = [
        skimage_similarity(
            x.double().numpy(), y.double().numpy(), win_size=window, channel_axis=0, data_range=float(full)
        )
        for x, y, full in zip(a, b, ranges, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_only_windows_entirely_inside_the_mask_count() -> None:
    a, b = pair(2)
    mask = torch.ones(2, 1, 20, 17, dtype=torch.bool)
    mask[0, :, :6] = False
    mask[1, :, 9, 8] = False
    a[0, :, :6] = torch.nan
    ranges = torch.full((2,), 3.0)
    found = structural_similarity(a, b, ranges, window=5, mask=mask)
    expected = [
        reference.structural_similarity(x.double().numpy(), y.double().numpy(), 3.0, 5, own[0].numpy())
        for x, y, own in zip(a, b, mask, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    cut = skimage_similarity(
        a[0, :, 6:].double().numpy(), b[0, :, 6:].double().numpy(), win_size=5, channel_axis=0, data_range=3.0
    )
    assert found[0].item() == pytest.approx(cut, rel=1e-9)
    together = structural_similarity(b, b, ranges, window=5, mask=mask[:1])
    assert together.tolist() == pytest.approx([1, 1])


def test_a_value_does_not_depend_on_the_rest_of_the_batch() -> None:
    a, b = pair(7)
    ranges = torch.arange(1.0, 8.0)
    whole = structural_similarity(a, b, ranges)
    for size in (1, 3):
        parts = zip(a.split(size), b.split(size), ranges.split(size), strict=True)
        torch.testing.assert_close(
            torch.cat([structural_similarity(*part) for part in parts]), whole, rtol=1e-12, atol=1e-14
        )


def test_a_map_equals_itself_and_order_does_not_matter() -> None:
    a, b = pair()
    ranges = torch.full((3,), 2.0)
    assert structural_similarity(a, a.clone(), ranges).tolist() == pytest.approx([1, 1, 1])
    torch.testing.assert_close(structural_similarity(a, b, ranges), structural_similarity(b, a, ranges))


def test_unrelated_small_maps_are_unlike_in_their_own_range_and_alike_in_a_range_of_one() -> None:
    # peers: a data range of 1 gives 0.998 to unrelated maps of scale 1e-3
    a, b = 1e-3 * noise(1, 3, 96, 96), 1e-3 * noise(1, 3, 96, 96, seed=1)
    largest = a.abs().amax()[None]
    assert structural_similarity(a, b, torch.ones(1)).item() > 0.99
    assert abs(structural_similarity(a, b, largest).item()) < 0.05


@pytest.mark.parametrize("degrees", [-30.0, 15.0, 30.0])
def test_a_border_of_fill_makes_unrelated_maps_alike(degrees: float) -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.rand(1, 1, 96, 96, generator=generator) for _ in range(2))
    value = torch.tensor([degrees])
    moved, other = warp(Rotate(), first, value), warp(Rotate(), second, value)
    mask, everything = valid_mask(Rotate(), value, (96, 96)), torch.ones(1, 1, 96, 96, dtype=torch.bool)
    assert pearson(moved, other, everything).item() > 0.3
    assert pearson(moved, other, mask).abs().item() < 0.05
    included = structural_similarity(moved, other, torch.ones(1), mask=everything).item()
    excluded = structural_similarity(moved, other, torch.ones(1), mask=mask).item()
    assert included > excluded + 0.05
    assert abs(excluded) < 0.1


def undefined_range(a: Tensor, b: Tensor) -> Tensor:
    return structural_similarity(a, b, torch.tensor([0.0, -1.0, torch.nan]))


def empty_mask(a: Tensor, b: Tensor) -> Tensor:
    return structural_similarity(a, b, torch.ones(3), mask=torch.zeros(3, 1, 20, 17, dtype=torch.bool))


def wide_window(a: Tensor, b: Tensor) -> Tensor:
    return structural_similarity(a, b, torch.ones(3), window=19)


def not_finite(a: Tensor, b: Tensor) -> Tensor:
    return structural_similarity(a / 0, b, torch.ones(3))


@pytest.mark.parametrize("compare", [undefined_range, empty_mask, wide_window, not_finite])
def test_undefined_values_are_nan(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert compare(*pair()).isnan().all()


def test_refuses_shapes_that_do_not_fit() -> None:
    a, b = pair()
    with pytest.raises(ShapeError, match=r"\(3, 3, 20, 17\)"):
        structural_similarity(a, b[:, :1], torch.ones(3))
    with pytest.raises(ShapeError, match="one data range for each of 3 images"):
        structural_similarity(a, b, torch.ones(1))
    with pytest.raises(ShapeError, match="a mask of shape"):
        structural_similarity(a, b, torch.ones(3), mask=torch.ones(3, 3, 20, 17, dtype=torch.bool))
    with pytest.raises(ShapeError, match="odd side"):
        structural_similarity(a, b, torch.ones(3), window=4)
