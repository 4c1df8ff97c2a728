"""The augmentations of AugMix and PixMix against Pillow, as the authors call it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import ModelNotTrainable
from auditcore.training.draws import generator
from auditcore.training.image_operations import (
    OPERATIONS,
    PLAIN,
    Operations,
    apply_operations,
    draw_operations,
    require_colors,
)

SIDE = 30
TONES = ("autocontrast", "equalize", "posterize", "solarize")
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
COLORS = ("saturation", "contrast", "brightness", "sharpness")


def photo(seed: int = 0) -> np.ndarray:
    """Smooth shapes with some noise in a part of the range, (H,W,3)."""
    random = np.random.RandomState(seed)
    row, column = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.stack([np.sin(5 * row + k) * np.cos(7 * column - k) for k in range(3)], axis=-1)
    return np.clip(128 + 70 * waves + random.normal(0, 4, waves.shape), 20, 235).round().astype(np.uint8)


def pillow(name: str, image: Image.Image, level: float, sign: float) -> Image.Image:
    """The authors' `augmentations.py`, with their random level and sign given; images of side `SIDE`."""

    def affine(*numbers: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, numbers, resample=Image.Resampling.BILINEAR)

    whole, slope, factor = sign * int(level * SIDE / 3 / 10), sign * level * 0.3 / 10, level * 1.8 / 10 + 0.1
    angle = sign * int(level * 30 / 10)
    results: dict[str, Callable[[], Image.Image]] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
        "rotate": lambda: image.rotate(angle, resample=Image.Resampling.BILINEAR),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        "shear_x": lambda: affine(1, slope, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, slope, 1, 0),
        "translate_x": lambda: affine(1, 0, whole, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, whole),
        "saturation": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }
    return results[name]()


def ours(name: str, image: np.ndarray, level: float, sign: float) -> np.ndarray:
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    result = apply_operations(pixels, Operations((name,), np.array([level]), np.array([sign])))
    return (result[0].permute(1, 2, 0) * 255).numpy()


@pytest.mark.parametrize("level", [0.1, 2.9, 7.3, 9.99])
@pytest.mark.parametrize("name", TONES)
def test_changes_of_tone_are_pillows(name: str, level: float) -> None:
    image = photo()
    expected = np.asarray(pillow(name, Image.fromarray(image), level, 1.0)).astype(float)
    # torchvision and Pillow divide in another order, which rounds some tones of autocontrast down to the one before
    most = 1 if name == "autocontrast" else 1e-3
    assert np.abs(ours(name, image, level, 1.0) - expected).max() <= most


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("level", [0.5, 2.9, 10.0])
@pytest.mark.parametrize("name", MOVES)
def test_moves_are_pillows_but_for_the_border(name: str, level: float, sign: float) -> None:
    image = photo()
    expected = np.asarray(pillow(name, Image.fromarray(image), level, sign)).astype(float)
    inner = np.asarray(pillow(name, Image.fromarray(np.full_like(image, 255)), level, sign))[..., 0] == 255
    # away from the border by one more pixel, since Pillow repeats the outermost one
    inner = np.pad(inner, 1)
    inner = inner[1:-1, 1:-1] & inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]
    assert inner.mean() > 0.3
    assert np.abs(ours(name, image, level, sign) - expected)[inner].max() <= 1.001
    outside = np.asarray(pillow(name, Image.fromarray(np.full_like(image, 255)), level, sign))[..., 0] == 0
    assert ours(name, image, level, sign)[outside].max(initial=0) <= 128


@pytest.mark.parametrize("level", [0.1, 4.0, 10.0])
@pytest.mark.parametrize("name", COLORS)
def test_changes_of_color_are_pillows(name: str, level: float) -> None:
    image = photo()
    expected = np.asarray(pillow(name, Image.fromarray(image), level, 1.0)).astype(float)
    # Pillow rounds the gray, the mean or the smoothed image before it blends, by up to one tone times the factor
    assert np.abs(ours(name, image, level, 1.0) - expected).max() <= 2.5


def test_each_image_gets_its_own_operation_level_and_sign() -> None:
    images = np.stack([photo(seed) for seed in range(len(OPERATIONS))])
    names, levels = tuple(OPERATIONS), np.linspace(1, 9, len(OPERATIONS))
    signs = np.where(np.arange(len(OPERATIONS)) % 2 == 0, 1.0, -1.0)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    together = apply_operations(pixels, Operations(names, levels, signs)).permute(0, 2, 3, 1) * 255
    for row, name in enumerate(names):
        alone = ours(name, images[row], levels[row], signs[row])
        assert np.allclose(together[row], alone, atol=1e-3), name
        assert not np.allclose(together[row], images[row], atol=2), name


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 5]), st.floats(0.1, 10))
def test_results_are_images_whatever_the_channels(seed: int, channels: int, severity: float) -> None:
    random = generator(seed, "test")
    pixels = torch.from_numpy(random.random((9, channels, 11, 7))).float()
    drawn = draw_operations(random, 9, severity=severity)
    result = apply_operations(pixels, drawn)
    assert result.shape == pixels.shape
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1
    assert bool((drawn.levels >= 0.1).all())
    assert bool((drawn.levels <= max(severity, 0.1)).all())


def test_operations_of_the_benchmark_of_corruptions_are_left_out_unless_asked_for() -> None:
    drawn = draw_operations(generator(0, "test"), 500, severity=3)
    everything = draw_operations(generator(0, "test"), 500, severity=3, all_operations=True)
    assert set(drawn.names) == set(PLAIN) == {*TONES, *MOVES}
    assert set(everything.names) == {*TONES, *MOVES, *COLORS}


def test_changes_of_color_need_gray_or_color() -> None:
    require_colors(InputShape(1, 8, 8), "augmix")
    with pytest.raises(ModelNotTrainable, match="this model has 4") as refusal:
        require_colors(InputShape(4, 8, 8), "augmix")
    assert refusal.value.field == "plan.method.all_operations"
