"""Brightness, hue, saturation and contrast: replica, scikit-image and torchvision, properties, errors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color, data
from torch import Tensor
from torchvision.transforms.functional import adjust_contrast

import reference
from auditcore.augmentations import photometric
from auditcore.augmentations.registry import applicability, augment
from auditcore.contracts.augmentations import (
    AugmentationContract,
    Brightness,
    Composition,
    Contrast,
    Hue,
    JpegQuality,
    Rotate,
    Saturation,
)
from auditcore.errors import ShapeError

CHANGES = {
    "brightness": (photometric.brightness, reference.brightness, (-0.6, -0.2, 0.15, 0.7)),
    "hue": (photometric.hue, reference.hue, (-300.0, -75.0, 33.0, 141.0, 360.0)),
    "saturation": (photometric.saturation, reference.saturation, (-0.9, -0.3, 0.2, 1.0)),
    "contrast": (photometric.contrast, reference.contrast, (0.0, 0.6, 1.0, 1.5, 10.0)),
}

SPECIAL_COLORS = (
    (0, 0, 0),
    (1, 1, 1),
    (0.5, 0.5, 0.5),
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (1, 1, 0),
    (0, 1, 1),
    (1, 0, 1),
    (0.5, 0.5, 0.2),
    (1e-42, 0, 0),
    (0.3, 0.2, 0.2),
)
"""Gray, primary and secondary colors, where two channels tie or chroma vanishes, and a denormal red."""


def colors(count: int = 60) -> Tensor:
    random = torch.rand(1, 3, 1, count, generator=torch.Generator().manual_seed(1))
    return torch.cat([torch.tensor(SPECIAL_COLORS).T.reshape(1, 3, 1, -1), random], dim=3)


@pytest.mark.parametrize("name", CHANGES)
def test_equals_its_definition(name: str) -> None:
    change, expected, values = CHANGES[name]
    image = colors()
    for value in values:
        changed = change(image, torch.tensor([value]))
        np.testing.assert_allclose(changed[0], expected(image[0].numpy(), value), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "component", "value"), [("brightness", 2, 0.2), ("saturation", 1, -0.25), ("hue", 0, 90.0)]
)
def test_agrees_with_scikit_image_on_a_photo(name: str, component: int, value: float) -> None:
    photo = data.chelsea()[100:148, 100:164].astype(np.float64) / 255
    expected = color.rgb2hsv(photo)
    if component == 0:
        expected[..., 0] = (expected[..., 0] + value / 360) % 1
    else:
        expected[..., component] = np.clip(expected[..., component] + value, 0, 1)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    changed = CHANGES[name][0](image, torch.tensor([value]))
    np.testing.assert_allclose(changed[0].permute(1, 2, 0), color.hsv2rgb(expected), atol=2e-6)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.7])
def test_contrast_agrees_with_torchvision(factor: float) -> None:
    images = torch.rand(2, 3, 17, 12, generator=torch.Generator().manual_seed(4))
    changed = photometric.contrast(images, torch.full((2,), factor))
    torch.testing.assert_close(changed, adjust_contrast(images, factor), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [-0.3, 0.4])
def test_brightness_keeps_hue_and_saturation(value: float) -> None:
    image = 0.3 + 0.3 * colors()[:, :, :, 12:]
    before = color.rgb2hsv(image[0].permute(1, 2, 0).double().numpy())
    changed = photometric.brightness(image, torch.tensor([value]))
    after = color.rgb2hsv(changed[0].permute(1, 2, 0).double().numpy())
    np.testing.assert_allclose(after[..., :2], before[..., :2], atol=1e-5)
    np.testing.assert_allclose(after[..., 2], np.clip(before[..., 2] + value, 0, 1), atol=1e-6)


def test_a_gray_pixel_turns_red_when_saturated() -> None:
    gray = torch.full((1, 3, 1, 1), 0.5)
    changed = photometric.saturation(gray, torch.tensor([0.4]))
    torch.testing.assert_close(changed.flatten(), torch.tensor([0.5, 0.3, 0.3]))


def test_a_hue_of_120_degrees_turns_red_into_green() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(photometric.hue(red, torch.tensor([120.0])).flatten(), torch.tensor([0.0, 1.0, 0.0]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    pixels=st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12),
    values=st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)),
    augmentation=st.sampled_from([Brightness(), Hue(), Saturation()]),
)
def test_stays_in_range_and_does_not_depend_on_neighbors(
    pixels: list[float], values: tuple[float, float], augmentation: Brightness | Hue | Saturation
) -> None:
    batch = torch.tensor(pixels).view(2, 3, 1, 2)
    factor = 360 if isinstance(augmentation, Hue) else 1
    settings_ = factor * torch.tensor(values)
    together = augment(augmentation, batch, settings_)
    assert together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1
    for position in (0, 1):
        alone = augment(augmentation, batch[position : position + 1], settings_[position : position + 1])
        assert torch.equal(alone[0], together[position])


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_refuses_what_is_not_rgb(name: str) -> None:
    change = partial(CHANGES[name][0], torch.rand(2, 1, 4, 4), torch.zeros(2))
    with pytest.raises(ShapeError, match="3 channels") as caught:
        change()
    assert caught.value.actual == (2, 1, 4, 4)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_brightness_of_any_channels_moves_their_maximum(channels: int) -> None:
    images = torch.rand(3, channels, 4, 5, generator=torch.Generator().manual_seed(1))
    values = torch.tensor([-0.2, 0.1, 0.7])
    found = augment(Brightness(), images, values, colors="gray" if channels == 1 else "bands")
    for image, value, changed in zip(images.double().numpy(), values.tolist(), found.numpy(), strict=True):
        largest = image.max(axis=0)
        np.testing.assert_allclose(changed, image / largest * (largest + value).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_contrast_of_any_channels_is_about_their_mean(channels: int) -> None:
    images = torch.rand(2, channels, 4, 5, generator=torch.Generator().manual_seed(1))
    found = augment(Contrast(), images, torch.tensor([0.5, 1.6]), colors="bands")
    for image, factor, changed in zip(images.double().numpy(), (0.5, 1.6), found.numpy(), strict=True):
        np.testing.assert_allclose(changed, (image.mean() + factor * (image - image.mean())).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("augmentation", [Brightness(), Hue(), Saturation(), Contrast(), JpegQuality()])
def test_blue_green_and_red_change_as_red_green_and_blue_do(augmentation: AugmentationContract) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    value = torch.full((2,), {"hue": 40.0, "jpeg_quality": 30.0, "contrast": 1.4}.get(augmentation.kind, 0.2))
    assert torch.equal(
        augment(augmentation, images.flip(1), value, colors="bgr").flip(1), augment(augmentation, images, value)
    )


def test_changes_of_color_do_not_apply_without_colors() -> None:
    for augmentation in (Hue(), Saturation()):
        assert "the model sees gray" in str(applicability(augmentation, "gray"))
        assert "not red, green and blue" in str(applicability(augmentation, "bands"))
        assert applicability(augmentation, "bgr") is None
    assert applicability(JpegQuality(), "gray") is None
    assert "jpeg_quality" in str(applicability(JpegQuality(), "bands"))
    both = Composition(first=Rotate(), second=Hue())
    assert "hue" in str(applicability(both, "gray"))
    assert applicability(Brightness(), "bands") is None
