"""From an image to the model's square."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import LimitExceeded
from auditcore.images.preprocess import to_pixels

LIMITS = Limits()
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def convert(image: Image.Image, preprocessing: Preprocessing, limits: Limits = LIMITS) -> torch.Tensor:
    return to_pixels(image, preprocessing, limits=limits, field="images.0")


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(97, 61), (61, 97), (40, 33), (300, 200), (64, 64), (48, 49)])
def test_same_bits_as_torchvision(size: tuple[int, int], interpolation: str) -> None:
    preprocessing = Preprocessing(resize=64, crop=48, interpolation=interpolation)
    foreign = transforms.Compose(
        [
            transforms.Resize(64, transforms.InterpolationMode(interpolation), antialias=True),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
        ]
    )
    pixels = convert(noise(*size), preprocessing)
    assert pixels.shape == (3, 48, 48)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, foreign(noise(*size)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_same_bits_as_the_definition(interpolation: str) -> None:
    """Shorter side 61 -> 64, longer side int(64 * 97 / 61) = 101; then rows 8 to 56 and columns 26 to 74."""
    resized = noise(97, 61).resize((101, 64), PILLOW[interpolation])
    expected = np.asarray(resized)[8:56, 26:74].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    pixels = convert(noise(97, 61), Preprocessing(resize=64, crop=48, interpolation=interpolation))
    np.testing.assert_array_equal(pixels.numpy(), expected)


def test_an_image_at_the_models_size_is_never_resampled() -> None:
    image = noise(48, 48)
    pixels = convert(image, Preprocessing(resize=64, crop=48))
    expected = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(pixels.numpy(), expected)


def test_a_very_long_image_cannot_blow_up_in_resizing() -> None:
    with pytest.raises(LimitExceeded, match="resized"):
        convert(Image.new("RGB", (20_000, 1)), Preprocessing())
