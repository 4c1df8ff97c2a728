"""Resampling of a part of a map: replica, Pillow, maps that fit already, and parts that do not exist."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.resampling import resample

CASES = [
    ((0, 0, 20, 17), (9, 8)),
    ((0, 0, 20, 17), (31, 40)),
    ((2.5, 1.25, 18.75, 16), (7, 12)),
    ((4, 3, 12, 11), (8, 8)),
]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("part", "size"), CASES)
def test_equals_its_definition(part: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    maps = noise(2, 1, 20, 17)
    found = resample(maps, part, size)
    assert found.dtype == torch.float64
    for one, map_ in zip(found, maps, strict=True):
        expected = reference.resample(map_[0].double().numpy(), part, size)
        assert one[0].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("part", "size"), CASES)
def test_agrees_with_pillow(part: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    maps = noise(3, 1, 20, 17)
    top, left, bottom, right = part
    for one, map_ in zip(resample(maps, part, size), maps, strict=True):
        image = Image.fromarray(map_[0].numpy(), mode=None)
        expected = image.resize(size[::-1], Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        assert one[0].numpy() == pytest.approx(np.asarray(expected, np.float64), abs=2e-6)


def test_a_map_that_fits_is_not_touched_and_whole_pixels_are_cut() -> None:
    maps = noise(2, 3, 20, 17)
    assert torch.equal(resample(maps, (0, 0, 20, 17), (20, 17)), maps.double())
    assert torch.equal(resample(maps, (4, 3, 12, 11), (8, 8)), maps.double()[:, :, 4:12, 3:11])


def test_a_constant_stays_constant() -> None:
    assert resample(torch.full((1, 1, 20, 17), 3.0), (1.5, 0.5, 9, 9), (5, 23)).flatten().tolist() == pytest.approx(
        [3.0] * 115, abs=1e-12
    )


@pytest.mark.parametrize("part", [(0, 0, 21, 17), (-1, 0, 20, 17), (5, 0, 5, 17), (0, 9, 20, 8)])
def test_a_part_outside_the_map_is_an_error(part: tuple[float, float, float, float]) -> None:
    with pytest.raises(ShapeError, match="20 rows and 17 columns"):
        resample(noise(1, 1, 20, 17), part, (8, 8))
