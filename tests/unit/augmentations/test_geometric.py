"""Rotate, translate, scale and flip: replica, scipy, exact cases, properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.functional import hflip

import reference
from auditcore.augmentations import geometric

CHANGES = {
    "rotate": (geometric.rotate, reference.rotate, (-170.0, -33.0, 12.5, 90.0)),
    "translate": (geometric.translate, reference.translate, (-0.37, 0.1, 0.6)),
    "scale": (geometric.scale, reference.scale, (0.4, 0.93, 1.3, 4.0)),
}

SIZES = [(9, 9), (8, 13), (10, 6)]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def inverse_affine(name: str, value: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from target to source in (row, column), as scipy wants them."""
    center = (np.array(size) - 1) / 2
    match name:
        case "rotate":
            cos, sin = math.cos(math.radians(value)), math.sin(math.radians(value))
            matrix = np.array([[cos, sin], [-sin, cos]])
            return matrix, center - matrix @ center
        case "translate":
            return np.eye(2), -value * np.array(size)
        case _:
            return np.eye(2) / value, center - center / value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CHANGES)
def test_equals_its_definition(name: str, size: tuple[int, int]) -> None:
    change, expected, values = CHANGES[name]
    image = noise(1, 2, *size)
    for value in values:
        np.testing.assert_allclose(
            change(image, torch.tensor([value]))[0], expected(image[0].double().numpy(), value), atol=1e-5
        )


@pytest.mark.parametrize("size", [(224, 224), (60, 91)])
@pytest.mark.parametrize("name", CHANGES)
def test_agrees_with_scipy_up_to_the_border(name: str, size: tuple[int, int]) -> None:
    # `grid-constant` blends the last pixels with the fill as torch does; `constant` cuts them off
    change, _, values = CHANGES[name]
    image = noise(1, 1, *size)
    for value in values:
        matrix, offset = inverse_affine(name, value, size)
        expected = ndimage.affine_transform(
            image[0, 0].double().numpy(), matrix, offset, order=1, mode="grid-constant", cval=0
        )
        np.testing.assert_allclose(change(image, torch.tensor([value]))[0, 0], expected, atol=5e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0, 1])
def test_a_flip_mirrors_columns_and_nothing_else(size: tuple[int, int], value: int) -> None:
    image = noise(2, 3, *size)
    mixed = geometric.horizontal_flip(image, torch.tensor([float(value), 1.0]))
    np.testing.assert_array_equal(mixed[0], reference.horizontal_flip(image[0].numpy(), value))
    assert torch.equal(mixed[0], hflip(image)[0] if value else image[0])
    assert torch.equal(mixed[1], hflip(image)[1])


@pytest.mark.parametrize("size", [(7, 7), (8, 8)])
def test_quarter_turns_are_counter_clockwise(size: tuple[int, int]) -> None:
    image = noise(1, 3, *size)
    turned = geometric.rotate(image, torch.tensor([90.0]))
    torch.testing.assert_close(turned, torch.rot90(image, 1, dims=(2, 3)), atol=1e-5, rtol=0)


def test_translation_moves_right_and_down_by_a_fraction_of_each_side() -> None:
    image = noise(1, 1, 8, 12)
    moved = geometric.translate(image, torch.tensor([0.25]))
    torch.testing.assert_close(moved[:, :, 2:, 3:], image[:, :, :-2, :-3], atol=1e-5, rtol=0)
    assert moved[:, :, :2].abs().max() < 1e-5
    assert moved[:, :, :, :3].abs().max() < 1e-5


def test_a_factor_above_one_enlarges() -> None:
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 4, 6] = 1
    enlarged = geometric.scale(dot, torch.tensor([2.0]))
    assert enlarged[0, 0, 4, 8] == pytest.approx(1, abs=1e-5)
    assert enlarged.sum() > dot.sum()


@pytest.mark.parametrize("change", [geometric.rotate, geometric.translate])
def test_an_image_of_one_pixel_survives(change: Callable[[Tensor, Tensor], Tensor]) -> None:
    # align_corners=True would divide by zero here
    image = torch.tensor([[[[0.7]]]])
    torch.testing.assert_close(change(image, torch.zeros(1)), image)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    value=st.floats(-0.9, 0.9),
    name=st.sampled_from(sorted(CHANGES)),
    shift=st.floats(-2, 2),
)
def test_is_linear_and_does_not_depend_on_neighbors(value: float, name: str, shift: float) -> None:
    change = CHANGES[name][0]
    value = {"rotate": 180 * value, "translate": value, "scale": 1 + value}[name]
    batch = noise(2, 4, 9, 10)
    values = torch.tensor([value, CHANGES[name][2][0]])
    together = change(batch, values)
    assert together.dtype == torch.float32
    # every channel is warped alike and the other image plays no role
    alone = change(batch[:1, 3:], values[:1])
    torch.testing.assert_close(alone[0, 0], together[0, 3])
    torch.testing.assert_close(change(shift * batch, values), shift * together, atol=1e-5, rtol=1e-5)
