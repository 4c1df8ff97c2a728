"""Colors of maps, by hand and against a slow replica."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from auditcore.report.color_map import NEGATIVE, POSITIVE, ZERO, color_of
from auditcore.report.pictures import GRAYS, MARK, OPACITY, SIDE_PX, draw_map, draw_photo

BLACK = torch.zeros(3, 8, 8)


def decoded(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def replica(values: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """One pixel at a time, from the description of the picture."""
    full = np.quantile(np.abs(values), 0.995)
    height, width = values.shape
    picture = np.empty((height, width, 3), dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            value = min(max(values[row, column] / full, -1), 1)
            shade = round(value * 10) / 10
            red, green, blue = photo[:, row, column]
            gray = round((0.299 * red + 0.587 * green + 0.114 * blue) * (GRAYS - 1)) / (GRAYS - 1) * 255
            for channel in range(3):
                end = (178, 24, 43)[channel] if shade > 0 else (33, 102, 172)[channel]
                color = round(255 + (end - 255) * abs(shade))
                picture[row, column, channel] = round(OPACITY * color + (1 - OPACITY) * gray)
    return picture


def test_pictures_agree_with_the_replica() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((20, 30)).astype(np.float32)
    photo = random.random((3, 20, 30)).astype(np.float32)
    drawn = decoded(draw_map(torch.from_numpy(values), torch.from_numpy(photo)))
    assert np.array_equal(drawn, replica(values.astype(np.float64), photo.astype(np.float64)))


def test_negative_is_blue_zero_white_and_positive_red() -> None:
    values = torch.zeros(8, 8)
    values[:, 0], values[:, 7] = -2.0, 2.0
    drawn = decoded(draw_map(values, torch.ones(3, 8, 8)))
    over_white = [tuple(round(OPACITY * c + (1 - OPACITY) * 255) for c in end) for end in (NEGATIVE, ZERO, POSITIVE)]
    assert [tuple(drawn[3, column]) for column in (0, 4, 7)] == over_white


def test_the_color_map_is_centered_and_linear() -> None:
    assert color_of(0.0) == (255, 255, 255)
    assert (color_of(-1.0), color_of(1.0)) == (NEGATIVE, POSITIVE)
    assert color_of(0.5) == tuple(round((255 + end) / 2) for end in POSITIVE)


def test_scale_does_not_show_and_one_outlier_does_not_bleach_the_map() -> None:
    values = torch.linspace(-1, 1, 1024).view(32, 32)
    photo = torch.zeros(3, 32, 32)
    assert draw_map(values * 1e-20, photo) == draw_map(values * 1e20, photo)
    outlier = values.clone()
    outlier[16, 16] = 1e6
    assert (decoded(draw_map(outlier, photo)) != decoded(draw_map(values, photo))).any(axis=2).mean() < 0.05


def test_a_map_of_one_pixel_shows_it_though_its_quantile_is_zero() -> None:
    values = torch.zeros(32, 32)
    values[5, 6] = 0.1
    drawn = decoded(draw_map(values, torch.zeros(3, 32, 32)))
    assert tuple(drawn[5, 6]) == tuple(round(OPACITY * part) for part in POSITIVE)
    assert tuple(drawn[0, 0]) == tuple(round(OPACITY * part) for part in ZERO)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


def test_the_photo_shows_through() -> None:
    values = torch.linspace(-1, 1, 64).view(8, 8)
    assert (decoded(draw_map(values, torch.ones(3, 8, 8))) > decoded(draw_map(values, BLACK))).all()


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(8, 8),
        torch.full((8, 8), 3.0),
        torch.full((8, 8), torch.nan),
        torch.zeros(8, 8).index_put((torch.tensor(2), torch.tensor(2)), torch.tensor(torch.inf)),
    ],
    ids=["zero", "constant", "nan", "infinite"],
)
def test_a_map_without_a_scale_is_crossed_out(values: Tensor) -> None:
    drawn = decoded(draw_map(values, BLACK))
    crossed = (drawn == MARK).all(axis=2)
    assert crossed.diagonal().all()
    assert np.fliplr(crossed).diagonal().all()
    assert crossed.sum() < 32


def test_a_proper_map_is_never_crossed_out() -> None:
    drawn = decoded(draw_map(torch.linspace(-1, 1, 64).view(8, 8), BLACK))
    assert not (drawn == MARK).all(axis=2).any()


def test_the_photo_keeps_its_colors() -> None:
    pixels = torch.randint(0, 256, (3, 9, 7), generator=torch.Generator().manual_seed(0)) / 255
    assert np.array_equal(decoded(draw_photo(pixels)), (pixels * 255).round().byte().permute(1, 2, 0).numpy())


def test_pictures_are_small_and_large_inputs_are_averaged_down() -> None:
    pixels = torch.ones(3, 2 * SIDE_PX, SIDE_PX)
    values = torch.zeros(2 * SIDE_PX, SIDE_PX)
    values[:SIDE_PX], values[SIDE_PX:] = -1.0, 1.0
    drawn = decoded(draw_map(values, pixels))
    assert drawn.shape == decoded(draw_photo(pixels)).shape == (SIDE_PX, SIDE_PX // 2, 3)
    assert tuple(drawn[0, 0]) != tuple(drawn[-1, 0])
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


def test_noise_fits_the_size_that_a_page_can_carry() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(SIDE_PX, SIDE_PX, generator=random)
    pixels = torch.rand(3, SIDE_PX, SIDE_PX, generator=random)
    assert len(draw_map(values, pixels)) < 56 * 1024
