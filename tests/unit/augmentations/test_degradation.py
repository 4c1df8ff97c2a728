"""Noise, blur and JPEG: replica, scipy and torchvision, properties, errors."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms import functional

import reference
from auditcore.augmentations import degradation
from auditcore.augmentations.registry import augment
from auditcore.contracts.augmentations import GaussianNoise
from auditcore.errors import ShapeError
from auditcore.random_numbers.streams import Streams

SIZES = [(9, 14), (8, 8), (1, 5)]


def photo(height: int, width: int) -> Tensor:
    return torch.from_numpy(data.chelsea()[60 : 60 + height, 100 : 100 + width]).permute(2, 0, 1)[None].float() / 255


def noise(height: int, width: int) -> Tensor:
    """Colors without any smoothness, on which the last weight of a kernel shows."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(6))


def streams(*digests: str) -> Streams:
    return Streams(11, digests)


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.01, 0.2, 1.0])
def test_noise_equals_its_definition(std: float) -> None:
    images = photo(9, 14).repeat(2, 1, 1, 1)
    found = degradation.gaussian_noise(images, torch.tensor([std, std / 2]), streams("a", "b"))
    for position, (digest, own) in enumerate((("a", std), ("b", std / 2))):
        field = streams(digest).normal((3, 9, 14), "augmentation/gaussian_noise")[0].double().numpy()
        expected = reference.gaussian_noise(images[position].double().numpy(), own, field)
        np.testing.assert_allclose(found[position], expected, atol=1e-6)


def test_the_noise_of_a_gray_image_has_the_requested_std_in_every_channel() -> None:
    gray = torch.full((1, 3, 120, 120), 0.5)
    noise = (degradation.gaussian_noise(gray, torch.tensor([0.1]), streams("a")) - gray)[0].flatten(1)
    assert noise.std(dim=1).tolist() == pytest.approx([0.1] * 3, rel=0.03)
    assert noise.mean(dim=1).abs().max() < 0.005
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.05


def test_copies_of_one_image_get_one_field_scaled_and_other_images_another() -> None:
    gray = torch.full((3, 3, 6, 7), 0.5)
    noise = degradation.gaussian_noise(gray, torch.tensor([0.02, 0.04, 0.02]), streams("a", "a", "b")) - gray
    torch.testing.assert_close(noise[1], 2 * noise[0], atol=1e-6, rtol=0)
    assert (noise[2] - noise[0]).abs().max() > 0.01
    again = degradation.gaussian_noise(gray[:1], torch.tensor([0.02]), streams("a")) - gray[:1]
    assert torch.equal(again[0], noise[0])
    assert not torch.equal(degradation.gaussian_noise(gray[:1], torch.tensor([0.02]), Streams(12, ("a",))), again)


def test_noise_needs_the_streams_of_its_images() -> None:
    with pytest.raises(TypeError, match="pass `streams`"):
        augment(GaussianNoise(), photo(4, 4), torch.tensor([0.1]))
    with pytest.raises(ShapeError, match="one stream for each of 1 images"):
        augment(GaussianNoise(), photo(4, 4), torch.tensor([0.1]), streams("a", "b"))


# --- blur -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_blur_equals_its_definition(size: tuple[int, int]) -> None:
    images = noise(*size).repeat(4, 1, 1, 1)
    sigmas = [0.0, 0.1, 0.7, 2.5]
    blurred = degradation.gaussian_blur(images, torch.tensor(sigmas))
    for found, sigma in zip(blurred, sigmas, strict=True):
        np.testing.assert_allclose(found, reference.gaussian_blur(images[0].double().numpy(), sigma), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.4, 3.0, 40.0])
def test_blur_agrees_with_scipy(sigma: float) -> None:
    image = noise(33, 20)
    expected = [gaussian_filter(c, sigma, mode="mirror", truncate=4.0) for c in image[0].double().numpy()]
    np.testing.assert_allclose(degradation.gaussian_blur(image, torch.tensor([sigma]))[0], expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_blur_agrees_with_torchvision(sigma: float) -> None:
    image = noise(40, 31)
    expected = functional.gaussian_blur(image, kernel_size=2 * int(4 * sigma + 0.5) + 1, sigma=sigma)
    torch.testing.assert_close(degradation.gaussian_blur(image, torch.tensor([sigma])), expected, atol=1e-6, rtol=0)


def test_blur_keeps_what_is_constant_even_where_the_kernel_is_wider_than_the_image() -> None:
    image = torch.full((1, 3, 5, 6), 0.3)
    torch.testing.assert_close(degradation.gaussian_blur(image, torch.tensor([64.0])), image)


# --- JPEG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 90])
def test_jpeg_loses_what_its_definition_loses(quality: int) -> None:
    # the codec computes with integers, so single levels differ by the rounding of a coefficient
    image = photo(32, 48)
    found = degradation.jpeg_quality(image, torch.tensor([float(quality)]))[0].double().numpy()
    expected = reference.jpeg_quality(image[0].numpy(), quality)
    levels = 255 * np.abs(found - expected)
    assert levels.mean() < 1
    assert levels.max() < 8


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
@pytest.mark.parametrize("quality", [1, 20, 57, 95, 100])
def test_jpeg_agrees_with_torchvision(quality: int) -> None:
    image = photo(37, 50)
    encoded = encode_jpeg((255 * image[0]).round().to(torch.uint8), quality=quality)
    found = degradation.jpeg_quality(image, torch.tensor([quality + 0.3]))[0]
    assert torch.equal((255 * found).round().to(torch.uint8), decode_jpeg(encoded))


def test_every_image_has_its_own_quality() -> None:
    image = photo(32, 32)
    error = (degradation.jpeg_quality(image.repeat(3, 1, 1, 1), torch.tensor([95.0, 5.0, 40.0])) - image).abs()
    fine, coarse, medium = error.mean(dim=(1, 2, 3)).tolist()
    assert 0 < fine < medium < coarse


def test_jpeg_refuses_what_is_neither_rgb_nor_gray() -> None:
    with pytest.raises(ShapeError, match="3 channels"):
        degradation.jpeg_quality(torch.rand(1, 2, 8, 8), torch.tensor([50.0]))


def test_a_gray_image_is_compressed_as_gray() -> None:
    gray = torch.rand(1, 1, 16, 24, generator=torch.Generator().manual_seed(3))
    file = io.BytesIO()
    Image.fromarray(gray[0, 0].mul(255).round().byte().numpy()).save(file, "JPEG", quality=30)
    expected = torch.from_numpy(np.array(Image.open(file))) / 255
    assert torch.equal(degradation.jpeg_quality(gray, torch.tensor([30.0]))[0, 0], expected)
