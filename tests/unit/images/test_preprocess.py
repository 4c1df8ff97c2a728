"""From an image to the model's input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing, Size
from auditcore.errors import LimitExceeded
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import DecodedImage

LIMITS = Limits()
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def convert(image: Image.Image, preprocessing: Preprocessing, limits: Limits = LIMITS) -> torch.Tensor:
    decoded = DecodedImage((image,), (0.0, 255.0))
    return to_pixels(decoded, preprocessing, limits=limits, field="images.0")


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


def test_an_image_at_the_models_size_is_resampled_unless_it_is_declared_final() -> None:
    image = noise(48, 48)
    foreign = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(48), transforms.ToTensor()])
    assert torch.equal(convert(image, Preprocessing(resize=64, crop=48)), foreign(image))
    kept = convert(image, Preprocessing(resize=64, crop=48, keep_final=True))
    assert torch.equal(kept, transforms.functional.to_tensor(image))
    # one pixel more, and it is an image like any other
    larger = noise(48, 49)
    assert torch.equal(convert(larger, Preprocessing(resize=64, crop=48, keep_final=True)), foreign(larger))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_without_antialiasing_it_is_what_torchvision_does_with_tensors(interpolation: str) -> None:
    image = noise(97, 61)
    foreign = transforms.Compose(
        [
            transforms.PILToTensor(),
            transforms.Resize(40, transforms.InterpolationMode(interpolation), antialias=False),
            transforms.CenterCrop(32),
            transforms.ConvertImageDtype(torch.float32),
        ]
    )
    asked = Preprocessing(resize=40, crop=32, interpolation=interpolation, antialias=False)
    torch.testing.assert_close(convert(image, asked), foreign(image), rtol=0, atol=1e-6)
    assert not torch.equal(convert(image, asked), convert(image, asked.model_copy(update={"antialias": True})))


def test_a_wide_input_is_squashed_or_cut() -> None:
    image = noise(100, 80)
    squashed = convert(image, Preprocessing(resize=Size(height=24, width=96), fit="squash", crop=None))
    foreign = transforms.Compose([transforms.Resize((24, 96)), transforms.ToTensor()])
    assert torch.equal(squashed, foreign(image))
    cut = convert(image, Preprocessing(resize=Size(height=24, width=96), fit="cover", crop=None))
    assert cut.shape == (3, 24, 96)
    # 96 / 100 covers: 96 x 77, of which rows 26 to 50 stay
    expected = transforms.functional.to_tensor(image.resize((96, 77), Image.Resampling.BILINEAR))[:, 26:50]
    assert torch.equal(cut, expected)


def test_a_letterbox_shows_the_whole_image_on_its_color() -> None:
    asked = Preprocessing(resize=32, fit="letterbox", crop=None, pad=(0.2, 0.4, 0.6))
    pixels = convert(noise(64, 32), asked)
    inside = transforms.functional.to_tensor(noise(64, 32).resize((32, 16), Image.Resampling.BILINEAR))
    assert torch.equal(pixels[:, 8:24], inside)
    for rows in (pixels[:, :8], pixels[:, 24:]):
        torch.testing.assert_close(rows, torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand_as(rows))


def test_a_crop_larger_than_the_image_is_padded_as_torchvision_pads_it() -> None:
    image = noise(30, 21)
    foreign = transforms.Compose([transforms.CenterCrop(40), transforms.ToTensor()])
    assert torch.equal(convert(image, Preprocessing(resize=None, crop=40)), foreign(image))
    longer = Preprocessing(resize=20, fit="longer", crop=32, pad=1.0)
    pixels = convert(image, longer)
    assert torch.equal(
        pixels[:, 9:23, 6:26], transforms.functional.to_tensor(image.resize((20, 14), Image.Resampling.BILINEAR))
    )
    assert float(pixels[:, :9].min()) == float(pixels[:, :, 26:].min()) == 1.0


def test_a_very_long_image_cannot_blow_up_in_resizing() -> None:
    with pytest.raises(LimitExceeded, match="resized"):
        convert(Image.new("RGB", (20_000, 1)), Preprocessing())
