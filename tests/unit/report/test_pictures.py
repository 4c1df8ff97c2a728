"""Pictures of maps and photos, by hand and against a slow replica."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from auditcore.report.color_map import NEGATIVE, POSITIVE, color_of
from auditcore.report.pictures import (
    LOSSLESS_PX,
    PHOTO_PX,
    WEBP_PX,
    Detail,
    detail_of,
    draw_maps,
    draw_photo,
)

FINE = Detail(224, 50)


def decoded(webp: bytes, mode: str = "L") -> np.ndarray:
    with Image.open(io.BytesIO(webp)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert(mode))


def drawn(values: Tensor, detail: Detail = FINE) -> np.ndarray:
    """The gray picture of one map."""
    return decoded(draw_maps(values[None], detail)[0])


def replica(values: np.ndarray) -> np.ndarray:
    """One pixel at a time, from the description of the picture."""
    full = np.quantile(np.abs(values), 0.995)
    picture = np.empty(values.shape, dtype=np.uint8)
    for place in np.ndindex(values.shape):
        value = min(max(values[place] / full, -1), 1)
        picture[place] = math.floor(127.5 + 127.5 * value + 0.5)
    return picture


def test_small_maps_agree_with_the_replica() -> None:
    values = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    assert np.array_equal(drawn(torch.from_numpy(values)), replica(values.astype(np.float64)))


def test_large_maps_agree_with_the_replica_up_to_what_the_format_loses() -> None:
    rows, columns = torch.meshgrid(torch.linspace(-3, 3, 200), torch.linspace(-3, 3, 120), indexing="ij")
    smooth = (rows.square() - columns.square()) * torch.exp(-rows.square() - columns.square())
    lost = drawn(smooth).astype(int) - replica(smooth.numpy().astype(np.float64)).astype(int)
    assert np.abs(lost).mean() < 1.5
    assert np.abs(lost).max() < 12


def test_maps_stand_below_each_other_in_their_order() -> None:
    maps = torch.stack([torch.linspace(-1, 1, 80).view(8, 10) * sign for sign in (1.0, -1.0, 1.0)])
    data, flat = draw_maps(maps, FINE)
    picture = decoded(data)
    assert picture.shape == (24, 10)
    assert flat == (False, False, False)
    assert np.array_equal(picture[:8], picture[16:])
    assert np.array_equal(picture[:8], drawn(maps[0]))
    assert np.array_equal(picture[8:16], drawn(maps[1]))
    assert not np.array_equal(picture[:8], picture[8:16])


def test_scale_does_not_show_and_one_outlier_does_not_bleach_the_map() -> None:
    values = torch.linspace(-1, 1, 1024).view(32, 32)
    assert np.array_equal(drawn(values * 1e-20), drawn(values * 1e20))
    outlier = values.clone()
    outlier[16, 16] = 1e6
    assert (drawn(outlier) != drawn(values)).mean() < 0.5
    assert np.abs(drawn(outlier).astype(int) - drawn(values)).max() <= 128
    assert np.abs(drawn(outlier).astype(int) - drawn(values)).mean() < 2


def test_a_map_of_one_pixel_shows_it_though_its_quantile_is_zero() -> None:
    values = torch.zeros(32, 32)
    values[5, 6] = 0.1
    picture = drawn(values)
    assert picture[5, 6] == 255
    assert (np.delete(picture.ravel(), 5 * 32 + 6) == 128).all()


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
def test_a_map_without_a_scale_is_flat_and_drawn_as_zero(values: Tensor) -> None:
    proper = torch.linspace(-1, 1, 64).view(8, 8)
    data, flat = draw_maps(torch.stack([proper, values]), FINE)
    assert flat == (False, True)
    assert (decoded(data)[8:] == 128).all()
    assert np.array_equal(decoded(data)[:8], drawn(proper))


def test_the_photo_keeps_its_colors() -> None:
    pixels = torch.randint(0, 256, (3, 9, 7), generator=torch.Generator().manual_seed(0)) / 255
    expected = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(decoded(draw_photo(pixels), "RGB"), expected)
    assert np.array_equal(decoded(draw_photo(pixels.flip(0), "bgr"), "RGB"), expected)
    bands = decoded(draw_photo(pixels, "bands"), "RGB")
    assert (bands == bands[..., :1]).all()


def test_large_inputs_are_averaged_down() -> None:
    pixels = torch.ones(3, 2 * PHOTO_PX, PHOTO_PX)
    pixels[:, :PHOTO_PX] = 0
    assert decoded(draw_photo(pixels), "RGB").shape == (PHOTO_PX, PHOTO_PX // 2, 3)
    values = torch.zeros(400, 200)
    values[:200], values[200:] = -1.0, 1.0
    picture = drawn(values, Detail(100, 90))
    assert picture.shape == (100, 50)
    assert (picture[:45] < 10).all()
    assert (picture[55:] > 245).all()


def test_many_maps_fit_the_largest_file() -> None:
    maps = torch.linspace(-1, 1, 64).view(8, 8).repeat(300, 30, 30)
    height, width = decoded(draw_maps(maps, FINE)[0]).shape
    assert height <= WEBP_PX
    assert height == 300 * width


@pytest.mark.parametrize(("maps", "side_px"), [(1, 224), (120, 224), (121, 160), (300, 160), (301, 128), (10_000, 128)])
def test_the_more_maps_the_coarser(maps: int, side_px: int) -> None:
    assert detail_of(maps).side_px == side_px


@pytest.mark.parametrize(("maps", "most"), [(120, 21_000), (300, 9_500), (800, 5_500)])
def test_noise_fits_the_size_that_a_page_can_hold(maps: int, most: int) -> None:
    """The worst that can be drawn: the gradient of a photo has half the bytes, and most explainers have far less."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(8, 224, 224, generator=random)
    assert len(draw_maps(values, detail_of(maps))[0]) / 8 < most


def test_the_exact_size_is_the_longest_that_is_exact() -> None:
    random = torch.Generator().manual_seed(0)
    for side, exact in ((LOSSLESS_PX, True), (LOSSLESS_PX + 1, False)):
        values = torch.randn(side, side, generator=random)
        assert np.array_equal(drawn(values), replica(values.numpy().astype(np.float64))) is exact


def test_the_color_map_is_centered_and_linear() -> None:
    assert color_of(0.0) == (255, 255, 255)
    assert (color_of(-1.0), color_of(1.0)) == (NEGATIVE, POSITIVE)
    assert color_of(0.5) == tuple(round((255 + end) / 2) for end in POSITIVE)
